"""Image embeddings in one file, from which a head can be refitted without reading images."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Generator, Tensor

from lit_biqa.io.files import refuse_special, replacing
from lit_biqa.io.json_text import parse_json
from lit_biqa.io.seals import check_notes, seal_notes
from lit_biqa.types import InputError, Sample

log = logging.getLogger(__name__)

Role = Literal["train", "val", "test"]
_FORMAT = "lit_biqa-embeddings-1"
_REMEDY = "write it again with the run that trained the encoder"


@dataclass(frozen=True)
class EmbeddingRow:
    """Description of one embedded image; fields as in `Sample`, with the part it served."""

    dataset: str
    split: str
    index: int
    name: str
    mos: float
    std: float
    role: Role


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of images, with a description of each.

    Attributes:
        vectors: ``[N, D]`` float32, as computed by the encoder.
        rows: N descriptions in the same order.
        source: free notes, such as the encoder and its checkpoint.
    """

    vectors: Tensor
    rows: tuple[EmbeddingRow, ...]
    source: Mapping[str, str] = field(default_factory=dict)

    def of_role(self, role: Role) -> list[int]:
        """Positions of the rows that served a part."""
        return [i for i, row in enumerate(self.rows) if row.role == role]

    def samples(self, role: Role) -> list[Sample]:
        """Samples of the rows that served a part; their images need not exist."""
        return [self._sample(self.rows[i]) for i in self.of_role(role)]

    @staticmethod
    def _sample(row: EmbeddingRow) -> Sample:
        fields = {k: v for k, v in dataclasses.asdict(row).items() if k != "role"}
        return Sample(path=Path(row.name), **fields)


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Write embeddings to one safetensors file, whole or not at all.

    Raises:
        InputError: if vectors and rows differ in number, or the file cannot be written.
    """
    from safetensors.torch import save

    if embeddings.vectors.ndim != 2 or len(embeddings.vectors) != len(embeddings.rows):
        raise InputError(
            f"embeddings of shape {list(embeddings.vectors.shape)} for {len(embeddings.rows)} rows"
        )
    notes = {
        "format": _FORMAT,
        "rows": json.dumps([dataclasses.astuple(row) for row in embeddings.rows]),
        "source": json.dumps(dict(embeddings.source)),
    }
    vectors = embeddings.vectors.detach().to("cpu", torch.float32).contiguous()
    with replacing(path) as part:
        tensors = {"embedding": vectors}
        part.write_bytes(save(tensors, metadata=seal_notes(notes, tensors)))


def read_embeddings(path: Path) -> Embeddings:
    """Read a file that `write_embeddings` wrote.

    Raises:
        InputError: if it is absent, broken, or a file of another kind.
    """
    from safetensors import SafetensorError, safe_open

    refuse_special(path)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file of embeddings; {_REMEDY}, or correct data.images.embeddings"
        )
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            if notes.get("format") != _FORMAT:
                raise InputError(f"not a file of {_FORMAT}")
            vectors = file.get_tensor("embedding")
            check_notes(notes, {"embedding": vectors})
            rows = tuple(EmbeddingRow(*row) for row in parse_json(notes["rows"], "rows"))
            return Embeddings(vectors, rows, parse_json(notes["source"], "source"))
    except InputError as error:
        raise InputError(f"{path}: {error}; {_REMEDY}") from error
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: broken file of embeddings ({error}); {_REMEDY}") from error


class EmbeddingReader:
    """Reader that returns the cached embedding of a sample instead of its image.

    Raises:
        InputError: when called, if the sample has no embedding.
    """

    def __init__(self, embeddings: Embeddings, path: Path) -> None:
        self.vectors, self.path = embeddings.vectors, path
        self._place = {(row.dataset, row.index): i for i, row in enumerate(embeddings.rows)}

    def held(self, samples: Sequence[Sample], skip: bool = False) -> list[Sample]:
        """Samples that have an embedding; all must have one unless ``skip`` is true.

        Raises:
            InputError: if some have none; counts them and names a few.
        """
        cached = [s for s in samples if (s.dataset, s.index) in self._place]
        absent = [s for s in samples if (s.dataset, s.index) not in self._place]
        if absent and skip:
            log.warning("%s: %d images have no embedding", absent[0].dataset, len(absent))
        elif absent:
            some = ", ".join(f"{s.dataset}/{s.name}" for s in absent[:3])
            raise InputError(
                f"{self.path}: no embedding of {len(absent)} of {len(samples)} images ({some}); "
                f"{_REMEDY} over these data sets, or set data.images.missing=skip to continue "
                "without them"
            )
        return cached

    def __call__(self, sample: Sample, generator: Generator) -> Tensor:
        """Embedding ``[D]`` of one sample; deterministic."""
        self.held([sample])
        return self.vectors[self._place[sample.dataset, sample.index]]

    def stand_in(self) -> Tensor:
        """Zeros ``[D]``."""
        return torch.zeros_like(self.vectors[0])
