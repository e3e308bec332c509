"""Export of a scorer to one file, checked against the scorer, with its description beside it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lit_biqa.export.description import describe
from lit_biqa.export.graph import Graph, Input, build_graph, check_sizes
from lit_biqa.export.int8 import quantise_weights
from lit_biqa.export.onnx_file import OnnxScorer, check_packages, write_onnx
from lit_biqa.export.onnx_images import prepend_transform
from lit_biqa.io.files import as_utf8, replacing
from lit_biqa.scoring.scorer import Scorer
from lit_biqa.types import InputError

Format = Literal["onnx", "torch"]
Weights = Literal["float32", "int8"]

_SHAPES = (200, 300), (384, 256), (96, 96)  # height and width of the images that are compared
_TOLERANCE = {
    "pixels": 1e-4,
    # Where a pixel lies between two levels, runtimes round it to either.
    "images": 0.05,
}


def description_of(out: Path) -> Path:
    """File of the description beside an exported scorer: ``scorer.onnx.json``."""
    return out.with_name(out.name + ".json")


def check_target(out: Path, to: Format, weights: Weights = "float32") -> None:
    """Refuse what is known to fail before a scorer is read.

    Raises:
        InputError: if no file is named, the file or its description exists, packages are absent, or
            the kind of program has no such weights.
    """
    if not out.name:
        raise InputError(f"--out {out} names no file")
    if as_utf8(str(out)) != str(out):
        raise InputError(f"--out {as_utf8(str(out))}: the name is not UTF-8, as runtimes need it")
    if weights == "int8" and to != "onnx":
        raise InputError("--weights int8 needs --to onnx: programs of torch keep float32")
    for path in (out, description_of(out)):
        if path.exists():
            raise InputError(f"{path} exists and is not replaced: name another file with --out")
    if to == "onnx":
        check_packages()


def export_scorer(
    scorer: Scorer,
    out: Path,
    to: Format,
    given: Input = "pixels",
    weights: Weights = "float32",
) -> dict[str, Any]:
    """Write a scorer as a program of another runtime, once its scores are those of the scorer.

    Args:
        scorer: scorer to export.
        out: new file; its description goes to `description_of` it.
        to: ``onnx``, or ``torch`` for a program of ``torch.export``.
        given: ``pixels``, or ``images`` for a program with preprocessing; see `Graph`.
        weights: ``float32``, or ``int8``, whose scores may differ by more; the description tells
            by how much.

    Returns:
        The description.

    Raises:
        InputError: as `check_target`, `check_sizes` and `write_onnx`; if the scores differ, or a
            file cannot be written.
    """
    check_target(out, to, weights)
    if to == "torch":
        check_sizes(scorer, given)
    graph = build_graph(scorer, given)
    # The program is put in its place first: there is no description without one.
    with replacing(description_of(out)) as beside, replacing(out) as part:
        run = _write(scorer, graph, part, to, weights)
        difference = largest_difference(scorer, graph, run)
        if weights == "float32" and not difference <= _TOLERANCE[given]:
            raise InputError(
                f"{out} is not written: its scores differ by {difference:.2g} from the scorer's, "
                f"more than {_TOLERANCE[given]:g}; try the other of --to onnx and --to torch"
            )
        description = describe(scorer, graph, weights, difference)
        beside.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return description


def _write(
    scorer: Scorer, graph: Graph, path: Path, to: Format, weights: Weights
) -> Callable[[Tensor], Tensor]:
    """Write the file, and return what runs it."""
    if to == "onnx":
        scales = graph.input == "images"  # by operations of ONNX, before the graph of pixels
        write_onnx(build_graph(scorer, "pixels") if scales else graph, path)
        if weights == "int8":
            quantise_weights(path)
        if scales:
            prepend_transform(path, scorer.transform.frame)
        return OnnxScorer(path)
    # On a full disk torch's own writing to a file ends the process.
    torch.export.save(graph.export(), program := io.BytesIO())
    path.write_bytes(program.getbuffer())
    with path.open("rb") as file:
        run: Callable[[Tensor], Tensor] = torch.export.load(file).module()
    return run


@torch.no_grad()
def largest_difference(scorer: Scorer, graph: Graph, run: Callable[[Tensor], Tensor]) -> float:
    """Largest difference between scores of a program and of the scorer, in float32, by Pillow."""
    differences = []
    for image in _images():
        batch = torch.stack([image, image.flip(2), image.flip(1)])
        pixels = [scorer.transform(_picture(each)) for each in batch]
        expected = graph.module.head(graph.module.tower(torch.stack(pixels)))
        found = run(batch if graph.input == "images" else torch.stack(pixels))
        differences.append((found - expected).abs().max())
    return float(torch.stack(differences).max())  # nan if any is


def _images() -> Iterator[Tensor]:
    """Images ``[3, H, W]``, uint8, always the same: flat, then coarse colours with fine noise."""
    yield from (torch.full((3, *_SHAPES[0]), level, dtype=torch.uint8) for level in (0, 64))
    generator = torch.Generator().manual_seed(0)
    for height, width in _SHAPES:
        coarse = torch.rand(1, 3, 6, 6, generator=generator)
        fine = torch.rand(3, height, width, generator=generator)
        smooth = F.interpolate(coarse, (height, width), mode="bilinear")[0]
        yield ((0.9 * smooth + 0.1 * fine) * 255).round().byte()


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
