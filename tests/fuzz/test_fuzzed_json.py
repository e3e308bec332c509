"""Damaged JSON: texts, conversations, annotations and predictions are read, or refused by place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from mutations import mutated, plausible

from lit_biqa.data.annotations import annotated
from lit_biqa.data.conversations import read_conversations
from lit_biqa.data.texts import attach_texts
from lit_biqa.methods.predictions_file import read_score, read_table
from lit_biqa.types import Sample

SAMPLES = [Sample("own", "all", i, f"{name}.png", None) for i, name in enumerate("abc")]


def encoded(records: list[dict[str, Any]]) -> list[bytes]:
    """Records as one JSON list, and as JSON Lines."""
    return [
        json.dumps(records).encode(),
        "\n".join(json.dumps(record) for record in records).encode(),
    ]


TEXTS = encoded(
    [
        {"image": "a.png", "text": "It is sharp."},
        {"image": "b.png", "texts": ["It is dark.", "Noise in the sky."], "seed": 1},
    ]
)
TURNS = [
    {"from": "human", "value": "<image>\nHow good is it?"},
    {"from": "gpt", "value": "It is blurry. The quality is poor."},
]
CONVERSATIONS = encoded([{"id": f"{i}", "image": f"{i}.png", "conversations": TURNS} for i in "ab"])
PEOPLE = [{"annotator": "1", "dims": {"subject": "a dog", "flaw": "too dark"}, "score": 3}]
ANNOTATIONS = encoded([{"image": "a.png", "annotations": PEOPLE}])
PREDICTIONS = encoded([{"image": f"{i}.png", "score": 3.5, "caption": "dark"} for i in "ab"])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "damaged.json"


@given(content=mutated(TEXTS))
def test_damaged_texts_are_attached_or_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    plausible(
        lambda: attach_texts(SAMPLES, [file]),
        lambda joined: [s.index for s in joined] == [0, 1, 2] and any(s.texts for s in joined),
    )


@given(content=mutated(CONVERSATIONS))
def test_damaged_conversations_are_read_or_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    plausible(
        lambda: read_conversations(file),
        lambda read: bool(read.rows) and not read.skipped and all(r.turns for r in read.rows),
    )


@given(content=mutated(ANNOTATIONS))
def test_damaged_annotations_are_read_or_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    plausible(lambda: annotated(SAMPLES, file), lambda read: len(read) == 3)


@given(content=mutated(PREDICTIONS))
def test_damaged_predictions_are_read_or_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    plausible(
        lambda: [
            read_score(record.get("score")) for _, record in read_table(file, ["image"], ["score"])
        ],
        lambda scores: all((score == score) == (status == "ok") for score, status in scores),
    )
