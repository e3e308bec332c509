"""Ratings that a model wrote into a description: detected and removed."""

from __future__ import annotations

import re

from lit_biqa.text.conclusions import SENTENCE
from lit_biqa.text.leakage import leaks

_RATES = re.compile(r"\b(?:rat(?:e|es|ed|ing|ings)|scor(?:e|es|ed|ing))\b", re.IGNORECASE)
_WHOLE = re.compile(r"(?<![\w.,/])[1-5](?![\w%]|[.,][0-9])")


def rates(sentence: str) -> bool:
    """True if a sentence rates in numbers: "I would rate it 2.5", "a score below 3"."""
    return leaks(sentence) or bool(_RATES.search(sentence) and _WHOLE.search(sentence))


def without_ratings(text: str) -> str:
    """Text without the sentences that rate in numbers, so that no rating can be copied."""
    remaining = SENTENCE.sub(lambda match: "" if rates(match[0]) else match[0], text)
    return re.sub(r" {2,}", " ", remaining).strip()
