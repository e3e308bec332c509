"""Answers of a server: read from its replies, and kept on disk."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lit_biqa.io.json_text import complete_lines, parse_json
from lit_biqa.io.seals import check_record, seal_record
from lit_biqa.types import InputError


class BrokenReplyError(Exception):
    """A reply that is no chat completion: the server or a program before it failed."""


@dataclass(frozen=True)
class Answer:
    """One answer of a server.

    Attributes:
        text: what the model wrote; may be empty.
        finished: true if the model ended by itself, false if the answer was cut off.
        likeliest: log-probabilities of the likeliest first tokens by their text; empty if the
            server gave none.
    """

    text: str
    finished: bool
    likeliest: Mapping[str, float] = field(default_factory=dict)


def read_reply(reply: Any) -> Answer:
    """Answer in a reply to ``/chat/completions``.

    Raises:
        BrokenReplyError: if the reply has no answer.
        InputError: if the server splits the reasoning off, which readouts and masks need.
    """
    try:
        choice = reply["choices"][0]
        message, ended = choice["message"], choice["finish_reason"] == "stop"
        text = message.get("content") or ""
        apart = message.get("reasoning_content") or message.get("reasoning")
        likeliest = _likeliest(choice.get("logprobs"))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BrokenReplyError("its reply is no chat completion") from error
    if not isinstance(text, str):
        raise BrokenReplyError("its answer is no text")
    if apart:
        raise InputError(
            "the server splits the reasoning from the answer, and readouts need both as the model "
            "wrote them: start it without a reasoning parser"
        )
    return Answer(text, ended, likeliest)


def _likeliest(log_probabilities: Any) -> dict[str, float]:
    if not log_probabilities or not log_probabilities.get("content"):
        return {}
    tokens = log_probabilities["content"][0]["top_logprobs"]
    found = {str(token["token"]): float(token["logprob"]) for token in tokens}
    return {token: value for token, value in found.items() if math.isfinite(value)}


class KeptAnswers:
    """Answers in a folder, by the digest of their request; a test that broke asks none twice.

    Each process appends to a file of its own, and reads those of all.

    Args:
        folder: the folder; it is made with the first answer.
        rank: number of this process.

    Raises:
        InputError: if a kept answer is damaged.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self._file, self._lock = folder / f"answers-{rank}.jsonl", threading.Lock()
        self._answers: dict[str, Answer] = {}
        for path in sorted(folder.glob("answers-*.jsonl")):
            self._read(path)
        self.found = len(self._answers)

    def _read(self, path: Path) -> None:
        lines = complete_lines(path)
        for number, line in enumerate(lines, start=1):
            place = f"{path}, line {number}"
            record = parse_json(line, place)
            check_record(place, record)
            try:
                self._answers[record["request"]] = Answer(**record["answer"])
            except (KeyError, TypeError) as error:
                raise InputError(f"{place}: no answer of a server; remove the line") from error
        size = sum(len(line.encode()) + 1 for line in lines)
        if path == self._file and path.stat().st_size > size:  # its process was killed in a line
            with path.open("rb+") as file:
                file.truncate(size)

    def get(self, request: str) -> Answer | None:
        """Answer to a request; ``None`` if there is none yet."""
        return self._answers.get(request)

    def add(self, request: str, answer: Answer) -> None:
        """Keep an answer; called by any thread."""
        record = seal_record({"request": request, "answer": asdict(answer)})
        with self._lock:
            self._answers[request] = answer
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=True) + "\n")
