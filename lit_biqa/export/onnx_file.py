"""Exported scorers as ONNX files, and their scores by onnxruntime."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_biqa.export.description import OUTPUT
from lit_biqa.export.graph import Graph
from lit_biqa.types import InputError

_PACKAGES = "onnx", "onnxruntime"
_OPSET = 18
_MOST_BYTES = 2_000_000_000  # protobuf's limit is 2 GiB


def check_packages() -> None:
    """Refuse to go on without the packages of the extra ``onnx``; imports none of them.

    Raises:
        InputError: names those that are absent.
    """
    absent = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise InputError(
            f"ONNX needs the extra onnx ({', '.join(absent)} absent): pip install 'lit_biqa[onnx]'"
        )


def write_onnx(graph: Graph, path: Path) -> None:
    """Write a graph.

    Args:
        graph: graph of a scorer.
        path: file to write.

    Raises:
        InputError: if it is larger than an ONNX file can be, or has an operation without ONNX.
    """
    size = sum(value.nbytes for value in graph.module.state_dict().values())
    if size > _MOST_BYTES:
        raise InputError(
            f"the scorer's {size / 1e9:.1f} GB of weights are more than the 2 GB that an ONNX file "
            "holds: use --to torch"
        )
    register: Any = torch.onnx.register_custom_op_symbolic  # type: ignore[attr-defined]
    register("aten::expm1", _expm1, _OPSET)
    try:
        with warnings.catch_warnings(), _plain_attention():
            warnings.simplefilter("ignore")  # that sizes may become constants, which is tested
            # By tracing, although torch deprecates it: its other exporter does not end in minutes
            # where a network of timm pads by the size of the image and sizes are free.
            torch.onnx.export(
                graph.module,
                (graph.example,),
                path,
                input_names=[graph.input],
                output_names=[OUTPUT],
                dynamic_axes={graph.input: graph.axes, OUTPUT: {0: graph.axes[0]}},
                opset_version=_OPSET,
                dynamo=False,
            )
    except torch.onnx.errors.UnsupportedOperatorError as error:
        raise InputError(f"the scorer does not become ONNX: {error}; use --to torch") from error


def _expm1(context: Any, value: Any) -> Any:
    """``exp(x) - 1``, for which ONNX has no operation of its own."""
    one = context.op("Constant", value_t=torch.tensor(1.0))
    return context.op("Sub", context.op("Exp", value), one)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention in operations that ONNX has, not in the single one of torch's fast path."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class OnnxScorer:
    """Scores by onnxruntime on the CPU.

    Args:
        path: file of `write_onnx`.
        threads: threads of an operation; 0 leaves the number to onnxruntime.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session: Any = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self._input: str = self._session.get_inputs()[0].name

    def __call__(self, images: Tensor) -> Tensor:
        """Scores ``[B]`` of a batch."""
        (scores,) = self._session.run([OUTPUT], {self._input: images.numpy()})
        return torch.from_numpy(scores)
