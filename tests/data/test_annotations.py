"""Human-written annotations, and files with faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lit_biqa.data.annotations import annotate_parts, annotated
from lit_biqa.types import InputError, Sample

SAMPLES = [
    Sample("own", "all", 0, "a/x.png", None),
    Sample("own", "all", 1, "y.png", None),
    Sample("other", "all", 0, "y.png", None),
]


def written(folder: Path, *records: Any) -> Path:
    file = folder / "people.json"
    file.write_text(json.dumps(records))
    return file


def by(**dims: str) -> list[dict[str, Any]]:
    return [{"annotator": "1", "dims": dims, "score": 3}]


def test_each_person_is_a_text(tmp_path: Path) -> None:
    two = by(subject="a dog", flaw="too dark") + by(flaw="noise")
    file = written(
        tmp_path,
        {"image": "x.png", "annotations": two},
        {"image": "y.png", "dataset": "other", "annotations": by(flaw="blur")},
    )
    texts = [sample.texts for sample in annotated(SAMPLES, file)]
    assert texts == [("a dog too dark", "noise"), (), ("blur",)]


def test_held_out_images_have_their_annotations_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(
        tmp_path,
        {"image": "x.png", "annotations": by(flaw="dark")},
        {"image": "y.png", "dataset": "other", "annotations": by(flaw="blur")},
    )
    parts = annotate_parts({"train": SAMPLES[:2], "test": SAMPLES[2:]}, file)
    assert [s.texts for s in parts["train"]] == [("dark",), ()]
    assert [s.texts for s in parts["test"]] == [("blur",)]
    with pytest.raises(InputError, match="1 images that are in no data set"):
        annotate_parts({"train": SAMPLES[:2]}, file)
    part = annotate_parts({"train": SAMPLES[:2]}, file, whole=False)
    assert [s.texts for s in part["train"]] == [("dark",), ()]
    assert [s.texts for s in annotate_parts({"test": SAMPLES[2:]}, file)["test"]] == [("blur",)]
    absent = annotate_parts({"test": SAMPLES}, tmp_path / "none.json")
    assert absent == {"test": SAMPLES} and "no such file of annotations" in caplog.text


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"image": "z.png", "annotations": by(flaw="x")},
            "1 images that are in no data set.*z.png",
        ),
        (
            {"image": "y.png", "annotations": by(flaw="x")},
            'is ambiguous, y.png of own or y.png of other.*add "dataset"',
        ),
        ({"image": "x.png"}, 'expected "annotations"'),
        ({"image": "x.png", "annotations": [{"dims": {"flaw": 3}}]}, 'expected "annotations"'),
        ({"image": "x.png", "annotations": [{"annotator": "1"}]}, 'expected "annotations"'),
        ({"annotations": []}, 'expected a record with "image"'),
    ],
)
def test_broken_annotations(record: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        annotated(SAMPLES, written(tmp_path, record))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        annotated(SAMPLES, tmp_path / "none.json")
