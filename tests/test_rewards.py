"""Every reward by hand; the ranking against the paper's equations, pair by pair."""

from __future__ import annotations

import doctest
import importlib
import math
import pkgutil
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lit_biqa import rewards
from lit_biqa.rewards import (
    CosineScore,
    Degradation,
    Format,
    PairwiseRanking,
    Reward,
    Rouge1,
    SecondPass,
    Slot,
    StepScore,
    total,
)
from lit_biqa.types import Completion, Group


def said(text: str) -> Completion:
    return Completion((), text)


def rated(rating: object) -> Completion:
    return said(f'<think>\nwhy\n</think>\n<answer>\n{{"rating": {rating}}}\n</answer>')


def group(*completions: Completion, mos: float = 3.0, index: int = 0) -> Group:
    return Group(mos, 0.5, "koniq10k", index, completions)


def test_docstrings() -> None:
    files = pkgutil.iter_modules(rewards.__path__, f"{rewards.__name__}.")
    names = {**vars(rewards), "Completion": Completion, "Group": Group, "math": math}
    modules = [importlib.import_module(file.name) for file in files]
    results = [doctest.testmod(module, extraglobs=names) for module in modules]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) > 15


def test_step_score() -> None:
    one = group(rated(3.34), rated(3.36), rated(2.66), rated(2.64))
    other = group(rated(3.0), rated("four"), rated(3.35), said(""), mos=3.0)
    assert StepScore()([one, other]).tolist() == [[1, 0, 1, 0], [1, 0, 0, 0]]
    assert StepScore(tolerance=0.37)([one]).tolist() == [[1, 1, 1, 1]]


def test_cosine_score() -> None:
    found = CosineScore(tolerance=0.4)([group(*map(rated, (3, 3.1, 2.8, 3.4, 3.5, "NaN")))])
    expected = [1, (1 + math.cos(math.pi / 4)) / 2, 0.5, 0, 0, 0]
    assert torch.allclose(found, torch.tensor([expected]).float(), atol=1e-6)


@pytest.mark.parametrize("reward", [StepScore(), CosineScore(), StepScore(form="number")])
def test_what_has_no_rating_or_no_mos_earns_nothing(reward: Reward) -> None:
    broken = [said(""), said("3.0"), said("<answer>three</answer>"), rated(6.0)]
    assert not reward([group(*broken)]).any()
    assert not reward([group(rated(6.0), mos=5.9)]).any(), "not even beside a MOS out of range"
    assert not reward([group(rated(3.0), mos=math.nan)]).any()


def test_format() -> None:
    one = group(rated(3), said("<think>a</think><answer>3</answer>"), said("3"))
    assert Format()([one]).tolist() == [[1, 0, 0]]
    assert Format("lenient")([one]).tolist() == [[1, 1, 0]]
    begun = group(rated(3), said("<think>\na\n</think>\n<answer>\n3\n</answer>, all in all"))
    assert Format("prefix")([begun]).tolist() == [[1, 1]]
    assert not Format("lenient")([begun])[0, 1]
    assert Format("lenient", tags=("answer",))([group(said("<answer>3</answer>"))]).item() == 1


def test_second_pass_averages_over_its_completions() -> None:
    first = group(said("sharp"), said("soft"), said("no caption"))
    second = ((rated(3.0), rated(4.0)), (rated(3.175), rated("four")), ())
    groups = [replace(first, second=second)]
    assert torch.allclose(SecondPass()(groups), torch.tensor([[0.5, 0.25, 0.0]]), atol=1e-6)
    assert SecondPass(Format())(groups).tolist() == [[1, 1, 0]]
    with pytest.raises(ValueError, match="second pass of 0, not 3"):
        SecondPass()([first])


def test_rouge_of_caption_and_reasoning_best_over_references() -> None:
    text = "<caption>a cat</caption><think>it is sharp</think><answer>4.2 blurred</answer>"
    one = replace(group(said(text)), references=("blurred", "sharp cat", "a dog"))
    assert Rouge1("precision")([one]).item() == pytest.approx(2 / 5)
    assert Rouge1("recall")([one]).item() == 1
    assert Rouge1()([one]).item() == pytest.approx(4 / 7)
    assert Rouge1(function_words=False)([one]).item() == 1
    assert Rouge1()([group(said(text))]).item() == 0


