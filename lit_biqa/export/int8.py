"""Weights of an ONNX file in 8 bits, each channel by its own scale; arithmetic stays in float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_LEAST_VALUES = 1024  # of a weight that is worth it
_LEVELS = 127  # symmetric: -127 to 127


def quantise_weights(path: Path) -> None:
    """Round the weights of convolutions and matrix products to 8 bits, each channel by its largest.

    Example: a channel of weights 0.5, -1.27 and 0.013 is kept as 50, -127 and 1 with the scale
    0.01, of which a node ``DequantizeLinear`` makes 0.5, -1.27 and 0.01.

    Args:
        path: ONNX file, which is replaced.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    weights = {each.name: each for each in model.graph.initializer}
    for name, axis in dict(_weights(model.graph)).items():
        values = numpy_helper.to_array(weights[name]) if name in weights else np.zeros(0)
        if values.size < _LEAST_VALUES or values.dtype != np.float32:
            continue
        levels, scale = _rounded(values, axis)
        inputs = [f"{name}.int8", f"{name}.scale"]
        kept = map(numpy_helper.from_array, (levels, scale), inputs)
        model.graph.initializer.remove(weights[name])
        model.graph.initializer.extend(kept)
        node = helper.make_node("DequantizeLinear", inputs, [name], f"{name}.dequantise", axis=axis)
        model.graph.node.insert(0, node)
    onnx.save(model, path)


def _weights(graph: Any) -> Iterator[tuple[str, int]]:
    """Second inputs of convolutions and matrix products, with the axis of their output channels."""
    for node in graph.node:
        if node.op_type == "Conv":
            yield node.input[1], 0
        elif node.op_type == "MatMul":
            yield node.input[1], 1
        elif node.op_type == "Gemm":
            transposed = any(each.name == "transB" and each.i for each in node.attribute)
            yield node.input[1], 0 if transposed else 1


def _rounded(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels in 8 bits, and the scale of each channel."""
    others = tuple(place for place in range(values.ndim) if place != axis)
    scale = np.maximum(np.abs(values).max(others, keepdims=True), 1e-12) / _LEVELS
    levels = np.rint(values / scale).astype(np.int8)
    return levels, scale.reshape(-1).astype(np.float32)
