"""The data set ``conversations``: records of a LLaVA file, drawn and parted by a seed."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lit_biqa.data.catalog import CONVERSATIONS, Missing
from lit_biqa.data.conversations import Conversation, read_conversations
from lit_biqa.data.readers.entry import digest
from lit_biqa.data.splits import Split
from lit_biqa.distributed import world
from lit_biqa.io.files import find
from lit_biqa.text.conclusions import Feedback, coverage, decompose
from lit_biqa.text.levels import score_of
from lit_biqa.types import InputError, Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConversationSettings:
    """What the data set ``conversations`` is made of.

    Attributes:
        file: JSON list or JSON Lines of LLaVA's records (`lit_biqa.data.conversations`), relative
            to the working directory or to the data root.
        images: folder that image paths start from, relative likewise; the root where ``None``.
        asked: take the records alone whose first question matches this regular expression, in
            whatever case; for files like Q-Instruct's, where feedbacks lie among other answers.
        samples: draw so many records; ``None`` takes all.
        train: so many of them are part ``train`` and the others ``test``, no image in both;
            ``None`` gives all of them to either part.
        seed: of the draw and of the parts.
        on_bad_record: ``skip`` leaves broken records out, counts them and says why.
        decompose: part each answer into description and conclusion, as two-stage tuning wants
            Q-Pathway's feedbacks. MOS is then the score of the level that is concluded, ``nan``
            where none is. ``False`` keeps all answers as they are, without MOS.

    Raises:
        InputError: if the numbers contradict each other, or the expression is none.
    """

    file: str
    images: str | None = None
    asked: str | None = None
    samples: int | None = None
    train: int | None = None
    seed: int = 0
    on_bad_record: Literal["error", "skip"] = "error"
    decompose: bool = True

    def __post_init__(self) -> None:
        try:
            re.compile(self.asked or "")
        except re.error as error:
            raise InputError(
                f"data.sets.conversations: asked={self.asked!r} is no regular expression: {error}"
            ) from error
        for name in ("samples", "train"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"data.sets.conversations: {name} is {value}; give 1 or more")
        if self.train and self.samples and self.train >= self.samples:
            raise InputError(
                f"data.sets.conversations: train={self.train} of samples={self.samples} leaves "
                "none to test on; train counts those of the samples that are trained on"
            )


class ConversationSet:
    """Records of a file, drawn and parted. With ``decompose``, says how far the rules reach.

    Args:
        settings: what is drawn.
        root: data root.

    Raises:
        InputError: if the file or a record is not as it should be, or there are too few.
    """

    def __init__(self, settings: ConversationSettings, root: Path) -> None:
        self.settings = settings
        self.file = find(settings.file, root)
        self.images = find(settings.images, root) if settings.images else root
        rows: Sequence[Conversation]
        rows = read_conversations(self.file, on_bad_record=settings.on_bad_record).rows
        if settings.asked:
            rows = _asked(rows, settings.asked, self.file)
        if settings.decompose:
            rows = _single(rows, settings.on_bad_record)
        drawn = _draw(rows, settings, self.file)
        self.parts = {"train": drawn, "test": drawn}
        if settings.train is not None:
            self.parts = _divide(drawn, settings.train, settings.seed, self.file)
        self.feedbacks: dict[int, Feedback] = {}
        if settings.decompose:
            self.feedbacks = {row.row: decompose(row.answers[0][1]) for row in drawn}
            if world()[0] == 0:
                print(f"{self.file}: {coverage(self.feedbacks.values())}", flush=True)

    def load(self, part: str, missing: Missing) -> Split:
        """Samples of one part.

        Args:
            part: ``train`` or ``test``.
            missing: whether records whose image the disk lacks are an error, are left out, or are
                kept as they are, for runs that open no image.

        Raises:
            InputError: if there is no such part, or images are missing.
        """
        if part not in self.parts:
            raise InputError(
                f"{CONVERSATIONS} has no part {part!r}; it has train and test. Leave val unset to "
                "hold out a share of the training records."
            )
        rows = self.parts[part]
        absent = [row for row in rows if missing != "keep" and not self._on_disk(row)]
        if absent and (missing == "error" or len(absent) == len(rows)):
            raise InputError(
                f"{absent[0].place}: no image at {self.images / str(absent[0].image)}; "
                f"{len(absent)} of {len(rows)} are missing. Check data.sets.conversations.images, "
                "or set data.images.missing=skip to go on with those that are there."
            )
        left_out = {row.row for row in absent}
        samples = [self._sample(row) for row in rows if row.row not in left_out]
        mark = digest((f"{s.index} {s.name}", s.mos) for s in samples)
        whole = self.settings.samples is None and self.settings.train is None
        name = f"{'all' if whole else f'drawn-{self.settings.seed}'}@{mark}"
        samples = [replace(sample, split=name) for sample in samples]
        return Split(CONVERSATIONS, name, part, samples, mark, len(absent))

    def _on_disk(self, row: Conversation) -> bool:
        return row.image is None or (self.images / row.image).is_file()

    def _sample(self, row: Conversation) -> Sample:
        whole = Sample(
            dataset=CONVERSATIONS,
            split="",
            index=row.row,
            name=row.image or row.id or f"record {row.row}",
            path=self.images / row.image if row.image else None,
            # What is said of one image stays on one side where a part is held out.
            reference=row.image,
            texts=tuple(answer for _, answer in row.answers),
            prompts=tuple(before for before, _ in row.answers),
        )
        return apart(whole, self.feedbacks[row.row]) if self.feedbacks else whole


def apart(sample: Sample, found: Feedback) -> Sample:
    """A sample whose one text is a feedback, taken apart.

    Its text is then the description, none where nothing is described; its conclusion is a sentence
    of its own, and its MOS the score of the level that is concluded.
    """
    mos = score_of(found.level) if found.level else math.nan
    if not found.description:
        return replace(sample, texts=(), prompts=(), mos=mos)
    end = found.conclusion
    end = end and f"{end[0].upper()}{end[1:]}".rstrip(" .!?") + "."
    return replace(sample, texts=(found.description,), conclusions=(end,), mos=mos)


def _asked(rows: Sequence[Conversation], pattern: str, file: Path) -> list[Conversation]:
    found = [row for row in rows if re.search(pattern, row.turns[0].text, re.IGNORECASE)]
    if not found:
        raise InputError(
            f"{file}: none of its {len(rows)} first questions matches "
            f"data.sets.conversations.asked={pattern!r}; one of them is "
            f"{rows[0].turns[0].text!r:.80}"
        )
    return found


def _single(
    rows: Sequence[Conversation], otherwise: Literal["error", "skip"]
) -> Sequence[Conversation]:
    """The records with one answer, as a feedback to be taken apart must be."""
    several = [row for row in rows if len(row.answers) > 1]
    if several and (otherwise == "error" or len(several) == len(rows)):
        raise InputError(
            f"{several[0].place}: {len(several[0].answers)} answers, but a feedback to be taken "
            "apart is one. Set data.sets.conversations.on_bad_record=skip to leave such records "
            "out, or decompose=false to learn all answers as they are."
        )
    if several:
        log.warning("%d records with several answers skipped: %s", len(several), several[0].place)
    return [row for row in rows if len(row.answers) == 1]


def _draw(
    rows: Sequence[Conversation], settings: ConversationSettings, file: Path
) -> list[Conversation]:
    wanted = len(rows) if settings.samples is None else settings.samples
    if wanted > len(rows):
        raise InputError(
            f"{file}: {wanted} samples cannot be drawn from its {len(rows)} records; lower "
            "data.sets.conversations.samples"
        )
    lots = sorted(rows, key=lambda row: _lot(settings.seed, f"{row.row}/{row.image}"))
    return sorted(lots[:wanted], key=lambda row: row.row)


def _divide(
    rows: Sequence[Conversation], train: int, seed: int, file: Path
) -> dict[str, list[Conversation]]:
    """Parts of which no image is in both, as large as asked for."""
    images: dict[str, list[Conversation]] = {}
    for row in rows:
        images.setdefault(row.image or f"record {row.row}", []).append(row)
    test, wanted = set[int](), len(rows) - train
    for image in sorted(images, key=lambda image: _lot(seed, image)):
        if len(test) + len(images[image]) <= wanted:
            test.update(row.row for row in images[image])
    if wanted < 1 or len(test) < wanted:
        raise InputError(
            f"{file}: train={train} of {len(rows)} records leaves {wanted} to test on, of which "
            f"{len(test)} can be had without images that are trained on; set "
            f"data.sets.conversations.train to {len(rows) - max(1, len(test))}"
        )
    return {
        "train": [row for row in rows if row.row not in test],
        "test": [row for row in rows if row.row in test],
    }


def _lot(seed: int, name: str) -> bytes:
    """By a hash: no generator's version can change what is drawn."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
