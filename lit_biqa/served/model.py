"""A served model as readouts ask it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

import torch
from torch import Tensor

from lit_biqa.distributed import alive
from lit_biqa.io.digests import digest_of_plain
from lit_biqa.rollout.engine import RemoteModel, Sampling
from lit_biqa.served.answers import Answer, KeptAnswers
from lit_biqa.served.client import ChatServer, RefusedError
from lit_biqa.served.pictures import Picture
from lit_biqa.served.requests import next_token, sampled
from lit_biqa.served.settings import ServerSettings
from lit_biqa.types import Chat, Completion, InputError, ask


class ServedModel(RemoteModel):
    """Model behind an OpenAI-compatible chat server.

    Each completion is one request, with a seed of its own. Equal requests are sent once.

    Args:
        url: base URL of the server.
        name: name of the model on the server.
        settings: how the server is asked.

    Attributes:
        kept: answers on disk; ``None`` keeps none.
    """

    def __init__(self, url: str, name: str, settings: ServerSettings) -> None:
        self.server, self.settings = ChatServer(url, name, settings), settings
        self.kept: KeptAnswers | None = None
        self._refused: dict[str, RefusedError] = {}

    @property
    def image_transform(self) -> Picture:
        """Transform from an image to the pixels of a chat, the bytes of a PNG file."""
        settings = self.settings
        return Picture(settings.min_pixels, settings.max_pixels, settings.grid)

    def check(self) -> None:
        """See `ChatServer.check`."""
        self.server.check()

    def check_odds(self, opening: str) -> None:
        """Ask for the log-probabilities after the beginning of an answer, once.

        Raises:
            InputError: if the server gives none.
        """
        chat = ask("Is the quality of this image good?", opening=opening)
        (answer,) = self._answers([self._next_token(chat)])
        if not answer.likeliest:
            raise InputError(
                f"{self.server.url} gives no log-probabilities, from which a readout in "
                "model.readouts computes scores: use a server that gives them, or readouts of what "
                "the model writes (GeneratedWord, or Rated with reading=mean)"
            )

    def complete(
        self, chats: Sequence[Chat], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """See `RemoteModel`; completions have no token ids, which servers do not tell."""
        name, engine = self.server.name, self.settings.engine
        answers = iter(
            self._answers(
                [
                    sampled(chat, name, engine, sampling, seed, number)
                    for chat, seed in zip(chats, seeds, strict=True)
                    for number in range(n)
                ]
            )
        )
        told = ((answer.text, answer.finished) for answer in answers)
        return [[Completion((), *next(told)) for _ in range(n)] for _ in chats]

    def next_odds(self, chats: Sequence[Chat], words: Sequence[str]) -> Tensor:
        """See `RemoteModel`.

        A word that is not among the likeliest tokens counts as impossible; a token counts for a
        word with or without a space around it.
        """
        answers = self._answers([self._next_token(chat) for chat in chats])
        odds = torch.zeros(len(chats), len(words), dtype=torch.float64)
        for row, answer in enumerate(answers):
            for token, value in answer.likeliest.items():
                if token.strip() in words:
                    odds[row, words.index(token.strip())] += math.exp(value)
        return (odds / odds.sum(1, keepdim=True)).float()  # 0 / 0 is nan

    def _next_token(self, chat: Chat) -> dict[str, Any]:
        return next_token(chat, self.server.name, self.settings.engine)

    def _answers(self, requests: Sequence[dict[str, Any]]) -> list[Answer]:
        """Answers in the order of the requests; the first failure of the server ends all.

        Raises:
            RefusedError: if the server refuses one of them; the others are asked all the same.
        """
        keys = [digest_of_plain(request) for request in requests]
        answers = {key: kept for key in keys if self.kept and (kept := self.kept.get(key))}
        known = answers.keys() | self._refused.keys()
        missing = {k: r for k, r in zip(keys, requests, strict=True) if k not in known}
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            asked = {pool.submit(self._ask, key, request): key for key, request in missing.items()}
            try:
                answers |= {asked[done]: got for done in _finished(asked) if (got := done.result())}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.server.close()
                raise
        for key in keys:
            if key in self._refused:
                raise self._refused[key]
        return [answers[key] for key in keys]

    def _ask(self, key: str, request: dict[str, Any]) -> Answer | None:
        """Answer to a request; ``None`` if it is refused, which is remembered."""
        try:
            answer = self.server.ask(request)
        except RefusedError as error:
            self._refused[key] = error
            return None
        if self.kept is not None:
            self.kept.add(key, answer)
        return answer


def _finished(asked: dict[Future[Answer | None], str]) -> Any:
    """Futures as they finish, each of which is progress."""
    for done in as_completed(asked):
        alive()
        yield done
