"""A model that writes: caption, reasoning and rating of a picture, told as they are written."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lit_biqa import limits
from lit_biqa.analysis.case import Case, answered, batch_of
from lit_biqa.app.pictures import Picture, open_picture
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.data.images import UnreadableImage
from lit_biqa.readouts.base import Readout
from lit_biqa.rollout.engine import watched

_PAUSE = 0.1  # seconds between two tellings of an unfinished text

Heard = Callable[[list[str]], None]
"""Takes the texts of all passes so far; the last may be unfinished."""


class Stopped(Exception):  # noqa: N818  reads better where it is raised
    """Nobody waits for the text any more."""


@dataclass
class Task:
    """A picture to write about.

    Attributes:
        picture: the picture.
        heard: called while the model writes, from the model's thread.
        stop: set once nobody waits for the answer.
    """

    picture: Picture
    heard: Heard | None = None
    stop: threading.Event = field(default_factory=threading.Event)


class PictureWriter:
    """Has a model write about pictures, one after another.

    Args:
        name: name of the model.
        model: model with its weights, on its device.
        readout: readout of the model that sees the image.
        condition: condition of the readout that gives the rating.
        max_pixels: most pixels of a picture, width times height.
    """

    def __init__(
        self,
        name: str,
        model: VisionLanguageModel,
        readout: Readout,
        condition: str,
        max_pixels: int = limits.UPLOAD_PIXELS,
    ) -> None:
        self.name, self.model, self.readout = name, model, readout
        self.condition, self.max_pixels = condition, max_pixels

    def __call__(self, tasks: Sequence[Task]) -> list[Case]:
        """Answers in the order of the tasks; one without a rating says why in its status."""
        return [self._case(task) for task in tasks]

    @torch.no_grad()
    def _case(self, task: Task) -> Case:
        try:
            image = open_picture(task.picture, self.max_pixels)
        except UnreadableImage as error:
            return self._none(str(error).removeprefix(f"{task.picture.name}: "))
        pixels = self.model.image_transform(image)
        batch = batch_of(pixels, Path(task.picture.name), math.nan)
        try:
            with watched(Listener(self.model, task)):
                return answered(self.name, self.model, self.readout, self.condition, batch)
        except Stopped:
            return self._none("stopped")

    def _none(self, status: str) -> Case:
        return Case(self.name, self.condition, math.nan, status=status)


class Listener:
    """Tells the text that a model writes about one picture, pass after pass.

    Args:
        model: the model.
        task: whom to tell, and whether to stop.
    """

    def __init__(self, model: VisionLanguageModel, task: Task) -> None:
        self.model, self.task = model, task
        self._passes: list[list[int]] = []
        self._told = -math.inf

    def __call__(self, written: Tensor) -> None:
        """See `lit_biqa.rollout.engine.watched`.

        Raises:
            Stopped: if nobody waits for the text.
        """
        if self.task.stop.is_set():
            raise Stopped
        if self.task.heard is None:
            return
        ids = [token for token in written[0, 0].tolist() if token >= 0]
        if len(ids) == 1:
            self._passes.append(ids)
        self._passes[-1] = ids
        ended = ids[-1] in self.model.end
        if ended or time.monotonic() - self._told >= _PAUSE:
            self._told = time.monotonic()
            self.task.heard([self._text(ids) for ids in self._passes])

    def _text(self, ids: Sequence[int]) -> str:
        return self.model.text(ids[:-1] if ids[-1] in self.model.end else ids)
