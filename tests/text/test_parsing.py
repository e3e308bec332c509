"""Parsing of completions, and ratings that must not remain in captions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_biqa.text.parsing import (
    Form,
    before_think,
    leniently_formatted,
    rating_span,
    read,
    read_degradation,
    strictly_formatted,
    tagged,
    without_answer,
)

COMPLETION = (
    "<caption>\nA cat.\n</caption>\n<think>\nIt is sharp,\nbut dark.\n</think>\n"
    '<answer>\n{"rating": 2.80}\n</answer>'
)


@pytest.mark.parametrize(
    ("completion", "tag", "expected"),
    [
        (COMPLETION, "caption", "A cat."),
        (COMPLETION, "think", "It is sharp,\nbut dark."),
        (COMPLETION, "describe", None),
        ("<think>cut off", "think", None),
        ("<think></think>", "think", ""),
        ("<think>one</think><think>two</think>", "think", "one"),
        ("<think>a <caption>b</think>", "think", "a b"),
        ("<think>good <answer>4.5</answer> end</think>", "think", "good  end"),
        ("<think>good <answer>4.5</think>", "think", "good"),
        ("<a.b>x</a.b>", "a.b", "x"),
        ("<aXb>x</aXb>", "a.b", None),
    ],
)
def test_tagged(completion: str, tag: str, expected: str | None) -> None:
    assert tagged(completion, tag) == expected


def test_a_whole_completion_loses_its_answer() -> None:
    assert without_answer(COMPLETION) == "A cat.\n\n\nIt is sharp,\nbut dark."
    assert without_answer("It is sharp. <answer>4.2") == "It is sharp."
    assert without_answer(" plain ") == "plain"


def test_real_completions_have_a_think_part_and_it_has_no_rating(shared: Path) -> None:
    records = json.loads((shared / "data/texts/baseline_v11_agiqa.json").read_text())
    for record in records:
        think = tagged(record["perception_text"], "think")
        assert think
        assert 'rating"' not in think
        assert "<" not in think


def answered(content: str) -> str:
    return f"<think>\nwhy\n</think>\n<answer>\n{content}\n</answer>"


@pytest.mark.parametrize(
    ("completion", "score", "status"),
    [
        (COMPLETION, 2.8, "ok"),
        (answered('{"rating": 1}'), 1.0, "ok"),
        (answered('{"rating":5.00}'), 5.0, "ok"),
        (answered('so "rating" : 3.5, done'), 3.5, "ok"),
        (answered('{"rating": 3.5}, {"rating": 3.5}'), 3.5, "ok"),
        (answered('{"rating": 2}') + answered('{"rating": 3}'), 2.0, "ok"),
        ("", None, "empty"),
        (" \n", None, "empty"),
        ("The picture is sharp.", None, "no answer"),
        ('{"rating": 3.5}', None, "no answer"),
        ('<think>a</think><answer>{"rating": 3.5}', None, "unclosed answer"),
        ('<answer>{"rating": 3}<answer>{"rating": 3}</answer></answer>', None, "nested tags"),
        ('<answer><think>hm</think>{"rating": 3}</answer>', None, "nested tags"),
        (answered('{"rating": 3}, {"rating": 4}'), None, "several ratings"),
        (answered('{"rating": "four"}'), None, "not a number"),
        (answered('{"rating": "4.2"}'), None, "not a number"),
        (answered('{"rating": NaN}'), None, "not a number"),
        (answered('{"rating": Infinity}'), None, "not a number"),
        (answered('{"rating": 4/5}'), None, "not a number"),
        (answered('{"rating": 4.2.1}'), None, "not a number"),
        (answered('{"rating": 4e0}'), None, "not a number"),
        (answered('{"rating": \uff14}'), None, "not a number"),
        (answered('{"rating": }'), None, "not a number"),
        (answered('{"rating":'), None, "not a number"),
        (answered('{"rating": 6.0}'), None, "out of range"),
        (answered('{"rating": 0.99}'), None, "out of range"),
        (answered('{"rating": -3}'), None, "out of range"),
        (answered("3.5"), None, "no rating"),
        (answered("{'rating': 3.5}"), None, "no rating"),
        (answered(""), None, "no rating"),
        ('<think>\u6e05\u6670</think><answer>{"\u8bc4\u5206": 4}</answer>', None, "no rating"),
    ],
)
def test_ratings_in_json(completion: str, score: float | None, status: str) -> None:
    reading = read(completion)
    assert (reading.score, reading.status) == (score, status)


@pytest.mark.parametrize(
    ("completion", "score", "status"),
    [
        ("<think>a 2</think> <answer>3.75</answer>", 3.75, "ok"),
        ("<answer>2</answer><answer> about 3.5 of 5 </answer>", 3.5, "ok"),
        ("<answer>-2</answer>", None, "out of range"),
        ("<answer>75</answer>", None, "out of range"),
        ("<answer>four</answer>", None, "no rating"),
        ("<answer>nan</answer>", None, "no rating"),
        ("<answer><answer>3</answer>", None, "nested tags"),
        ("3.75", None, "no answer"),
        ("", None, "empty"),
    ],
)
def test_ratings_as_numbers(completion: str, score: float | None, status: str) -> None:
    reading = read(completion, "number")
    assert (reading.score, reading.status) == (score, status)


@pytest.mark.parametrize(
    ("completion", "score", "status"),
    [
        (r"It is sharp. \boxed{3.75}", 3.75, "ok"),
        (r"\boxed{2} and, after all, \boxed{about 3.5}", 3.5, "ok"),
        (r"<answer>3</answer> \boxed{75}", None, "out of range"),
        (r"\boxed{four}", None, "no rating"),
        ("<answer>3</answer>", None, "no answer"),
        (r"\boxed{3", None, "unclosed answer"),
    ],
)
def test_boxed_ratings(completion: str, score: float | None, status: str) -> None:
    reading = read(completion, "boxed")
    assert (reading.score, reading.status) == (score, status)


@pytest.mark.parametrize(
    ("form", "completion", "rating"),
    [
        ("json", COMPLETION, "2.80"),
        ("json", '3 <answer>{"rating": 4}</answer><answer>{"rating": 2}</answer>', "4"),
        ("number", "3 <answer>2</answer><answer> about 3.5 of 5 </answer>", "3.5"),
        ("boxed", r"Of 5: \boxed{2}, or rather \boxed{about 3.75}", "3.75"),
        ("boxed", r"<answer>3</answer> \boxed{4}", "4"),
        ("boxed", "<answer>3</answer>", None),
        ("json", '<answer>{"rating": 75}</answer>', None),
    ],
)
def test_a_rating_is_found_where_it_is_read(
    form: Form, completion: str, rating: str | None
) -> None:
    span = rating_span(completion, form)
    assert (None if span is None else completion[slice(*span)]) == rating


def test_caption_and_reasoning() -> None:
    reading = read(COMPLETION)
    assert (reading.caption, reading.reasoning) == ("A cat.", "It is sharp,\nbut dark.")
    assert before_think(COMPLETION) == "<caption>\nA cat.\n</caption>\n"
    assert before_think('<answer>{"rating": 3}</answer> A cat. <think>') == " A cat. "
    assert before_think("<caption>A cat.</caption>") is None
    cut_off = read("<caption>A cat.</caption><think>It is")
    assert (cut_off.caption, cut_off.reasoning) == ("A cat.", "")
    assert read("A cat.").caption == ""


@pytest.mark.parametrize(
    ("completion", "strict", "lenient"),
    [
        (answered('{"rating": 3}'), True, True),
        (answered('{\n  "rating": 3\n}') + "\n", True, True),
        ("<think> \n\nwhy\n </think> \n<answer>\n{3}\n</answer> ", True, True),
        ("<think>why</think><answer>3</answer>", False, True),
        ("<think>\nwhy\n</think>\n<answer>\n3\n</answer>", False, True),
        (answered('{"a": {"rating": 3}}'), False, True),
        ("<think>\nwhy\n</think><answer>\n{3}\n</answer>", False, True),
        ("I think: " + answered("{3}"), False, False),
        (answered("{3}") + " Thanks", False, False),
        ("<think>\nwhy\n</think>\n<answer>\n{3}", False, False),
        ("<answer>\n{3}\n</answer>", False, False),
        ("", False, False),
    ],
)
def test_formats(completion: str, strict: bool, lenient: bool) -> None:
    assert strictly_formatted(completion) is strict
    assert leniently_formatted(completion) is lenient


def test_formats_of_other_tags() -> None:
    tags = ("caption", "think", "answer")
    assert strictly_formatted(COMPLETION, tags)
    assert not strictly_formatted(COMPLETION)
    assert leniently_formatted("<caption>A cat.</caption>", ("caption",))
    assert not leniently_formatted("<caption>A cat.</caption>", tags)


def test_degradations() -> None:
    both = '{"distortion_class": "blur ", \n"severity": "slight"}'
    assert read_degradation(answered(both)) == ("blur", "slight")
    assert read_degradation(both) is None
    assert read_degradation(answered('{"severity": "slight", "distortion_class": "blur"}')) is None


@pytest.mark.parametrize("file", ["baseline_v11_agiqa", "baseline_v11_livew"])
def test_real_completions_are_read_as_their_authors_read_them(shared: Path, file: str) -> None:
    records = json.loads((shared / f"data/texts/{file}.json").read_text())
    for record in records:
        reading = read(record["perception_text"])
        assert (reading.score, reading.status) == (record["overall_score"], "ok")
        assert reading.caption
        assert reading.reasoning
        assert read(record["reasoning_text"]).score == record["reasoning_score"]
