"""A scorer as a program of ``torch.export``, whose batch and image sizes are free."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from lit_biqa.backbones.stage_tower import StageTower
from lit_biqa.backbones.tensor_transforms import TensorCrop
from lit_biqa.scoring.scorer import Scorer
from lit_biqa.scoring.tensor_scorer import TensorScorer
from lit_biqa.types import InputError

Input = Literal["pixels", "images"]

_AXES = {0: "batch", 2: "height", 3: "width"}
_EXAMPLE = 2, 3, 90, 123  # of images; a traced size must not be the size of the crop


@dataclass(frozen=True)
class Graph:
    """A scorer as a module of tensors, and what it takes.

    Attributes:
        module: ``[B, 3, H, W] -> [B]``, in float32 on the CPU.
        input: ``pixels``, float32 and transformed; or ``images``, uint8 of any size, of which the
            module makes pixels.
        example: input of the right type and shape.
        axes: free axes of the input, by place.
    """

    module: TensorScorer
    input: Input
    example: Tensor
    axes: dict[int, str]

    def export(self) -> ExportedProgram:
        """Program of ``torch.export``."""
        free = dict.fromkeys(self.axes, Dim.DYNAMIC)
        with torch.no_grad():
            return torch.export.export(self.module, (self.example,), dynamic_shapes=(free,))


def build_graph(scorer: Scorer, given: Input) -> Graph:
    """Graph of a scorer.

    Args:
        scorer: stays unchanged.
        given: what the graph takes; see `Graph`.
    """
    frame = scorer.transform.frame
    prepare = TensorCrop(frame, rounds=True) if given == "images" else None
    module = TensorScorer(_in_float32(scorer), prepare).eval()
    if given == "images":
        return Graph(module, given, torch.zeros(_EXAMPLE, dtype=torch.uint8), _AXES)
    if frame.mode == "native":
        return Graph(module, given, torch.zeros(_EXAMPLE), _AXES)
    square = torch.zeros(2, 3, frame.size, frame.size)
    return Graph(module, given, square, {0: _AXES[0]})


def check_sizes(scorer: Scorer, given: Input) -> None:
    """Refuse a scorer with whose free sizes torch.export takes minutes, if it ends at all.

    Raises:
        InputError: if its network pads by them, or images of which it crops nothing are given.
    """
    if scorer.transform.frame.mode != "native":
        return
    from timm import layers
    from timm.layers.pool2d_same import MaxPool2dSame

    convolutions = layers.Conv2dSame, layers.StdConv2dSame, layers.ScaledStdConv2dSame
    same = (*convolutions, layers.AvgPool2dSame, MaxPool2dSame)
    if any(isinstance(module, same) for module in scorer.tower.modules()):
        raise InputError(
            "the scorer's network pads by the size of the image, which torch.export cannot "
            "simplify: use --to onnx"
        )
    if given == "images":
        raise InputError(
            "the scorer crops nothing, which --input images needs of torch: use --input pixels, or "
            "--to onnx"
        )


def _in_float32(scorer: Scorer) -> Scorer:
    """Copy on the CPU that computes in float32, which every runtime has."""
    plain = copy.deepcopy(scorer).cpu().float()
    if isinstance(plain.tower, StageTower):
        plain.tower.precision = "float32"
    return plain
