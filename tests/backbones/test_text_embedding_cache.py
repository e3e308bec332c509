"""Text embeddings: each computed once, for this run and for later ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lit_biqa.backbones.text_embedding_cache import TextEmbeddingCache
from lit_biqa.io.cache import CACHE
from lit_biqa.types import InputError

DIGEST = "a" * 64


class Lengths:
    """Embeds a text by its length, and counts the texts."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, texts: list[str]) -> torch.Tensor:
        self.seen += texts
        return torch.tensor([[len(text), 0.1] for text in texts])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path))
    return tmp_path / "texts" / DIGEST[:16]


def test_each_text_is_embedded_once_and_again_by_no_later_run(folder: Path) -> None:
    first, later = Lengths(), Lengths()
    cache = TextEmbeddingCache(first, DIGEST)
    assert cache(["dim", "sharp", "dim"])[:, 0].tolist() == [3, 5, 3]
    assert cache(["blurry", "sharp"])[:, 0].tolist() == [6, 5]
    assert first.seen == ["dim", "sharp", "blurry"]
    assert len(list(folder.iterdir())) == 2
    again = TextEmbeddingCache(later, DIGEST)
    assert torch.equal(again(["sharp", "blurry"]), torch.tensor([[5, 0.1], [6, 0.1]]))
    assert later.seen == []
    assert len(list(folder.iterdir())) == 2


def test_another_encoder_has_embeddings_of_its_own() -> None:
    first, other = Lengths(), Lengths()
    TextEmbeddingCache(first, DIGEST)(["dim"])
    TextEmbeddingCache(other, "b" * 64)(["dim"])
    assert other.seen == ["dim"]


def test_embeddings_of_another_encoder_are_refused() -> None:
    TextEmbeddingCache(Lengths(), DIGEST)(["dim"])
    same_folder = TextEmbeddingCache(Lengths(), "a" * 16 + "b" * 48)
    with pytest.raises(InputError, match=r"of another network.*; remove .*texts"):
        same_folder(["dim"])


def test_damaged_embeddings_are_refused(folder: Path) -> None:
    TextEmbeddingCache(Lengths(), DIGEST)(["dim"])
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"digest.*; remove .*texts"):
        TextEmbeddingCache(Lengths(), DIGEST)(["dim"])
