"""Ratings from the image and from its text alone, with a model that says what it is told to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from PIL import Image

from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.evaluation import report
from lit_biqa.paradigms import Autoencoder, ChainOfThought, SelfConsistency
from lit_biqa.readouts import ratings
from lit_biqa.readouts.base import Verdict
from lit_biqa.readouts.expected import digits, expected_ratings
from lit_biqa.readouts.ratings import Rated
from lit_biqa.readouts.words import next_logits
from lit_biqa.text import prompts
from lit_biqa.types import Batch, Chat, Completion, InputError, Prediction, TextPrediction, ask


def answer(rating: object) -> str:
    return f'<think>\nhm\n</think>\n<answer>\n{{"rating": {rating}}}\n</answer>'


CAPTION = "<caption>\nA good dog, rated 3.7, in poor light.\n</caption>\n"


class Scripted:
    """In the place of the engine: notes what is asked, and answers by the sight of the image."""

    def __init__(self, seen: Sequence[str], told: Sequence[str]) -> None:
        self.seen, self.told, self.asked = seen, told, list[str]()

    def __call__(
        self, model: Any, chats: Sequence[Chat], n: int, *_: Any
    ) -> list[list[Completion]]:
        said = []
        for chat in chats:
            self.asked.append(chat.messages[-1].text)
            texts = self.seen if chat.pixels is not None else self.told
            said.append([Completion((1,), texts[i % len(texts)]) for i in range(n)])
        return said


def batch(rows: int = 1, mos: float = 2.25) -> Batch:
    columns = {
        "pixels": [torch.zeros(4, 4, 1176)] * rows,
        "mos": torch.full((rows,), mos),
        "index": torch.arange(rows),
        "dataset": ["own"] * rows,
        "name": ["a.jpg"] * rows,
        "text": [""] * rows,
    }
    return Batch(**columns)  # type: ignore[typeddict-item, no-any-return]


def read(
    monkeypatch: pytest.MonkeyPatch, readout: Rated, seen: Sequence[str], told: Sequence[str]
) -> tuple[dict[str, Verdict], list[str]]:
    script = Scripted(seen, told)
    monkeypatch.setattr("lit_biqa.rollout.sampler.generate", script)
    found = readout.read(None, batch())  # type: ignore[arg-type]
    assert tuple(found) == readout.conditions
    return {name: verdicts[0] for name, verdicts in found.items()}, script.asked


def test_image_and_text_of_the_papers_test(monkeypatch: pytest.MonkeyPatch) -> None:
    readout = Rated(texts=("caption", "reasoning"), masks=("substring", "both"))
    found, asked = read(monkeypatch, readout, [CAPTION + answer(3.5)], [answer(2.5)])
    assert found["image"].score == 3.5
    assert found["image"].leak is None
    assert {name: found[name].score for name in found if name != "image"} == {
        "text": 2.5,
        "reasoning": 2.5,
        "text-substring": 2.5,
        "text-both": 2.5,
    }
    first, caption, reasoning, substring, both = asked
    assert first.endswith("<|image|>")
    assert "A good dog, rated 3.7, in poor light." in caption
    assert "hm" in reasoning and "hm" not in caption
    assert "A  dog, rated 3.7, in  light." in substring
    assert "A  dog, rated , in  light." in both
    leaks = {name: found[name].leak for name in found if name != "image"}
    assert leaks == {"text": True, "reasoning": True, "text-substring": True, "text-both": False}


@pytest.mark.parametrize("protocol", ["paper", "paper_image_first"])
def test_token_ids_of_the_papers_test_are_those_of_its_order(protocol: ratings.Protocol) -> None:
    """The released scripts: ``[{"type": "text"}, {"type": "image"}]``, by Qwen's own template."""
    model = TinyQwenVL(width=32, layers=2)
    model.prepare()
    rows = batch()
    rows["pixels"] = [model.image_transform(Image.new("RGB", (56, 84)))]
    chat = Rated(protocol).question(rows, 0)
    content = [{"type": "text", "text": prompts.TEST_SCORE}, {"type": "image"}]
    system = [{"type": "text", "text": prompts.TEST_SYSTEM}]
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": content if protocol == "paper" else content[::-1]},
    ]
    theirs = model.tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    row = model.encode_chat(chat)
    ids, positions = row.ids.tolist(), int(row.image.sum())
    first = ids.index(model.image_id)
    assert positions == 6 and [*ids[: first + 1], *ids[first + positions :]] == theirs


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        ("nothing tagged", "no answer"),
        (answer("four"), "not a number"),
        (answer("6.0"), "out of range"),
        (answer("NaN"), "not a number"),
        ("", "empty"),
    ],
)
def test_what_cannot_be_read_has_no_score(
    monkeypatch: pytest.MonkeyPatch, seen: str, status: str
) -> None:
    found, _ = read(monkeypatch, Rated(), [seen], [answer(2.5)])
    assert math.isnan(found["image"].score)
    assert found["image"].status == status
    assert math.isnan(found["text"].score)
    assert found["text"].status == "nothing handed on"


