"""Damage in every file that is written and read again: told, or without any effect."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.data.embeddings import EmbeddingRow, Embeddings, read_embeddings, write_embeddings
from lit_biqa.data.texts import read_records
from lit_biqa.io.digests import digest_of
from lit_biqa.io.seals import seal_record
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import load_scorer, write_scorer
from lit_biqa.types import InputError

FLIPS = 600


def scorer(path: Path) -> None:
    encoder = TinyClip(dim=4, width=8, size=16)
    encoder.load()
    head = PrototypeHead(4, HeadSettings(pca=2, prototypes=3))
    write_scorer(path, encoder.image_tower.state_dict(), head, encoder.settings())


def read_scorer(path: Path) -> object:
    found = load_scorer(path)
    return digest_of(found.state_dict()), found.encoder, found.head.settings


def embeddings(path: Path) -> None:
    rows = [
        EmbeddingRow("koniq10k", "official@1", i, f"{i}ü.jpg", 3.25, 0.5, "val") for i in (1, 2)
    ]
    write_embeddings(path, Embeddings(torch.randn(2, 4), tuple(rows), {"encoder": "tiny"}))


def read_embedded(path: Path) -> object:
    found = read_embeddings(path)
    return found.vectors.tolist(), found.rows, found.source


def texts(path: Path) -> None:
    said = [["The image is sharp.", "Körnig."], ['It is blurred & "noisy".']]
    path.write_text(
        "".join(
            json.dumps(seal_record(record), ensure_ascii=False) + "\n"
            for record in (
                {"image": f"{i}.jpg", "dataset": "koniq10k", "index": i, "texts": said[i]}
                for i in range(2)
            )
        ),
        encoding="utf-8",
    )


def read_texts(path: Path) -> object:
    names = ("image", "dataset", "index", "texts")
    return [[record[name] for name in names] for _, record in read_records(path)]


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "scorer": (scorer, read_scorer),
    "embeddings": (embeddings, read_embedded),
    "texts": (texts, read_texts),
}


def places(size: int, count: int) -> list[tuple[int, int]]:
    """Seeded positions and bits; the beginning, where headers lie, as often as all the rest."""
    draw = random.Random(0)
    spans = (min(size, 1500), size)
    return [(draw.randrange(spans[i % 2]), 1 << draw.randrange(8)) for i in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_told_or_changes_nothing(
    kind: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    write, read = KINDS[kind]
    path = tmp_path / "file"
    write(path)
    whole, expected = path.read_bytes(), read(path)
    told = 0
    for place, bit in places(len(whole), FLIPS):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            found = read(path)
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            told += 1
        else:
            assert found == expected, f"bit {bit} of byte {place} changed values"
    record_property("told", told)
    assert told >= 0.9 * FLIPS  # the rest lies in the name of the digest


def test_records_may_be_sorted_and_shared_out_and_have_a_digest_of_their_own(
    tmp_path: Path,
) -> None:
    path = tmp_path / "texts.jsonl"
    texts(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    theirs = '{"image": "c.jpg", "texts": ["x"], "digest": "abc"}'
    path.write_text("\n".join([theirs, lines[1]]), encoding="utf-8")
    assert [record["image"] for _, record in read_records(path)] == ["c.jpg", "1.jpg"]


def test_a_changed_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    texts(path)
    path.write_text(path.read_text(encoding="utf-8").replace("blurred", "sharp"), encoding="utf-8")
    with pytest.raises(InputError, match=r"texts\.jsonl line 2: its content differs.*remove the"):
        list(read_records(path))