def test_severity_counts_only_for_the_right_class() -> None:
    def named(kind: str, severity: str) -> Completion:
        answer = f'{{"distortion_class": "{kind}", "severity": "{severity}"}}'
        return said(f"<answer>{answer}</answer>")

    completions = [named("blur", "slight"), named("blur", "obvious"), named("noise", "slight")]
    one = replace(group(*completions, said("blur")), degradation=("blur", "slight"))
    assert Degradation()([one]).tolist() == [[1, 0.25, 0, 0]]
    assert not Degradation()([group(*completions)]).any()


def ranking(
    scores: list[list[float]], mos: list[float], i: int, k: int, others: list[int]
) -> float:
    """VisualQuality-R1's equations 1 to 3 for one rating, with the standard library."""
    terms = []
    for j in others:
        spread = statistics.variance(scores[i]) + statistics.variance(scores[j]) + 1e-6
        p = statistics.NormalDist().cdf(
            (scores[i][k] - statistics.mean(scores[j])) / math.sqrt(spread)
        )
        g = 1.0 if mos[i] > mos[j] else 0.5 if mos[i] == mos[j] else 0.0
        terms.append(math.sqrt(p * g + 1e-6) + math.sqrt((1 - p) * (1 - g) + 1e-6))
    return statistics.mean(terms)


SCORES = [[1.2, 2.5, 2.0], [3.1, 2.9, 4.4], [2.2, 2.2, 2.2], [5.0, 4.1, 1.0]]
MOS = [1.5, 3.3, 3.3, 4.0]


def images() -> list[Group]:
    return [
        group(*(said(f"<answer>{s}</answer>") for s in row), mos=mos, index=i)
        for i, (row, mos) in enumerate(zip(SCORES, MOS, strict=True))
    ]


def test_ranking_equals_the_equations() -> None:
    expected = [
        [ranking(SCORES, MOS, i, k, [j for j in range(4) if j != i]) for k in range(3)]
        for i in range(4)
    ]
    assert torch.allclose(PairwiseRanking()(images()), torch.tensor(expected), atol=1e-5)


def test_ranking_compares_within_a_data_set_alone() -> None:
    groups = images()
    groups[2] = replace(groups[2], dataset="spaq")
    groups.append(replace(groups[2], dataset="kadid10k"))
    found = PairwiseRanking()(groups)
    expected = [ranking(SCORES, MOS, 0, k, [1, 3]) for k in range(3)]
    assert torch.allclose(found[0], torch.tensor(expected), atol=1e-5)
    assert not found[[2, 4]].any(), "alone of its data set"


def test_ranking_within_a_process_leaves_out_the_images_of_others() -> None:
    groups = [replace(each, process=i % 2) for i, each in enumerate(images())]
    assert torch.equal(PairwiseRanking()(groups), PairwiseRanking()(images()))
    expected = [[ranking(SCORES, MOS, i, k, [(i + 2) % 4]) for k in range(3)] for i in range(4)]
    found = PairwiseRanking(ranked_within="process")(groups)
    assert torch.allclose(found, torch.tensor(expected), atol=1e-5)


def test_ranking_without_ratings() -> None:
    groups = images()
    groups[1] = replace(groups[1], completions=(said("no idea"),) * 3)
    broken = said("<answer>high</answer>")
    groups[0] = replace(groups[0], completions=(broken, *groups[0].completions[1:]))
    groups[3] = replace(groups[3], mos=math.nan)
    found = PairwiseRanking()(groups)
    assert found[0, 0] == 0
    assert not found[1].any()
    assert not found[3].any()
    scores = [SCORES[0][1:], SCORES[2]]
    expected = [ranking(scores, [MOS[0], MOS[2]], 0, k, [1]) for k in range(2)]
    assert torch.allclose(found[0, 1:], torch.tensor(expected), atol=1e-5)


def test_total_weighs_and_keeps_the_parts() -> None:
    groups = [group(rated(3), said("3")), group(rated(1), rated(3))]
    slots = {"score": Slot(StepScore(), 2.0), "format": Slot(Format(), 0.5)}
    summed, parts = total(slots, groups)
    assert summed.tolist() == [[2.5, 0], [0.5, 2.5]]
    assert parts["score"].tolist() == [[1, 0], [0, 1]]
    assert parts["format"].tolist() == [[1, 0], [1, 1]]


def test_total_names_a_reward_that_is_not_finite() -> None:
    class Odd(Reward):
        def __call__(self, groups: Sequence[Group]) -> Tensor:
            return torch.full((1, 1), math.nan)

    with pytest.raises(ValueError, match="reward odd is not finite"):
        total({"odd": Slot(Odd())}, [group(rated(3))])
