"""Rewards and advantages by hand, through every paradigm, with scripted answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from scripts import Script, answer, batch, described

from lit_biqa.paradigms import (
    Autoencoder,
    ChainOfThought,
    HumanAligned,
    MultiTask,
    Paradigm,
    Score,
    SelfConsistency,
    VisualQuality,
    WithoutReasoning,
)
from lit_biqa.paradigms.figures import figures, table
from lit_biqa.rewards import CosineScore, Format, PairwiseRanking, Slot
from lit_biqa.text import prompts
from lit_biqa.types import Batch, Chat, Completion, InputError, Sample, Samples, ask

PIXELS = torch.zeros(3, 8, 8)


def near(*values: float) -> object:
    return pytest.approx(values, abs=1e-5)


def spread(rewards: Sequence[float]) -> list[float]:
    """Advantages of a group, by hand."""
    mean = sum(rewards) / len(rewards)
    std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
    return [(r - mean) / (std + 1e-4) for r in rewards]


def test_score() -> None:
    script = Script(
        [
            [answer(4.1), '<answer>{"rating": 4.1}</answer>', answer(3.0), "good"],
            [answer(2), answer(2), answer(2.3), answer(2.2)],
        ]
    )
    paradigm = Score(group=4)
    rollout = paradigm.run(batch([4.0, 2.0], [PIXELS] * 2), script.sample)
    group_rewards = paradigm.reward(rollout.groups)
    assert group_rewards.total.tolist() == [[2, 1, 1, 0], [2, 2, 2, 2]]
    assert group_rewards.parts["format"].tolist() == [[1, 0, 1, 0], [1, 1, 1, 1]]
    (earned,) = group_rewards.advantages
    assert earned[0, :, 0].tolist() == near(*spread([2, 1, 1, 0]))
    assert (earned[1] == 0).all() and torch.equal(earned[..., 0], earned[..., 1])
    asked = script.asked[0][0]
    assert asked is not None and asked.pixels is PIXELS
    assert [m.role for m in asked.messages] == ["system", "user"]
    told = figures(paradigm, rollout, group_rewards)
    assert told["reward"] == pytest.approx(1.5) and told["zero_variance"] == 0.5
    assert told["reward/format"] == 0.75 and told["pass1/unparsed"] == 1 / 8
    assert group_rewards.of([1]).total.tolist() == [[2, 2, 2, 2]]
    assert (group_rewards.of([1]).advantages[0] == 0).all()


def test_score_with_a_reward_of_the_order_beside() -> None:
    """Two images, two answers each: the rewards add up, and two forms are refused."""
    script = Script([[answer(4.1), answer(3.0)], [answer(2), answer(2)]])
    ranking = PairwiseRanking(form="json")
    paradigm = Score(group=2, ranking=Slot(ranking, weight=3.0, credit="rating"))
    groups = paradigm.run(batch([4.0, 2.0], [PIXELS] * 2), script.sample).groups
    rewards = paradigm.reward(groups)
    assert set(rewards.parts) == {"score", "format", "ranking"}
    assert torch.equal(rewards.parts["ranking"], ranking(groups))
    # The first image is the better one: its higher rating is further above the other image's.
    assert rewards.parts["ranking"][0, 0] > rewards.parts["ranking"][0, 1]
    assert torch.allclose(
        rewards.total, torch.tensor([[2.0, 1.0], [2.0, 2.0]]) + 3 * ranking(groups)
    )
    with pytest.raises(InputError, match="score reads json, ranking reads number"):
        Score(ranking=Slot(PairwiseRanking()))


def test_visual_quality_ranks_images() -> None:
    script = Script([["<think>a</think> <answer>4</answer>"] * 2, ["<answer>2</answer>"] * 2])
    paradigm = VisualQuality(group=2)
    groups = paradigm.run(batch([4.2, 1.7], [PIXELS] * 2), script.sample).groups
    ranked = PairwiseRanking()(groups)
    assert torch.allclose(paradigm.reward(groups).total, ranked + torch.tensor([[1.0], [0.0]]))
    assert paradigm.forms == ("number",)
    asked = script.asked[0][0]
    assert asked is not None and [m.role for m in asked.messages] == ["user"]


def test_multi_task_asks_each_image_for_what_is_known_of_it() -> None:
    named = '{"distortion_class": "blur", "severity": "%s"}'
    said = [
        f"<think>\na\n</think>\n<answer>\n{named % s}\n</answer>" for s in ("slight", "serious")
    ]
    script = Script([said, [answer(2.0), "none"]])
    degraded = Sample("own", "all", 10, "0.png", None, degradation=("blur", "serious"))
    rated = Sample("own", "all", 11, "1.png", None, 2.0)
    paradigm = MultiTask(group=2)
    assert paradigm.suited([rated, degraded, replace(rated, mos=math.nan)]) == [rated, degraded]
    images = batch([math.nan, 2.0], [PIXELS] * 2)
    images["samples"] = Samples([degraded, rated])
    rollout = paradigm.run(images, script.sample)
    group_rewards = paradigm.reward(rollout.groups)
    assert group_rewards.total.tolist() == [[1.25, 2], [2, 0]]
    asked = [chat.messages[-1].text for chat in script.asked[0] if chat]
    assert prompts.DEGRADATION in asked[0] and prompts.SCORE in asked[1]
    assert prompts.SCORE in paradigm.question(images, 0).messages[-1].text
    assert figures(paradigm, rollout, group_rewards)["pass1/unparsed"] == 0.5


def test_without_reasoning_the_answer_is_all() -> None:
    said = '<answer>\n{"rating": 4.1}\n</answer>'
    script = Script([[said, answer(4.1)]])
    paradigm = WithoutReasoning(group=2)
    groups = paradigm.run(batch([4.0], [PIXELS]), script.sample).groups
    assert paradigm.reward(groups).total.tolist() == [[2, 1]]
    asked = script.asked[0][0]
    assert asked is not None and "without any reasoning" in asked.messages[0].text


def test_chain_of_thought() -> None:
    """Equations 1 to 3: captions by the mean of their ratings, ratings among those of a caption."""
    script = Script(
        [["a sharp photo", "<caption>noise</caption>"]],
        [[answer(4.0), '<answer>{"rating": 4.175}</answer>'], [answer(1.0), "none"]],
    )
    paradigm = ChainOfThought(group=2, second=2)
    rollout = paradigm.run(batch([4.0], [PIXELS]), script.sample)
    group_rewards = paradigm.reward(rollout.groups)
    assert group_rewards.total[0].tolist() == near(1.0, 0.25)
    assert group_rewards.parts["score"][0].tolist() == near(0.75, 0.0)
    first, second = group_rewards.advantages
    assert first[0, :, 0].tolist() == near(*spread([1.0, 0.25]))
    assert second[0, :, 0].tolist() == near(*spread([1.5, 0.5]))
    assert second[1, :, 1].tolist() == near(*spread([0.5, 0.0]))
    for chat, caption in zip(script.asked[1], ("a sharp photo", "noise"), strict=True):
        assert chat is not None and chat.pixels is None
        assert f"described as {caption}," in chat.messages[-1].text
    assert paradigm.updates == (True, True) and paradigm.forms == (None, "json")
    assert figures(paradigm, rollout, group_rewards)["pass2/unparsed"] == 0.25


def test_an_unparsable_caption_keeps_its_place() -> None:
    script = Script([["<answer>3</answer>", "noise"]], [[], [answer(4.0), answer(1.0)]])
    paradigm = ChainOfThought(group=2, second=2)
    rollout = paradigm.run(batch([4.0], [PIXELS]), script.sample)
    group_rewards = paradigm.reward(rollout.groups)
    assert rollout.handed == [None, "noise"] and script.asked[1][0] is None
    assert group_rewards.total[0].tolist() == near(0.0, 1.0)
    assert group_rewards.advantages[1][..., 0].tolist()[0] == [0, 0]
    assert group_rewards.advantages[1][1, :, 0].tolist() == near(*spread([1.5, 0.5]))
    rows = list(table(paradigm, rollout, group_rewards))
    assert rows[0]["second pass"] == "(not asked)" and rows[1]["image"] == "own 10"
    assert figures(paradigm, rollout, group_rewards)["nothing_handed"] == 0.5


def test_self_consistency() -> None:
    """Equation 4, with the caption before <think> handed on, and nothing without it."""
    script = Script(
        [[described("dark", 2.0), described("a rating of 3.7", 3.0), "no caption"]],
        [[answer(2.175)], [answer(2.0)], []],
    )
    paradigm = SelfConsistency(group=3)
    rollout = paradigm.run(batch([2.0], [PIXELS]), script.sample)
    group_rewards = paradigm.reward(rollout.groups)
    rewards = [1 + 0.5 + 0.5, 0 + 0.5 + 1, 0]
    assert group_rewards.total[0].tolist() == near(*rewards)
    assert group_rewards.advantages[0][0, :, 0].tolist() == near(*spread(rewards))
    assert group_rewards.advantages[1][:, 0, 0].tolist() == near(*spread(rewards))
    handed = script.asked[1][0]
    assert handed is not None and "<caption>\ndark\n</caption>" in handed.messages[-1].text
    assert "2.0" not in handed.messages[-1].text
    told = figures(paradigm, rollout, group_rewards)
    assert told["leaks"] == 0.5 and told["pass1/unparsed"] == pytest.approx(1 / 3)


def test_masked_credit_tells_reasoning_from_rating() -> None:
    said = [described("dark", 2.0), described("grey", 3.0)]
    script = Script([said], [[answer(3.0)], [answer(2.0)]])
    paradigm = SelfConsistency(group=2, reward_credit="masked")
    groups = paradigm.run(batch([2.0], [PIXELS]), script.sample).groups
    (earned, second) = paradigm.reward(groups).advantages
    assert earned[0, :, 0].tolist() == near(*spread([0 + 0.5, 1 + 0.5]))
    assert earned[0, :, 1].tolist() == near(*spread([1 + 0.5, 0 + 0.5]))
    assert (second == 0).all()


def test_autoencoder_tells_the_mos_in_training_alone() -> None:
    images = batch([3.7], [PIXELS])
    script = Script(
        [["blurred", "too dark"]], [[answer(3.7)], ['<answer>{"rating": 3.7}</answer>']]
    )
    paradigm = Autoencoder(group=2)
    group_rewards = paradigm.reward(paradigm.run(images, script.sample).groups)
    assert group_rewards.total[0].tolist() == near(1.5, 1.0)
    told = script.asked[0][0]
    assert told is not None and "rated as 3.7." in told.messages[-1].text
    assert "rated as some score." in paradigm.question(images, 0).messages[-1].text


class Telling(Autoencoder):
    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        return super().first(batch, row)


@pytest.mark.parametrize("mos", [3.7, 1.0, 4.4801])
def test_a_mos_in_a_question_that_wants_a_score_is_refused(mos: float) -> None:
    with pytest.raises(InputError, match="holds its MOS"):
        Telling().question(batch([mos], [PIXELS]), 0)


def test_human_aligned() -> None:
    said = [described("a dark dog", 2.0), described("a cat", 2.0)]
    script = Script([said], [[answer(2.0)], [answer(2.0)]])
    paradigm = HumanAligned(group=2)
    sample = Sample("own", "all", 10, "0.png", None, 2.0, texts=("dark dog", "a b c d e f g h"))
    images = batch([2.0], [PIXELS])
    images["samples"] = Samples([sample])
    rollout = paradigm.run(images, script.sample)
    group_rewards = paradigm.reward(rollout.groups)
    # Four words, "sharp" of the reasoning among them: "dark dog" shares two of them and all of its.
    assert group_rewards.parts["human"][0].tolist() == near(2 / 3, 2 / 11)
    assert group_rewards.total[0].tolist() == near(2.5 + 2 / 3, 2.5 + 2 / 11)
    without = replace(sample, texts=())
    assert paradigm.suited([sample, without, replace(sample, mos=math.nan)]) == [sample]


@pytest.mark.parametrize(
    "said",
    [
        *("", "no tags", "图像很清晰", "<answer>", answer('"four"'), answer("6.0"), answer("NaN")),
        answer('1.0, "rating": 2.0'),
        '<answer>{"rating": <answer>3</answer>}</answer>',
    ],
)
@pytest.mark.parametrize("kind", [Score, SelfConsistency, ChainOfThought, Autoencoder])
def test_completions_without_a_rating_earn_no_score(said: str, kind: type[Paradigm]) -> None:
    paradigm = kind(group=2)  # type: ignore[call-arg]
    again = [said] * paradigm.second
    handed = paradigm.extract_caption(said)
    second = [again if paradigm.second and handed is not None else []] * 2
    groups = paradigm.run(batch([3.0], [PIXELS]), Script([[said] * 2], second).sample).groups
    group_rewards = paradigm.reward(groups)
    assert group_rewards.parts["score"].tolist() == [[0, 0]]
    assert all((each == 0).all() for each in group_rewards.advantages)


def test_settings_that_teach_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="group=1: a completion is compared with others"):
        Score(group=1)
    with pytest.raises(InputError, match="train at least one pass that exists"):
        SelfConsistency(update_pass1=False, update_pass2=False)
    with pytest.raises(InputError, match="train at least one pass that exists"):
        ChainOfThought(second=0)
    with pytest.raises(InputError, match="make one a SecondPass"):
        ChainOfThought(Slot(CosineScore()), Slot(Format()))


class Forgetful(SelfConsistency):
    """As the released code: the caption never enters the second question."""

    def second_prompt(self, text: str) -> Chat:
        return ask(prompts.second_pass("{caption}"))


class Seeing(SelfConsistency):
    def second_prompt(self, text: str) -> Chat:
        return ask(text, PIXELS)


def test_a_second_pass_is_told_the_caption_and_sees_no_image() -> None:
    with pytest.raises(InputError, match="lacks the text of the first"):
        Forgetful().second_question("a dark dog")
    with pytest.raises(InputError, match="sees text only"):
        Seeing().second_question("a dark dog")
    # A placeholder that a model has written is taken out, and the rest is still found.
    assert SelfConsistency().second_question(" a <|image|>dark dog ").pixels is None


def test_a_completion_stays_what_it_was() -> None:
    said = Completion((1, 2), "dark", finished=False)
    paradigm = Score(group=2)
    rollout = paradigm.run(batch([3.0], [PIXELS]), lambda chats, n: [[said] * n])
    told = figures(paradigm, rollout, paradigm.reward(rollout.groups))
    assert told["pass1/truncated"] == 1 and told["pass1/length"] == 2
    assert next(table(paradigm, rollout, paradigm.reward(rollout.groups)))["said"].endswith("off]")
