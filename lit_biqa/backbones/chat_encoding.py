"""Chats to tokens, and tokens to text: the half of a backbone that needs no weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from lit_biqa.backbones.inputs import IGNORED, Inputs, Row, extended, padded, prompts_of
from lit_biqa.types import Chat, InputError


class ChatEncoder(ABC):
    """Encodes chats; a subclass brings tokenizer and chat template.

    Attributes:
        context: positions that the decoder can take, known after `VisionLanguageModel.prepare`.
        end: tokens that end an answer; the first is the one that is learned.
    """

    context: int
    end: tuple[int, ...]

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """Tokens of what the assistant says from its start, without an end token."""

    @abstractmethod
    def encode_chat(self, chat: Chat) -> Row:
        """A chat up to where the assistant speaks; its opening is not in it."""

    @abstractmethod
    def text(self, ids: Sequence[int]) -> str:
        """Text of tokens that the assistant said, without end token."""

    def answer(self, chat: Chat, text: str) -> list[int]:
        """Tokens of an answer that goes on from the chat's opening, without an end token.

        A space stands between, unless the opening ends with a line.

        Raises:
            InputError: if the last token of the opening would swallow a part of the answer.
        """
        opening = chat.opening
        if not opening:
            return self.tokenize(text)
        start = self.tokenize(opening)
        whole = self.tokenize(opening + ("" if opening[-1].isspace() else " ") + text)
        if whole[: len(start)] != start:
            raise InputError(
                f"the opening {opening!r} does not end where a token of {text!r} begins: end it "
                "with a whole word, without a space behind it"
            )
        return whole[len(start) :]

    def encode_prompt(self, chat: Chat) -> Row:
        """A chat up to where a completion goes on, its opening included."""
        return extended(self.encode_chat(chat), self.tokenize(chat.opening) if chat.opening else [])

    def encode(self, chats: Sequence[Chat], answers: Sequence[str] | None = None) -> Inputs:
        """Chats as rows.

        Args:
            chats: of one batch.
            answers: what is to be learned, one for each chat. Rows are then padded on the right;
                without them on the left, so that each ends where the assistant goes on.

        Raises:
            InputError: if a row is longer than the context; nothing is ever cut off.
        """
        prompts = [self.encode_prompt(chat) for chat in chats]
        if answers is None:
            self.check_length(max(len(row.ids) for row in prompts), 0)
            return prompts_of(prompts)
        learned = [
            [*self.answer(chat, answer), self.end[0]]
            for chat, answer in zip(chats, answers, strict=True)
        ]
        rows = [extended(row, ids) for row, ids in zip(prompts, learned, strict=True)]
        self.check_length(max(len(row.ids) for row in rows), 0)
        labels = [[IGNORED] * len(row.ids) + ids for row, ids in zip(prompts, learned, strict=True)]
        return padded(rows, labels, left=False)

    def check_length(self, prompt: int, budget: int) -> None:
        """Refuse what does not fit the context.

        Raises:
            InputError: with all three numbers.
        """
        if prompt + budget > self.context:
            raise InputError(
                f"a chat of {prompt} tokens (image included) and {budget} to be written need "
                f"{prompt + budget} positions, the context has {self.context}: shorten the text, "
                "allow fewer tokens to be written, or fewer pixels"
            )
