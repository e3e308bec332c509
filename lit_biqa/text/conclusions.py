"""Split of a quality feedback into its description and its conclusion.

A Q-Pathway feedback describes an image and then concludes its quality in free words. Two-stage
tuning learns the description from the image and the conclusion from the description (Building
Reasonable Inference for VLMs in BIQA, section 3.4). That paper gives no rules for the split; these
follow the forms that the Q-Instruct paper shows (Wu et al., 2024, figures 2 to 4). A feedback that
matches none of the forms keeps all its text and has no level.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lit_biqa.text.levels import LEVELS
from lit_biqa.text.statements import Statement, clause_end, opens_clause, statements

# Only the last of several end marks precedes white space; "[.!?]+" would take quadratic time.
SENTENCE = re.compile(r"\S.*?(?:[.!?](?=\s|$)|$)", re.MULTILINE)
_PARTICIPLE = re.compile(r"which\b|\w+ing\b", re.IGNORECASE)
_BREAK = re.compile(r"[,;:]\s+(?:and\s+)?(?=(?:which|so|thus|hence|therefore|\w+ing)\b)", re.I)
_REASON = re.compile(
    r"\s*[,;:]\s*|\s+(?=(?:because|due to|owing to|since|as(?! a whole)|with|but|although|though|"
    r"despite|while)\b)|\s+and\s+(?=(?:the|its|it|this|there)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Feedback:
    """A feedback split into description and conclusion.

    Attributes:
        description: the text without its conclusion; all of it if no conclusion matched.
        conclusion: the sentence or clause that concludes the quality; empty if none matched.
        words: the conclusion's words for the quality, such as ``very poor``.
        level: the level of these words; ``None`` if no conclusion matched.
        restated: levels that the description names too. With them, concluding from the
            description is copying.
    """

    description: str
    conclusion: str = ""
    words: str = ""
    level: str | None = None
    restated: tuple[str, ...] = ()


def decompose(text: str) -> Feedback:
    """Split a feedback into description and conclusion.

    The conclusion is the last sentence that states the quality of the whole image. If the statement
    is a clause ("..., resulting in poor image quality"), the conclusion is that clause. Reasons
    that follow it stay in the description.

    Args:
        text: one feedback, in English.

    Returns:
        Its parts. Words for a range ("average to good") are no conclusion.
    """
    for sentence in reversed(list(SENTENCE.finditer(text))):
        candidates = (item for item in statements(sentence[0]) if item.form != "mentioned")
        if last := max(candidates, key=lambda item: (item.end, -item.start), default=None):
            before, conclusion, after = _cut(sentence[0], last)
            parts = text[: sentence.start()], before, after, text[sentence.end() :]
            rest = " ".join(part.strip() for part in parts if part.strip())
            return Feedback(rest, conclusion, last.words, last.level, named_levels(rest))
    return Feedback(text.strip(), restated=named_levels(text))


def named_levels(text: str) -> tuple[str, ...]:
    """Levels that a text names for the quality of the whole image, one per sentence."""
    per_sentence = (list(statements(sentence[0])) for sentence in SENTENCE.finditer(text))
    return tuple(max(group, key=lambda item: item.end).level for group in per_sentence if group)


def _cut(sentence: str, stated: Statement) -> tuple[str, str, str]:
    """Text before the concluding clause, the clause, and the reasons after it."""
    head, tail = sentence[: stated.start], sentence[stated.end :]
    before = ""
    participle = stated.form == "so" and _PARTICIPLE.match(sentence, stated.start)
    if participle or opens_clause(sentence, stated.start):
        before = sentence[: clause_end(sentence, stated.start)]
    elif breaks := list(_BREAK.finditer(head)):
        before = head[: breaks[-1].start()]
    after, reason = "", _REASON.match(tail)
    if reason and len(tail[reason.end() :].split()) > 1:
        after = tail[reason.end() :].rstrip(".!? ")
        tail = tail[: reason.start()]
    conclusion = (sentence[len(before) : stated.end] + tail).strip(" ,;:–—-")
    return before and f"{before}.", conclusion, after and f"{after[0].upper()}{after[1:]}."


@dataclass(frozen=True)
class Coverage:
    """Counts of the conclusions in a set of feedbacks; ``str`` gives lines to read.

    Attributes:
        total: number of feedbacks.
        levels: number of conclusions of each level, in the order of `LEVELS`.
        bare: number of conclusions without a description beside them.
        restated: number of conclusions whose description names a level too.
        unmatched: ends of the texts without a conclusion.
    """

    total: int
    levels: dict[str, int]
    bare: int
    restated: int
    unmatched: tuple[str, ...]

    @property
    def matched(self) -> int:
        """Number of feedbacks with a conclusion."""
        return self.total - len(self.unmatched)

    def __str__(self) -> str:
        levels = ", ".join(f"{count} {level}" for level, count in self.levels.items())
        lines = [
            f"{self.matched} of {self.total} feedbacks conclude the quality: {levels}",
            f"{self.restated} of them name a level in the description too, {self.bare} have no "
            "description",
            f"{len(self.unmatched)} without a conclusion are kept whole",
        ]
        return "\n".join(lines + [f"  such as: ...{text}" for text in self.unmatched[:3]])


def coverage(feedbacks: Iterable[Feedback]) -> Coverage:
    """Count the conclusions that `decompose` separated."""
    rows = list(feedbacks)
    matched = [row for row in rows if row.level]
    counts = Counter(row.level for row in matched)
    return Coverage(
        total=len(rows),
        levels={level: counts[level] for level in LEVELS},
        bare=sum(not row.description for row in matched),
        restated=sum(bool(row.restated) for row in matched),
        unmatched=tuple(row.description[-80:] for row in rows if not row.level),
    )
