"""Examples that each task makes of a row."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import pytest
import torch

from lit_biqa import tasks
from lit_biqa.readouts.ratings import Protocol, Rated
from lit_biqa.text import prompts
from lit_biqa.text.conclusions import decompose
from lit_biqa.text.parsing import strictly_formatted, tagged
from lit_biqa.types import IMAGE, Batch, InputError, Message, Sample, Samples

PIXELS = torch.zeros(3, 4, 4)


def batch(
    mos: float = 4.4, text: str = "It is sharp.", conclusion: str = "", **more: object
) -> Batch:
    columns = {
        "pixels": [PIXELS],
        "samples": Samples([Sample("koniq10k", "official", 7, "a.jpg", None, mos, 0.5)]),
        "mos": torch.tensor([mos]),
        "std": torch.tensor([0.5]),
        "index": torch.tensor([7]),
        "dataset": ["koniq10k"],
        "split": ["official"],
        "name": ["a.jpg"],
        "text": [text],
        "conclusion": [conclusion],
        "prompt": [()],
        "status": ["ok"],
    }
    return Batch(**(columns | more))  # type: ignore[typeddict-item, no-any-return]


def sample(mos: float = 3.0, **more: object) -> Sample:
    return Sample("own", "all", 0, "a.jpg", Path("a.jpg"), mos, **more)  # type: ignore[arg-type]


def test_describing_shows_the_image_and_learns_the_text() -> None:
    (example,) = tasks.Describe().examples(batch())
    assert example.chat.messages == (Message("user", IMAGE + prompts.DESCRIBE),)
    assert example.chat.pixels is PIXELS
    assert (example.answer, example.level) == ("It is sharp.", "")


def test_concluding_sees_the_description_and_no_pixels() -> None:
    (example,) = tasks.Conclude().examples(batch())
    assert example.chat.pixels is None
    assert "It is sharp." in example.chat.messages[0].text
    assert (example.chat.opening, example.answer) == (prompts.QUALITY_OPENING, "excellent.")
    assert not tasks.Conclude.sees_image


@pytest.mark.parametrize(
    ("mos", "level"), [(1.0, "bad"), (1.9, "poor"), (3.0, "fair"), (4.0, "good")]
)
def test_levels_are_five_equal_bins(mos: float, level: str) -> None:
    (example,) = tasks.NameLevel().examples(batch(mos))
    assert example.answer == f"{prompts.QUALITY_OPENING} {level}."
    assert example.level == level


def test_one_stage_ends_with_the_word_that_stage_two_learns() -> None:
    """Q-Pathway's scale, by hand: average is the third of five levels, fair, with score 3."""
    feedback = decompose("It is sharp. Therefore, the quality of this image is average.")
    rows = batch(3.0, feedback.description, feedback.conclusion)
    (one,), (two,) = tasks.DescribeAndConclude().examples(rows), tasks.Conclude().examples(rows)
    assert one.answer == "It is sharp. The quality of the image is fair."
    assert one.answer.endswith(f"{two.chat.opening} {two.answer}") and one.level == two.level


def test_one_stage_may_end_with_the_conclusion_of_the_text() -> None:
    concluded = batch(conclusion="So the quality is very good.")
    unrated = batch(math.nan, conclusion="So the quality is very good.")
    for task, rows in (
        (tasks.DescribeAndConclude(conclusion="own"), concluded),
        (tasks.DescribeAndConclude(), unrated),
    ):
        (own,) = task.examples(rows)
        assert own.answer == "It is sharp. So the quality is very good."
    (named,) = tasks.DescribeAndConclude(conclusion="own").examples(batch())
    assert named.answer == f"It is sharp. {prompts.QUALITY_OPENING} excellent."


def test_conversations_keep_their_questions() -> None:
    asked = (
        Message("user", f"{IMAGE} Is it sharp?"),
        Message("assistant", "Yes."),
        Message("user", "Why?"),
    )
    (example,) = tasks.Converse().examples(batch(prompt=[asked]))
    assert example.chat.messages == asked
    assert example.answer == "It is sharp."


def test_questions_vary_with_the_step_and_follow_from_it() -> None:
    task = tasks.NameLevel()
    asked = [task.examples(batch(), step)[0].chat.messages[0].text for step in range(20)]
    assert asked == [task.examples(batch(), step)[0].chat.messages[0].text for step in range(20)]
    assert len(set(asked)) > 2


TAGGED = "<caption>\nA dog.\n</caption>\n<think>\nIt is sharp.\n</think>"
RATED = '<think>\nIt is sharp.\n</think>\n<answer>\n{"rating": 4.40}\n</answer>'


@pytest.mark.parametrize(
    ("form", "answer", "sees"),
    [
        ("answer", '<answer>\n{"rating": 4.40}\n</answer>', True),
        ("score", RATED, True),
        ("caption", "<caption>\nA dog.\n</caption>", True),
        ("both", f"<caption>\nA dog.\n</caption>\n{RATED}", True),
        ("test", f"<caption>\nA dog.\n</caption>\n{RATED}", True),
        ("test_image_first", f"<caption>\nA dog.\n</caption>\n{RATED}", True),
        ("explain", "A dog. It is sharp.", True),
        ("text", RATED, False),
    ],
)
def test_imitation_writes_what_paradigms_ask_for(form: tasks.Form, answer: str, sees: bool) -> None:
    (example,) = tasks.Imitate((form,)).examples(batch(text=TAGGED))
    assert example.answer == answer
    assert (example.chat.pixels is not None) == sees
    assert tasks.Imitate((form,)).sees_image == sees
    if form in ("score", "text"):
        assert strictly_formatted(answer)
    if not sees:
        assert "A dog." in example.chat.messages[-1].text
    if form == "explain":
        assert "is rated as 4.4." in example.chat.messages[-1].text


