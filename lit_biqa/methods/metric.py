"""NIQE or BRISQUE instead of a method, for ``test``, ``validate`` and ``predict``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lit_biqa.compat import pyiqa
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.io.digests import digest_of, digest_of_plain
from lit_biqa.limits import RATED_SIDE
from lit_biqa.methods.evaluation import Evaluator, identity
from lit_biqa.scoring.metric_parameters import Parameters, read_brisque, read_niqe
from lit_biqa.types import Batch, InputError, Prediction, nearest

# What pyiqa raises where an image's statistics have no variance.
_WITHOUT_VARIANCE = (AssertionError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Known:
    """Parameters, functions and smallest image of a metric.

    Attributes:
        published: file of its parameters, and where its authors publish it.
        read: reader of this file.
        make: from the parameters to pyiqa's function.
        side: shorter side of the smallest image, in pixels.
    """

    published: str
    read: Callable[[Path], Parameters]
    make: Callable[[Parameters], pyiqa.Score]
    side: int = RATED_SIDE


METRICS = {
    "niqe": Known(
        "modelparameters.mat of https://github.com/utlive/niqe",
        read_niqe,
        pyiqa.niqe,
        side=96,  # one block
    ),
    "brisque": Known("allmodel of https://github.com/utlive/BRISQUE", read_brisque, pyiqa.brisque),
}


class Metric(Evaluator):
    """NIQE or BRISQUE, computed by pyiqa from its authors' parameters; it cannot be trained.

    ``lit_biqa test --model Metric --model.name niqe --model.parameters modelparameters.mat`` tests
    it like any model. An image is read whole and in its own size. Lower is better of both metrics,
    so that their scores are negated: higher is better, on no scale of opinions.

    pyiqa reads no file here: what it would download or unpickle, as other metrics' weights, enters
    as `Predictions`.

    Args:
        name: ``niqe`` or ``brisque``.
        parameters: file of its parameters, as its authors publish it: ``modelparameters.mat`` of
            NIQE, ``allmodel`` of BRISQUE.

    Attributes:
        source: digest of the name, the parameters and pyiqa's release, which separates rows of
            metrics in a run's results.

    Raises:
        InputError: for another name, without the tested release of pyiqa, or if the file is not
            named, absent, broken or another one.
    """

    def __init__(self, name: str, parameters: Path | None = None) -> None:
        super().__init__()
        if name not in METRICS:
            raise InputError(
                f"there is no metric {name!r}{nearest(name, METRICS)} Scores of others enter as "
                "predictions: docs/reproduce.md"
            )
        self.metric, known = name, METRICS[name]
        if parameters is None:
            raise InputError(
                f"name the parameters of {name} in model.parameters: {known.published}"
            )
        pyiqa.check()
        values = known.read(parameters)
        self.source = digest_of_plain([name, pyiqa.RELEASE, digest_of(values)])
        self.function, self.sign = known.make(values), -1 if pyiqa.lower_is_better(name) else 1
        self.transform = WholeImage(known.side)

    def setup(self, stage: str) -> None:
        """Set the transform of images.

        Raises:
            InputError: if the run computes in another precision throughout, as pyiqa then would.
        """
        precision = self.trainer.precision
        if precision != "32-true" and precision.endswith("-true"):
            raise InputError(
                f"a metric is not computed with trainer.precision={precision}: take 32-true"
            )
        data: BIQADataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        data.use_transforms(None, self.transform)

    @torch.inference_mode()
    def predict(self, batch: Batch) -> list[Prediction]:
        """One row for each image; one that is unreadable or has no value has no score."""
        return [self._row(batch, row) for row in range(len(batch["name"]))]

    def _row(self, batch: Batch, row: int) -> Prediction:
        score, status = math.nan, batch["status"][row]
        if status == "ok":
            score = self.score(batch["pixels"][row])
            status = status if math.isfinite(score) else f"{self.metric} has no value for the image"
        return Prediction(**identity(batch, row), score=score, status=status)

    def score(self, pixels: Tensor) -> float:
        """Score of one image, higher is better; nan where the metric has none, as of a flat one.

        Args:
            pixels: 8-bit RGB ``[3, H, W]``.
        """
        with _in_single_precision(pixels.device):
            try:
                return self.sign * float(self.function(pixels[None].float() / 255))
            except _WITHOUT_VARIANCE:
                return math.nan


@contextmanager
def _in_single_precision(device: torch.device) -> Iterator[None]:
    """Convolutions without the coarser types that a run or a GPU would take."""
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.autocast(device.type, enabled=False), exact:
        yield


@dataclass(frozen=True)
class WholeImage:
    """Transform to the 8-bit pixels of a whole image, in its own size.

    Attributes:
        side: least shorter side, in pixels.
    """

    side: int

    def __call__(self, image: Image.Image) -> Tensor:
        """Pixels ``[3, H, W]``.

        Raises:
            ValueError: if the image is smaller.
        """
        if min(image.size) < self.side:
            raise ValueError(
                f"{image.width} x {image.height} pixels are too small for the metric: the shorter "
                f"side needs {self.side}"
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)
