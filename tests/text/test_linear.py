"""Texts are read in time that grows with their length, and as they were before that was so."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence

import pytest

from lit_biqa.backbones.long_texts import sentences
from lit_biqa.paradigms import base
from lit_biqa.text import conclusions, leakage, statements
from lit_biqa.text.conclusions import decompose
from lit_biqa.text.parsing import (
    REASONED,
    before_think,
    leniently_formatted,
    prefix_formatted,
    read,
    read_degradation,
    strictly_formatted,
    tagged,
    without_answer,
)
from lit_biqa.text.ratings import without_ratings
from lit_biqa.text.rouge import rouge1

# What was here before, restated -------------------------------------------------------------------

ANSWERED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
DEGRADATION = re.compile(
    r'"distortion_class"\s*:\s*"([^"]+)".*?"severity"\s*:\s*"([^"]+)"', re.DOTALL
)
SENTENCE = re.compile(r"\S.*?(?:[.!?]+(?=\s|$)|$)", re.MULTILINE)


def slowly_tagged(text: str, tag: str) -> str | None:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return without_answer(found[1]) if found else None


def slowly_degraded(text: str) -> tuple[str, str] | None:
    answer = ANSWERED.search(text)
    found = DEGRADATION.search(answer[1]) if answer else None
    return (found[1].strip(), found[2].strip()) if found else None


def slowly_strict(text: str, tags: Sequence[str]) -> bool:
    def block(tag: str) -> str:
        content = r"\{[^{}]*\}\s*\n" if tag == "answer" else r".*?\n"
        return rf"<{tag}>\s*\n{content}\s*</{tag}>"

    form = r"\s*\n".join(map(block, tags)) + r"\s*"
    return re.fullmatch(form, text, re.DOTALL) is not None


def slowly_lenient(text: str, tags: Sequence[str]) -> bool:
    form = r"\s*".join(rf"<{tag}>.*?</{tag}>" for tag in tags) + r"\s*"
    return re.fullmatch(form, text, re.DOTALL) is not None


def slowly_begun(text: str, tags: Sequence[str]) -> bool:
    """The released code of the Autoencoder: `re.match` of this form, for think and answer."""
    form = r"\s*\n".join(rf"<{tag}>\s*\n([\s\S]*?)\n\s*</{tag}>" for tag in tags) + r"\s*"
    return re.match(form, text, re.DOTALL | re.MULTILINE) is not None


TAGS = [f"<{end}{tag}>" for tag in ("think", "answer", "caption") for end in ("", "/")]
UNITS = [*TAGS, *"\n\n\n\n \t\x1c\u2003a3.{}<", "{4}", "\n{4}\n", "\n\n"]
FORMS = [REASONED, ("answer",), ("caption", "think", "answer"), ("answer", "think"), ("think",)]


def texts(units: Sequence[str], longest: int, count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(units, k=draw.randint(0, longest))) for _ in range(count)]


def nearly_formatted(count: int) -> list[str]:
    """Formats with white space drawn in every gap, and now and then something lost or added."""
    draw, made = random.Random(1), []
    for _ in range(count):
        parts = [piece for tag in draw.choice(FORMS) for piece in (f"<{tag}>", "{4}", f"</{tag}>")]
        gaps = ["".join(draw.choices("\n\n \t", k=draw.randint(0, 3))) for _ in parts]
        both = [piece for pair in zip(parts, gaps, strict=True) for piece in pair]
        for _ in range(draw.choice([0, 0, 1, 2])):
            place = draw.randrange(len(both))
            both[place] = draw.choice(["", both[place] + draw.choice(UNITS)])
        made.append("".join(both))
    return made


def test_formats_are_what_they_were() -> None:
    found = {True: 0, False: 0}
    for text in (*texts(UNITS, 24, 3000, 0), *nearly_formatted(12_000)):
        for tags in FORMS:
            strict = slowly_strict(text, tags)
            assert strictly_formatted(text, tags) == strict, (text, tags)
            assert leniently_formatted(text, tags) == slowly_lenient(text, tags), (text, tags)
            assert prefix_formatted(text, tags) == slowly_begun(text, tags), (text, tags)
            found[strict] += 1
    assert min(found.values()) > 300, found


def test_pieces_are_what_they_were() -> None:
    keys = ['"distortion_class"', '"severity"', ":", '"blur"', '"', " ", *TAGS[2:4]]
    keys += ['"distortion_class": "blur"', '"severity": "slight"']
    found = {True: 0, False: 0}
    for text in (*texts(UNITS, 16, 8000, 2), *texts(keys, 24, 8000, 3)):
        for tag in ("think", "answer", "caption"):
            assert tagged(text, tag) == slowly_tagged(text, tag), text
        for body in (text, f"<answer>{text}</answer>", f'{text}"severity":"a"</answer>'):
            expected = slowly_degraded(body)
            assert read_degradation(body) == expected, body
            found[expected is not None] += 1
    assert min(found.values()) > 100, found


def test_ratings_are_what_they_were() -> None:
    units = [*TAGS[2:4], *TAGS[2:4], "<think>", '{"rating": ', "3", "4.5", ",", "}", " ", "-"]
    for text in texts(units, 16, 8000, 4):
        answers = ANSWERED.findall(text)
        statuses = read(text).status, read(text, "number").status
        unanswered = {"empty", "no answer", "unclosed answer"}
        assert [status in unanswered for status in statuses] == [not answers] * 2
        if answers:
            first, last = f"<answer>{answers[0]}</answer>", f"<answer>{answers[-1]}</answer>"
            assert (read(text).score, statuses[0]) == (read(first).score, read(first).status)
            alone = read(last, "number")
            assert (read(text, "number").score, statuses[1]) == (alone.score, alone.status)


def test_sentences_and_decimals_are_what_they_were() -> None:
    for text in texts([*".!? \n\t.a1", "12"], 16, 8000, 5):
        assert conclusions.SENTENCE.findall(text) == SENTENCE.findall(text), text
        assert base._DECIMAL.findall(text) == re.findall(r"\d+\.\d+", text), text


def test_statements_are_what_they_were() -> None:
    """But for how many words of one kind may stand together, which had no end."""
    words = "the this overall image quality it is was considered as very too good poor low to of a"
    units = [f"{word} " for word in (*words.split(), ",", "leading to", "overall", "the quality")]
    endless = {
        name: re.compile(form.pattern.replace("{0,8}", "*").replace("{1,8}", "+"), re.IGNORECASE)
        for name, form in statements._PATTERNS.items()
    }
    found = 0
    for text in texts(units, 16, 8000, 6):
        for name, pattern in statements._PATTERNS.items():
            spans = [match.span() for match in pattern.finditer(text)]
            assert spans == [match.span() for match in endless[name].finditer(text)], text
            found += len(spans)
    assert found > 100


# Growth -------------------------------------------------------------------------------------------

READERS: dict[str, Callable[[str], object]] = {
    "strictly_formatted": strictly_formatted,
    "strictly_formatted, three tags": lambda text: strictly_formatted(text, FORMS[2]),
    "leniently_formatted": leniently_formatted,
    "prefix_formatted": prefix_formatted,
    "read": read,
    "read a number": lambda text: read(text, "number"),
    "read a box": lambda text: read(text, "boxed"),
    "read_degradation": read_degradation,
    "tagged": lambda text: tagged(text, "think"),
    "before_think": before_think,
    "rouge1": lambda text: rouge1(text, "a sharp picture"),
    "leaks": leakage.leaks,
    "level_words": leakage.level_words,
    "mask": lambda text: leakage.mask(text, "both"),
    "without_ratings": without_ratings,
    "sentences": sentences,
    "decimals": base._DECIMAL.findall,
    "decompose": decompose,
}
OPENED = "<think>\n"
REPEATED = [
    *("\n", " ", "<think>", "</think>", "<answer>", "</answer>", "<caption>", "<answer></answer>"),
    *("</think>\n<answer>\n", "</think>\n<answer>\n{", "\n</think>", "{4}\n", "<answer>\n\n"),
    *('"rating": ', '"rating":"', '"distortion_class":"x"', '"severity" ', "4", "4.", "4,", "."),
    *(". ", "-", "and ", "very ", "very, ", "good ", "the ", "the image is "),
    *("\\boxed{", "\\boxed{4}"),
    *("is overall ", "image quality ", "leading to good quality ", "overall quality is ", "x"),
]


def seconds(reader: Callable[[str], object], text: str) -> float:
    """Least CPU time of this process over a few runs."""

    def once() -> float:
        start = time.process_time()
        reader(text)
        return time.process_time() - start

    return min(once() for _ in range(3))


@pytest.mark.parametrize("name", READERS)
def test_time_grows_with_the_length_alone(name: str) -> None:
    """Eight times the text: eight times the time, where it was 64 or 512 times."""
    short, long = 2_000, 16_000
    for unit in REPEATED:
        for before, after in (("", ""), (OPENED, ""), ("<answer>", "x</answer>"), ("good ", "!x")):
            few, many = (before + unit * (size // len(unit)) + after for size in (short, long))
            least = seconds(READERS[name], many)
            if least > 0.01:  # else it is linear, or too little to tell
                ratio = least / seconds(READERS[name], few)
                assert ratio < 24, (name, before, unit, after, ratio)