def test_ratings_are_averaged_over_those_that_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [CAPTION + answer(3.0), answer("four"), answer(4.0)]
    found, _ = read(monkeypatch, Rated(answers=3), seen, [answer(2.0)])
    assert found["image"].score == 3.5
    assert found["image"].spread == pytest.approx(math.sqrt(0.5))
    assert found["text"].score == 2.0
    assert found["text"].spread == 0.0


def test_the_paradigms_own_questions_with_the_mos_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    readout = Rated("matched")
    with pytest.raises(InputError, match="needs a paradigm"):
        _ = readout.conditions
    readout.paradigm = Autoencoder()
    found, asked = read(monkeypatch, readout, ["Because it is dark."], [answer(2.5)])
    assert "some score" in asked[0] and "2.25" not in asked[0]
    assert "Because it is dark." in asked[1]
    assert {name: verdict.score for name, verdict in found.items()} == {"text": 2.5}


def test_the_image_is_a_condition_where_it_is_rated() -> None:
    assert Rated("matched", paradigm=SelfConsistency()).conditions == ("image", "text")
    assert Rated("matched", paradigm=ChainOfThought()).conditions == ("text",)


def test_a_prefix_stands_before_each_condition_and_ends_with_a_sign() -> None:
    readout = Rated(texts=("caption", "reasoning"), masks=("words",), prefix="b-")
    assert readout.conditions == ("b-image", "b-text", "b-reasoning", "b-text-words")
    with pytest.raises(InputError, match="prefix='b' must end with a sign, as in 'b-'"):
        Rated(prefix="b")


@torch.no_grad()
def test_expected_rating_over_digits() -> None:
    model = TinyQwenVL(width=32, layers=2)
    model.load()
    chats = [ask("How good is it?"), ask("And this one, how good is it?"), None]
    said = [[Completion((1,), '<answer>{"rating": 4.0}')], [Completion((1,), "none")], []]
    found = expected_ratings(model, chats, said, 2)
    assert [status for _, _, status in found] == ["ok", "no rating", "nothing handed on"]
    tokens = digits(model)

    def odds(opening: str, of: range) -> list[float]:
        chat = ask("How good is it?", opening=opening)
        logits = next_logits(model, model.encode([chat]))[0]
        chosen = torch.stack([logits[tokens[digit]] for digit in of]).softmax(0)
        values: list[float] = chosen.tolist()
        return values

    before = '<answer>{"rating": '
    first = odds(before, range(1, 6))
    mean = 5 * first[4]
    for digit in range(1, 5):
        second = odds(f"{before}{digit}.", range(10))
        mean += first[digit - 1] * sum(p * (digit + k / 10) for k, p in enumerate(second))
    assert found[0][0] == pytest.approx(mean, abs=1e-5)
    assert 0 < found[0][1] < 2


@pytest.mark.parametrize("prefix", ["", "masked-"])
def test_results_part_leaks_and_tell_the_gap(prefix: str) -> None:
    rows: list[Prediction] = []
    seen, read = f"{prefix}image", f"{prefix}text"
    for index in range(8):
        mos = 1 + index / 2
        rows.append(Prediction("own", "all", index, "a", mos, mos, seen))
        score = mos if index % 2 else 5 - mos
        leak = index % 2 == 1
        rows.append(TextPrediction("own", "all", index, "a", mos, score, read, leak=leak))
    results = {(r.dataset, r.condition): r.correlations for r in report.evaluate(rows, 0)}
    assert results["own", f"{read}, leaking"].plcc == pytest.approx(1)
    assert results["own", f"{read}, clean"].plcc == pytest.approx(-1)
    assert results["own", f"{read}, clean"].n == 4
    text, gap = results["own", read], results["own", f"{seen} - {read}"]
    assert gap.plcc == pytest.approx(1 - text.plcc)
    assert gap.srcc == pytest.approx(1 - text.srcc)
    assert not [name for name, _ in results if name == "mean"]  # of one data set there is none
