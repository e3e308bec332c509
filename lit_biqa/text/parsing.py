"""Completions taken apart: the tagged pieces of what a model wrote."""

from __future__ import annotations

import re

_ANSWER = re.compile(r"<answer>.*?(?:</answer>|\Z)", re.DOTALL)
_TAG = re.compile(r"</?(?:caption|think|answer)>")


def without_answer(completion: str) -> str:
    """Text of a completion with its ``<answer>`` part left out, tags removed, ends stripped.

    The answer holds the rating: a text that is to stand for what the model saw must not carry
    the number. An answer that was cut off before its closing tag is left out to the end.
    """
    return _TAG.sub("", _ANSWER.sub("", completion)).strip()


def tagged(completion: str, tag: str) -> str | None:
    """Text between the first ``<tag>`` and the next ``</tag>``, without answers and stray tags.

    Args:
        completion: what the model wrote.
        tag: name without brackets, such as ``think`` or ``caption``.

    Returns:
        The text, stripped; ``None`` where the tag is absent or never closed.
    """
    found = re.search(rf"<{re.escape(tag)}>(.*?)</{re.escape(tag)}>", completion, re.DOTALL)
    return without_answer(found[1]) if found else None
