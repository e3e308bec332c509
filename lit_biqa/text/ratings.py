"""Descriptions without the rating that a model wrote into them."""

from __future__ import annotations

import re

from lit_biqa.text.conclusions import SENTENCE
from lit_biqa.text.leakage import leaks

_RATES = re.compile(r"\b(?:rat(?:e|es|ed|ing|ings)|scor(?:e|es|ed|ing))\b", re.IGNORECASE)
_WHOLE = re.compile(r"(?<![\w.,/])[1-5](?![\w%]|[.,][0-9])")


def rates(sentence: str) -> bool:
    """Whether a sentence gives a rating as a number: "I would rate it 2.5", "a score below 3"."""
    return leaks(sentence) or bool(_RATES.search(sentence) and _WHOLE.search(sentence))


def without_ratings(text: str) -> str:
    """The text less every sentence that gives a rating as a number, so that none can be copied."""
    kept = SENTENCE.sub(lambda each: "" if rates(each[0]) else each[0], text)
    return re.sub(r" {2,}", " ", kept).strip()
