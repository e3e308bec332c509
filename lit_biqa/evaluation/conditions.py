"""Derived conditions of a test: leaking and clean texts, and the gap between image and text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.types import Prediction, TextPrediction

IMAGE = "image"
_COMPARED = ("plcc", "srcc", "krcc", "rmse", "plcc_fitted")


def parts(condition: str) -> tuple[str, str]:
    """Names of the two conditions into which `by_leak` splits a condition."""
    return f"{condition}, leaking", f"{condition}, clean"


def by_leak(rows: Iterable[Prediction]) -> list[Prediction]:
    """Rows read from text, repeated as ``<condition>, leaking`` or ``<condition>, clean``.

    A text leaks if it names a rating (`lit_biqa.text.leakage`). Conditions of a data set without
    leaking texts are not split.
    """
    read = [row for row in rows if isinstance(row, TextPrediction) and row.leak is not None]
    leaking = {(row.dataset, row.split, row.condition) for row in read if row.leak}
    return [
        replace(row, condition=parts(row.condition)[0 if row.leak else 1])
        for row in read
        if (row.dataset, row.split, row.condition) in leaking
    ]


def gap(image: Correlations, text: Correlations) -> Correlations:
    """Figures of the image condition minus those of a text condition; intervals are left out."""
    differences = {name: getattr(image, name) - getattr(text, name) for name in _COMPARED}
    return Correlations(text.n, text.failures, **differences)
