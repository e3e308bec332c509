"""Description of an exported scorer, for programs that run it: a JSON object."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

import lit_biqa
from lit_biqa.export.graph import Graph
from lit_biqa.io.digests import digest_of_file
from lit_biqa.scoring.scale import HIGH, LOW
from lit_biqa.scoring.scorer import Scorer

FORMAT = "lit_biqa-export-1"
OUTPUT = "score"
#: What `lit_biqa.data.images.open_image` makes of a file, before any other step.
OPENED = (
    "open as 8-bit RGB: upright by EXIF, transparency laid over white, samples of 16 bits "
    "scaled to 8, colour profiles ignored"
)


def describe(scorer: Scorer, graph: Graph, weights: str, difference: float) -> dict[str, Any]:
    """Input, preprocessing, output and origin of an exported scorer.

    Args:
        scorer: scorer that was exported.
        graph: what was exported.
        weights: type of the weights in the file, ``float32`` or ``int8``.
        difference: largest difference of scores from the scorer's on a few images.
    """
    shape = [graph.axes.get(place, size) for place, size in enumerate(graph.example.shape)]
    kind = str(graph.example.dtype).removeprefix("torch.")
    return {
        "format": FORMAT,
        "scorer": {
            "kind": scorer.encoder["kind"],
            "sha256": digest_of_file(scorer.path) if scorer.path else None,
        },
        "weights": weights,
        "input": {"name": graph.input, "type": kind, "shape": shape, "colours": "RGB"},
        "preprocessing": _preprocessing(scorer) if graph.input == "pixels" else {"steps": [OPENED]},
        "output": {"name": OUTPUT, "type": "float32", "shape": ["batch"], "range": [LOW, HIGH]},
        "largest_difference": difference,
        "versions": {"lit_biqa": lit_biqa.__version__, "torch": torch.__version__},
    }


def _preprocessing(scorer: Scorer) -> dict[str, Any]:
    """Steps from a file to pixels, in words and numbers."""
    frame = scorer.transform.frame
    side = round(frame.size * (1 + frame.margin))
    kind = "bicubic" if frame.bicubic else "bilinear"
    shorter = f"scale the shorter side to {side} and the longer in proportion, rounded down"
    scales = {
        "squash": f"scale to {side} x {side}",
        "native": f"if the shorter side has more than {side} pixels, {shorter}",
    }
    half = "down" if frame.mode == "floor" else "to the even number"
    crop = f"crop {frame.size} x {frame.size} from the centre, half a pixel rounded {half}"
    return {
        **asdict(frame),
        "steps": [
            OPENED,
            f"{scales.get(frame.mode, shorter)}; {kind} with antialiasing, as PIL.Image.resize",
            *([crop] if frame.mode != "native" else []),
            "divide by 255, subtract mean, divide by std, channel by channel",
            "put channels first: [3, height, width]",
        ],
    }
