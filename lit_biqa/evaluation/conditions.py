"""Derived conditions of a test: leaking and clean texts, and the gap between image and text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.types import Prediction, TextPrediction

LEAKING, CLEAN = "leaking", "clean"
_COMPARED = (
    *("plcc", "srcc", "krcc", "rmse", "plcc_fitted"),
    *("srcc_within", "plcc_groups", "srcc_groups"),
)
_TEXTS = ("text", "reasoning")
_FORM = re.compile(
    r"(?P<prefix>|.*[^a-zA-Z0-9])(?P<source>image|text|reasoning)"
    r"(-(?P<mask>[^,]+))?(, (?P<part>leaking|clean))?"
)


@dataclass(frozen=True)
class Condition:
    """Source of scores. ``str`` gives the form of the result files, `parse` takes it.

    Attributes:
        source: ``image``; ``text``, the caption; ``reasoning``, caption and reasoning; or the name
            that a readout of another kind gives its rows.
        mask: how the text was masked, see `lit_biqa.text.leakage`; empty where it was not.
        part: ``leaking`` or ``clean``, the rows whose text names a rating or does not; empty for
            all.
        prefix: of the readout, where a test holds several; empty, or it ends with a sign that is
            neither letter nor digit.
        is_gap: whether figures are those of the readout's image less those of this condition.

    Example:
        >>> Condition.parse("masked-text-words, clean")
        Condition(source='text', mask='words', part='clean', prefix='masked-', is_gap=False)
        >>> str(Condition("text", is_gap=True))
        'image - text'
    """

    source: str = "image"
    mask: str = ""
    part: str = ""
    prefix: str = ""
    is_gap: bool = False

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read the form of the result files; a name of no known form is a source by itself."""
        minuend, minus, subtrahend = text.partition(" - ")
        if minus:
            compared = cls.parse(subtrahend)
            if compared.reads_text and str(compared.image) == minuend:
                return replace(compared, is_gap=True)
        if found := _FORM.fullmatch(text):
            parts = found.groupdict(default="")
            return cls(parts["source"], parts["mask"], parts["part"], parts["prefix"])
        return cls(text)

    def __str__(self) -> str:
        mask = f"-{self.mask}" if self.mask else ""
        part = f", {self.part}" if self.part else ""
        minuend = f"{self.image} - " if self.is_gap else ""
        return f"{minuend}{self.prefix}{self.source}{mask}{part}"

    @property
    def reads_image(self) -> bool:
        """Return true for scores read from the image, with or without a prefix."""
        return self == self.image

    @property
    def reads_text(self) -> bool:
        """Return true for scores read from a text that the same readout's model has written."""
        return self.source in _TEXTS and not self.is_gap

    @property
    def image(self) -> Condition:
        """The image condition of the same readout."""
        return Condition(prefix=self.prefix)


IMAGE = str(Condition())
"""The image condition of a readout without a prefix, as result files write it."""


def parts(condition: str) -> tuple[str, str]:
    """Names of the two conditions into which `by_leak` splits a condition."""
    whole = Condition.parse(condition)
    return str(replace(whole, part=LEAKING)), str(replace(whole, part=CLEAN))


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
