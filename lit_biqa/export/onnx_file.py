"""Exported scorers as ONNX files, and their scores by onnxruntime."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_biqa.export.description import OUTPUT
from lit_biqa.export.graph import Graph
from lit_biqa.types import InputError

_PACKAGES = "onnx", "onnxscript", "onnxruntime"
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
        InputError: if it is larger than an ONNX file can be.
    """
    size = sum(value.nbytes for value in graph.module.state_dict().values())
    if size > _MOST_BYTES:
        raise InputError(
            f"the scorer's {size / 1e9:.1f} GB of weights are more than the 2 GB that an ONNX file "
            "holds: use --to torch"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what torch and onnxscript call themselves
        program = torch.onnx.export(
            graph.export(),
            dynamic_shapes=(graph.axes,),
            input_names=[graph.input],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    program.save(path)


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
