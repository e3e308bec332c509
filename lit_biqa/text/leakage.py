"""Score leakage: detection and masking of numbers and words in a text that give the score away.

A caption that says "a rating of 3.7" tells the text-only pass the score of the image, not its
looks. Source: *Understanding Pure Textual Reasoning*, table I, whose condition "score-related words
removed" is `mask` with mode ``substring``. The other modes are ours, because that one leaves
numbers, capitalised words and parts of words behind.
"""

from __future__ import annotations

import re
from typing import Literal

from lit_biqa.text.levels import LEVELS

Mode = Literal["substring", "words", "numbers", "both"]

SCORE_WORDS = ("good", "moderate", "average", "poor", "decent")
"""Words that the paper removes, in its order."""

_RATING = re.compile(r"(?<![\w.,/])(?:[1-4]\.[0-9]{1,2}|5\.00?)(?![\w%]|[.,][0-9])")
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_WORD = re.compile(rf"\b(?:{'|'.join(SCORE_WORDS)})\b", re.IGNORECASE)
_LEVEL = re.compile(rf"\b(?:{'|'.join({*SCORE_WORDS, *LEVELS})})\b", re.IGNORECASE)


def ratings(text: str) -> tuple[float, ...]:
    """Numbers that read as a rating: of the form d.d or d.dd, from 1 to 5, standing alone.

    An aperture ("f/2.8"), a factor ("2.5x") or a part of a longer number does not count.
    """
    return tuple(float(number) for number in _RATING.findall(text))


def leaks(text: str) -> bool:
    """True if a text names a rating; the rows of a test are split by it."""
    return _RATING.search(text) is not None


def level_words(text: str) -> tuple[str, ...]:
    """Level words of a text (`SCORE_WORDS` and `LEVELS`), in lower case and in their order."""
    return tuple(word.lower() for word in _LEVEL.findall(text))


def mask(text: str, mode: Mode) -> str:
    """Remove from a text what can give the score away; spaces around it stay.

    Args:
        text: a caption or a reasoning.
        mode: ``substring`` removes `SCORE_WORDS` in lower case, also inside longer words
            ("goodness"), and leaves "Good"; ``words`` removes them as whole words in any case;
            ``numbers`` removes every number; ``both`` removes words and numbers.
    """
    if mode == "substring":
        for word in SCORE_WORDS:
            text = text.replace(word, "")
        return text
    if mode in ("words", "both"):
        text = _WORD.sub("", text)
    return _NUMBER.sub("", text) if mode in ("numbers", "both") else text


def first_rating(text: str) -> tuple[int, int] | None:
    """Beginning and end of the first rating that a text names; ``None`` if it names none."""
    found = _RATING.search(text)
    return found.span() if found else None
