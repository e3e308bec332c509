"""Embeddings written, read back, and looked up by sample."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lit_biqa.data.embeddings import (
    EmbeddingReader,
    EmbeddingRow,
    Embeddings,
    read_embeddings,
    write_embeddings,
)
from lit_biqa.types import InputError, Sample

ROWS = (
    EmbeddingRow("koniq10k", "official@12345678", 7, "a.jpg", 3.25, 0.5, "train"),
    EmbeddingRow("koniq10k", "official@12345678", 9, "b.jpg", 1.0, float("nan"), "val"),
    EmbeddingRow("agiqa3k", "all@12345678", 7, "ü.jpg", 5.0, 0.0, "test"),
)
VECTORS = torch.arange(12, dtype=torch.float32).reshape(3, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "embeddings.safetensors"
    write_embeddings(path, Embeddings(VECTORS, ROWS, {"encoder": "tiny"}))
    return path


def test_what_is_written_is_read(path: Path) -> None:
    found = read_embeddings(path)
    assert torch.equal(found.vectors, VECTORS)
    assert repr(found.rows) == repr(ROWS)  # nan differs from itself
    assert found.source == {"encoder": "tiny"}
    assert found.of_role("val") == [1]
    assert found.samples("test") == [
        Sample("agiqa3k", "all@12345678", 7, "ü.jpg", Path("ü.jpg"), 5.0, 0.0)
    ]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_half_precision_is_kept_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    write_embeddings(path, Embeddings(VECTORS.bfloat16().T.contiguous().T, ROWS))
    assert torch.equal(read_embeddings(path).vectors, VECTORS)


def test_a_sample_finds_its_vector_and_absent_ones_are_counted(path: Path) -> None:
    reader = EmbeddingReader(read_embeddings(path), path)
    known = Sample("agiqa3k", "random-0", 7, "ü.jpg", Path("nowhere"))
    others = [Sample("spaq", "all", i, f"{i}.jpg", Path("nowhere")) for i in range(5)]
    assert torch.equal(reader(known, torch.Generator()), VECTORS[2])
    assert torch.equal(reader.stand_in(), torch.zeros(4))
    with pytest.raises(InputError, match=r"no embedding of 5 of 6 images \(spaq/0.jpg, spaq/1.jpg"):
        reader.held([known, *others])
    with pytest.raises(InputError, match="no embedding of 1 of 1"):
        reader(others[0], torch.Generator())


def test_wrong_files_are_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.safetensors: no such file"):
        read_embeddings(tmp_path / "absent.safetensors")
    other = tmp_path / "weights.safetensors"
    save_file({"embedding": VECTORS}, other)
    with pytest.raises(InputError, match=r"weights\.safetensors: not a file of"):
        read_embeddings(other)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"embeddings\.safetensors: broken file"):
        read_embeddings(path)


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    with pytest.raises(InputError, match=r"shape \[2, 4\] for 3 rows"):
        write_embeddings(path, Embeddings(VECTORS[:2], ROWS))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_embeddings(tmp_path / "file" / "e.safetensors", Embeddings(VECTORS, ROWS))
    assert not path.exists()
