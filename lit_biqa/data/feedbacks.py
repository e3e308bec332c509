"""The data set ``conversations``: records of a LLaVA file, drawn and split by a seed."""

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
    """Content of the data set ``conversations``.

    Attributes:
        file: JSON list or JSON Lines of LLaVA's records (`lit_biqa.data.conversations`), relative
            to the working directory or to the data root.
        images: folder that image paths are relative to, itself relative likewise; ``None`` for the
            data root.
        asked: take only records whose first question matches this regular expression, in any case;
            for files like Q-Instruct's that mix feedbacks with other answers.
        samples: number of records to draw; ``None`` takes all.
        train: number of records in part ``train``; the others are ``test``, with no image in both.
            ``None`` puts all records into both parts.
        seed: seed of the draw and of the split.
        on_bad_record: ``skip`` leaves broken records out and logs their number and reasons.
        decompose: split each answer into description and conclusion, for two-stage tuning on
            Q-Pathway's feedbacks. The MOS is then the score of the concluded level, ``nan`` without
            one. ``False`` keeps all answers unchanged, without MOS.

    Raises:
        InputError: if the numbers contradict each other, or the regular expression is invalid.
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
                "none to test on; train counts the samples to train on"
            )


class ConversationSet:
    """Records of a file, drawn and split; with ``decompose`` it prints the coverage of the rules.

    Args:
        settings: content of the data set.
        root: data root.

    Raises:
        InputError: if the file or a record is wrong, or there are too few records.
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
            missing: records whose image is absent are an error, are left out, or are kept for runs
                that read no image.

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
                "or set data.images.missing=skip to continue without them."
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
            # Records of one image stay on one side when a part is held out.
            groups={"reference": row.image} if row.image else {},
            texts=tuple(answer for _, answer in row.answers),
            prompts=tuple(before for before, _ in row.answers),
        )
        return apart(whole, self.feedbacks[row.row]) if self.feedbacks else whole


def apart(sample: Sample, feedback: Feedback) -> Sample:
    """Replace a sample's only text, a feedback, by its parts.

    The text becomes the description (none if it is empty), the conclusion a sentence of its own,
    and the MOS the score of the concluded level.
    """
    mos = score_of(feedback.level) if feedback.level else math.nan
    if not feedback.description:
        return replace(sample, texts=(), prompts=(), mos=mos)
    end = feedback.conclusion
    end = end and f"{end[0].upper()}{end[1:]}".rstrip(" .!?") + "."
    return replace(sample, texts=(feedback.description,), conclusions=(end,), mos=mos)


def _asked(rows: Sequence[Conversation], pattern: str, file: Path) -> list[Conversation]:
    matching = [row for row in rows if re.search(pattern, row.turns[0].text, re.IGNORECASE)]
    if not matching:
        raise InputError(
            f"{file}: none of its {len(rows)} first questions matches "
            f"data.sets.conversations.asked={pattern!r}; one of them is "
            f"{rows[0].turns[0].text!r:.80}"
        )
    return matching


def _single(
    rows: Sequence[Conversation], otherwise: Literal["error", "skip"]
) -> Sequence[Conversation]:
    """Records with one answer; a feedback with several answers cannot be split."""
    several = [row for row in rows if len(row.answers) > 1]
    if several and (otherwise == "error" or len(several) == len(rows)):
        raise InputError(
            f"{several[0].place}: {len(several[0].answers)} answers, but only a single feedback "
            "can be split. Set data.sets.conversations.on_bad_record=skip to leave such records "
            "out, or decompose=false to learn all answers unchanged."
        )
    if several:
        log.warning("%d records with several answers skipped: %s", len(several), several[0].place)
    return [row for row in rows if len(row.answers) == 1]


def _draw(
    rows: Sequence[Conversation], settings: ConversationSettings, file: Path
) -> list[Conversation]:
    count = len(rows) if settings.samples is None else settings.samples
    if count > len(rows):
        raise InputError(
            f"{file}: {count} samples cannot be drawn from its {len(rows)} records; lower "
            "data.sets.conversations.samples"
        )
    lots = sorted(rows, key=lambda row: _lot(settings.seed, f"{row.row}/{row.image}"))
    return sorted(lots[:count], key=lambda row: row.row)


def _divide(
    rows: Sequence[Conversation], train: int, seed: int, file: Path
) -> dict[str, list[Conversation]]:
    """Split of the requested sizes in which no image is in both parts."""
    images: dict[str, list[Conversation]] = {}
    for row in rows:
        images.setdefault(row.image or f"record {row.row}", []).append(row)
    test, count = set[int](), len(rows) - train
    for image in sorted(images, key=lambda image: _lot(seed, image)):
        if len(test) + len(images[image]) <= count:
            test.update(row.row for row in images[image])
    if count < 1 or len(test) < count:
        raise InputError(
            f"{file}: train={train} of {len(rows)} records leaves {count} to test on, but only "
            f"{len(test)} of them have no image in training; set "
            f"data.sets.conversations.train to {len(rows) - max(1, len(test))}"
        )
    return {
        "train": [row for row in rows if row.row not in test],
        "test": [row for row in rows if row.row in test],
    }


def _lot(seed: int, name: str) -> bytes:
    """Hash that orders the draw; no generator's version can change it."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
