"""Conversations about images in LLaVA's format for instruction tuning."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lit_biqa.data.texts import json_items
from lit_biqa.types import IMAGE, InputError, Message, Role, nearest

log = logging.getLogger(__name__)

_SPELLINGS = re.compile(r"<image>|<\|image\|>")

_ROLES: dict[str, Role] = {"human": "user", "gpt": "assistant"}


@dataclass(frozen=True)
class Conversation:
    """One record of a file.

    Attributes:
        place: file and record, for messages.
        id: id in the file; empty if it has none.
        image: image path in the file; ``None`` for a conversation of text alone.
        turns: user and assistant in turn, an assistant at the end. With an image, exactly one user
            turn holds `IMAGE`, once; without, none does.
        row: number of the record in the file, from 0, counting broken ones.
    """

    place: str
    id: str
    image: str | None
    turns: tuple[Message, ...]
    row: int

    @property
    def answers(self) -> list[tuple[tuple[Message, ...], str]]:
        """Answers of the assistant, each with all the messages before it."""
        places = range(1, len(self.turns), 2)
        return [(self.turns[:place], self.turns[place].text) for place in places]


@dataclass(frozen=True)
class Conversations:
    """The conversations of a file.

    Attributes:
        rows: conversations in the order of the file.
        skipped: one message for each record left out, with its place and the reason.
    """

    rows: tuple[Conversation, ...]
    skipped: tuple[str, ...]


def read_conversations(
    file: Path, folder: Path | None = None, on_bad_record: Literal["error", "skip"] = "error"
) -> Conversations:
    """Read a JSON list, or JSON Lines, of LLaVA's records.

    A record is ``{"id": ..., "image": "a.jpg", "conversations": [{"from": "human", "value":
    "<image> How sharp is it?"}, {"from": "gpt", "value": "Very."}]}``, as in Q-Instruct, Q-Align
    and DeQA-Score. ``<image>`` and ``<|image|>`` are the same; other fields are ignored.

    Args:
        file: the file.
        folder: folder that image paths are relative to; each image must exist. ``None`` checks no
            images, for files that are matched to a data set by name.
        on_bad_record: ``skip`` leaves broken records out and logs their number and reasons. A file
            that is no JSON is an error in either case.

    Returns:
        The conversations, and the reasons for the records left out.

    Raises:
        InputError: names file and record: not JSON; a record without conversation, with fields of
            the wrong type or turns out of order; an image without placeholder or the reverse; a
            missing image. Also if no record is left.
    """
    rows, skipped = list[Conversation](), list[str]()
    for number, (place, record) in enumerate(json_items(file)):
        try:
            rows.append(_conversation(place, number, record, folder))
        except InputError as error:
            if on_bad_record == "error":
                raise
            skipped.append(str(error))
    if skipped:
        some = "; ".join(skipped[:3]) + ("; ..." if len(skipped) > 3 else "")
        total = len(rows) + len(skipped)
        log.warning("%s: %d of %d records skipped: %s", file, len(skipped), total, some)
    if not rows:
        why = f", the first: {skipped[0]}" if skipped else ""
        raise InputError(f"{file} holds no conversation ({len(skipped)} records skipped{why})")
    return Conversations(tuple(rows), tuple(skipped))


def _conversation(place: str, row: int, record: Any, folder: Path | None) -> Conversation:
    if not isinstance(record, dict) or not isinstance(record.get("conversations"), list):
        raise InputError(f'{place}: expected a record with "conversations", a list: {record!s:.80}')
    image, identity = record.get("image"), record.get("id", "")
    if image is not None and (not isinstance(image, str) or not image):
        raise InputError(f'{place}: "image" must be one file name or absent: {image!s:.80}')
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        raise InputError(f'{place}: "id" must be text or an integer: {identity!s:.80}')
    turns = tuple(_turn(place, turn) for turn in record["conversations"])
    _check_order(place, turns)
    _check_placeholders(place, turns, image)
    if folder is not None and image is not None and not (folder / image).is_file():
        raise InputError(f"{place}: no image at {folder / image}; check the image folder")
    return Conversation(place, str(identity), image, turns, row)


def _turn(place: str, turn: Any) -> Message:
    speaker, text = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (0, 0)
    if not isinstance(speaker, str) or not isinstance(text, str):
        raise InputError(f'{place}: a turn needs "from" and "value", both text: {turn!s:.80}')
    if speaker not in _ROLES:
        raise InputError(f"{place}: unknown speaker {speaker!r}{nearest(speaker, _ROLES)}")
    if not text.strip():
        raise InputError(f"{place}: a turn of {speaker} is empty")
    return Message(_ROLES[speaker], _SPELLINGS.sub(IMAGE, text).strip())


def _check_order(place: str, turns: tuple[Message, ...]) -> None:
    roles = [turn.role for turn in turns]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        speakers = ", ".join(name for turn in turns for name in _ROLES if _ROLES[name] == turn.role)
        raise InputError(
            f"{place}: human and gpt must take turns, gpt last; found {speakers or 'none'}"
        )


def _check_placeholders(place: str, turns: tuple[Message, ...], image: str | None) -> None:
    if any(IMAGE in turn.text for turn in turns if turn.role == "assistant"):
        raise InputError(f"{place}: an answer of gpt holds an image placeholder")
    count = sum(turn.text.count(IMAGE) for turn in turns)
    if image is None and count:
        raise InputError(f'{place}: {count} image placeholders, but no "image" in the record')
    if image is not None and count != 1:
        raise InputError(
            f"{place}: {count} placeholders for one image; write <image> once, in the question "
            "about the image, or the model never sees it"
        )