def test_imitated_ratings_spread_around_the_mos() -> None:
    """Mean and deviation over 400 steps lie within four standard errors of MOS and spread."""

    def ratings(mos: float, spread: float, steps: range) -> list[float]:
        task = tasks.Imitate(("answer",), spread)
        answers = [task.examples(batch(mos, text=TAGGED), step)[0].answer for step in steps]
        return [json.loads(tagged(answer, "answer") or "")["rating"] for answer in answers]

    drawn = ratings(3.0, 0.3, range(400))
    assert statistics.mean(drawn) == pytest.approx(3.0, abs=4 * 0.3 / 20)
    assert statistics.stdev(drawn) == pytest.approx(0.3, abs=4 * 0.3 / math.sqrt(800))
    assert ratings(3.0, 0.3, range(7, 9)) == drawn[7:9]  # as a resumed fit draws them
    assert max(ratings(4.9, 0.3, range(50))) == 5.0 and min(ratings(1.1, 0.3, range(50))) == 1.0
    assert ratings(3.0, 0.0, range(3)) == [3.0] * 3
    with pytest.raises(InputError, match=r"task\.spread"):
        tasks.Imitate(spread=-1.0)


@pytest.mark.parametrize(
    ("form", "protocol"), [("test", "paper"), ("test_image_first", "paper_image_first")]
)
def test_imitation_asks_what_a_test_asks(form: tasks.Form, protocol: Protocol) -> None:
    rows = batch(text=TAGGED)
    (example,) = tasks.Imitate((form,)).examples(rows)
    assert example.chat.messages == Rated(protocol).question(rows, 0).messages
    assert example.chat.messages[-1].text.endswith(IMAGE) == (form == "test")


def test_tasks_alternate_by_steps() -> None:
    both = tasks.Alternate([tasks.Conclude(), tasks.Describe()])
    rows = batch()
    for step, task in enumerate([tasks.Conclude(), tasks.Describe()] * 2):
        (given,), (alone,) = both.examples(rows, step), task.examples(rows, step)
        assert (given.answer, given.chat.messages) == (alone.answer, alone.chat.messages)
    assert both.sees_image and not tasks.Alternate([tasks.Conclude()]).sees_image
    assert both.suits(sample(texts=("a",))) and not both.suits(sample(math.nan, texts=("a",)))
    with pytest.raises(InputError, match="at least one"):
        tasks.Alternate([])


def test_reasoning_is_learned_without_scores_or_with_those_of_some_sets() -> None:
    """The paper's prompts: tables A.4 (RACT) and A.4 (score regression)."""
    unscored, scored = tasks.Reason(), tasks.Reason(scored=["koniq10k"])
    for task, step in (
        (unscored, 0),
        (unscored, 1),
        (scored, 0),
        (tasks.Reason(scored=["spaq"]), 1),
    ):
        (example,) = task.examples(batch(), step)
        asked = "What is your overall assessment of the quality of this picture?"
        assert example.chat.messages == (Message("user", IMAGE + asked),)
        assert example.answer == "It is sharp."
    (example,) = scored.examples(batch(), 1)
    assert example.answer == RATED and example.chat.pixels is PIXELS
    assert "the quality of this picture? The rating should be" in example.chat.messages[-1].text
    (unrated,) = scored.examples(batch(math.nan), 1)
    assert unrated.answer == "It is sharp."


def test_imitation_needs_both_tags() -> None:
    assert tasks.Imitate().suits(sample(texts=(TAGGED,)))
    assert not tasks.Imitate().suits(sample(texts=("A dog.",)))
    assert not tasks.Imitate().suits(sample(math.nan, texts=(TAGGED,)))
    assert tasks.Imitate(["answer", "answer"]).suits(sample())
    assert not tasks.Imitate(["answer"]).suits(sample(math.nan))
    assert not tasks.Imitate(["answer", "score"]).suits(sample())


@pytest.mark.parametrize(
    ("task", "suitable"),
    [
        (tasks.Describe(), sample(math.nan, texts=("a",))),
        (tasks.Describe(None), sample(texts=("a",), prompts=((Message("user", "Why?"),),))),
        (tasks.Conclude(), sample(texts=("a",))),
        (tasks.DescribeAndConclude(), sample(math.nan, texts=("a",), conclusions=("b",))),
        (tasks.NameLevel(), sample()),
        (tasks.Converse(), sample(texts=("a",), prompts=((Message("user", "Why?"),),))),
    ],
)
def test_what_suits_a_task(task: tasks.Task, suitable: Sample) -> None:
    assert task.suits(suitable)
    bare = sample(math.nan)
    assert not task.suits(bare)


def test_a_description_without_a_conclusion_teaches_none() -> None:
    assert not tasks.Conclude().suits(sample(math.nan, texts=("a",)))
    assert not tasks.DescribeAndConclude().suits(sample(math.nan, texts=("a",), conclusions=("",)))
