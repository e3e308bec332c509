"""A served model instead of a method, for ``test``, ``validate`` and ``describe``."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.io.digests import digest_of_plain
from lit_biqa.methods.evaluation import Evaluator, identity
from lit_biqa.methods.reading import read_rows, refuse_empty, refuse_repeated
from lit_biqa.paradigms import Paradigm
from lit_biqa.readouts.base import Readout
from lit_biqa.readouts.levels import WordReadout
from lit_biqa.readouts.ratings import Rated
from lit_biqa.served.answers import KeptAnswers
from lit_biqa.served.client import RefusedError
from lit_biqa.served.model import ServedModel
from lit_biqa.served.settings import ServerSettings
from lit_biqa.tasks import pixels_of
from lit_biqa.text import prompts
from lit_biqa.types import Batch, Chat, InputError, Prediction, TextPrediction, ask, rows_of

log = logging.getLogger(__name__)

FOLDER = "served"
_FIRST = 8  # pictures; if all of them are refused, the fault is not theirs


class Served(Evaluator):
    """Readouts of a model behind an OpenAI-compatible chat server; it cannot be trained.

    ``lit_biqa test --model Served --model.url http://HOST:PORT/v1 --model.name NAME`` tests it like
    any model: questions, conditions and readouts are those of local models.

    Answers are kept in the folder ``served`` of the run, so that a test that broke asks only what
    is missing.

    Args:
        url: base URL of the server, up to ``/v1``.
        name: name of the model on the server.
        readouts: readouts of a test; the first also in validation. By default those of the
            papers' test, ``Rated``.
        paradigm: paradigm of ``protocol=matched``, and of the question of ``describe``.
        question: question of ``describe`` without a paradigm.
        server: how the server is asked.

    Attributes:
        source: digest of the name, which separates rows of models with different names in a run's
            results; a server does not tell its weights.

    Raises:
        InputError: if there is no such server, it refuses the key, it has no such model, or it
            gives no log-probabilities and a readout needs them.
    """

    def __init__(
        self,
        url: str,
        name: str,
        readouts: Sequence[Readout] | None = None,
        paradigm: Paradigm | None = None,
        question: str = prompts.DESCRIBE,
        server: ServerSettings = ServerSettings(),
    ) -> None:
        super().__init__()
        self.readouts = [Rated()] if readouts is None else list(readouts)
        self.paradigm, self.asked = paradigm, question
        for readout in self.readouts:
            if isinstance(readout, Rated):
                readout.paradigm = readout.paradigm or paradigm
        refuse_repeated(self.readouts)
        refuse_empty(self.readouts)
        self.source = digest_of_plain(["served", name])
        self._answered, self._refusals = False, 0
        self.model = ServedModel(url, name, server)
        self.model.check()
        for opening in {opening_of(readout) for readout in self.readouts} - {None}:
            self.model.check_odds(str(opening))

    @property
    def opens_images(self) -> bool:
        """True if any readout reads images."""
        return any(readout.sees_image for readout in self.readouts)

    def setup(self, stage: str) -> None:
        """Set the transform of pictures, and open the kept answers.

        Raises:
            InputError: without readouts, or if a kept answer is damaged.
        """
        if not self.readouts:
            raise InputError("no readout gives a score: name one in model.readouts")
        data: BIQADataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        data.use_transforms(None, self.model.image_transform if self.opens_images else None)
        folder = Path(self.trainer.default_root_dir) / FOLDER
        self.model.kept = KeptAnswers(folder, self.global_rank)
        if self.model.kept.found and self.global_rank == 0:
            log.warning(
                "%d answers of an earlier test are in %s and are not asked again; remove the "
                "folder to ask anew",
                *(self.model.kept.found, folder),
            )

    def question(self, batch: Batch, row: int) -> Chat:
        """Prompt for a text about the image of a row, without its MOS."""
        if self.paradigm is not None:
            return self.paradigm.question(batch, row)
        return ask(self.asked, pixels_of(batch, row))

    def validation_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int
    ) -> list[Prediction]:
        """Rows of the first readout."""
        return self._rows(self.readouts[0], batch)

    def predict(self, batch: Batch) -> list[Prediction]:
        """One row for each image and condition; an unreadable or refused image has no score.

        Raises:
            InputError: if the server refuses all of the first pictures.
        """
        return [row for readout in self.readouts for row in self._rows(readout, batch)]

    def _rows(self, readout: Readout, batch: Batch) -> list[Prediction]:
        """Rows of a readout; halves of a batch of which something is refused are read apart."""
        try:
            rows = read_rows(self.model, [readout], batch)
        except RefusedError as error:
            count = len(batch["index"])
            if count == 1:
                return self._refused(readout, batch, error)
            halves = slice(count // 2), slice(count // 2, count)
            return [row for half in halves for row in self._rows(readout, rows_of(batch, half))]
        self._answered = True
        return rows

    def _refused(self, readout: Readout, batch: Batch, error: RefusedError) -> list[Prediction]:
        """Rows without a score for a picture about which the server refuses a request."""
        self._refusals += 1
        if not self._answered and self._refusals >= _FIRST:
            raise InputError(
                f"{error}. It refused all of the first {_FIRST} pictures: correct the settings of "
                "the server, or model.server"
            ) from None
        place = f"{batch['dataset'][0]}, {batch['name'][0]}"
        log.warning("%s has no score: %s", place, error)
        return [
            TextPrediction(
                **identity(batch, 0), score=math.nan, condition=condition, status=str(error)
            )
            for condition in readout.conditions
        ]


def opening_of(readout: Readout) -> str | None:
    """Beginning of the answer after which a readout needs probabilities; ``None`` if it does not.

    Example:
        >>> opening_of(Rated(reading="expected"))
        '{"rating": '
    """
    if isinstance(readout, WordReadout):
        return readout.words.opening
    expected = isinstance(readout, Rated) and readout.reading == "expected"
    return '{"rating": ' if expected else None
