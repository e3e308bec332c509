"""Completions equal those of a loop that computes everything anew for every token."""

from __future__ import annotations

import pytest
import torch
from talkers import FAMILIES, Family, chats_for, plain_logits, shared_talker, talker
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.rollout.engine import Sampling, generate
from lit_biqa.types import Chat, InputError, ask

BUDGET = 10
GREEDY = Sampling(temperature=0, budget=BUDGET)
WARM = Sampling(temperature=0.8, top_k=20, top_p=0.9, budget=BUDGET)


@torch.no_grad()
def written(
    model: VisionLanguageModel, chat: Chat, n: int, sampling: Sampling, seed: int
) -> list[tuple[int, ...]]:
    uniforms = torch.rand(n, sampling.budget, generator=torch.Generator().manual_seed(seed))
    rows = []
    for row in uniforms:
        said: list[int] = []
        for uniform in row:
            logits = plain_logits(model, chat, torch.tensor([*said, 0]))[-1:]
            said.append(int(sampling.choose(logits, uniform[None])))
            if said[-1] in model.end:
                break
        rows.append(tuple(said))
    return rows


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "sampled"])
@pytest.mark.parametrize("family", FAMILIES)
def test_chats_of_every_kind_are_answered_as_alone(family: Family, sampling: Sampling) -> None:
    model = shared_talker(family)
    chats = chats_for(model)
    found = generate(model, chats, 2, sampling, seeds=[5, 6, 7])
    for chat, completions, seed in zip(chats, found, [5, 6, 7], strict=True):
        assert [c.ids for c in completions] == written(model, chat, 2, sampling, seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_chat_alone_is_answered_several_times(family: Family) -> None:
    model = shared_talker(family)
    (found,) = generate(model, chats_for(model)[-1:], 3, WARM, seeds=[4])
    assert [c.ids for c in found] == written(model, chats_for(model)[-1], 3, WARM, 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_end_leave_the_others_as_they_are(family: Family) -> None:
    model = talker(family)
    model.end = tuple(range(0, 600, 3))
    chats = chats_for(model)
    found = generate(model, chats, 5, WARM)
    lengths = {len(completion.ids) for completions in found for completion in completions}
    assert len(lengths) > 3
    for seed, (chat, completions) in enumerate(zip(chats, found, strict=True)):
        assert [c.ids for c in completions] == written(model, chat, 5, WARM, seed)
        for completion in completions:
            ended = completion.ids[-1] in model.end
            assert completion.finished == ended
            assert ended or len(completion.ids) == BUDGET
            assert completion.text == model.text(completion.ids[: len(completion.ids) - ended])


def test_what_a_chat_gives_depends_on_its_seed_alone() -> None:
    model = shared_talker(FAMILIES[1])
    chats = chats_for(model) * 2
    seeds = [3, 4, 5, 6, 7, 3]
    whole = generate(model, chats, 3, WARM, seeds)
    assert generate(model, chats, 3, WARM, seeds, batch_size=2) == whole
    assert [
        generate(model, [c], 3, WARM, [s])[0] for c, s in zip(chats, seeds, strict=True)
    ] == whole
    assert generate(model, chats[:1], 3, WARM, [8]) != whole[:1]
    assert generate(model, [], 3, WARM) == []


@pytest.mark.parametrize("top_k, top_p", [(0, 1.0), (7, 1.0), (0, 0.7), (9, 0.8)])
def test_tokens_are_drawn_as_transformers_would(top_k: int, top_p: float) -> None:
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(0)) * 2
    warped = TemperatureLogitsWarper(1.3)(None, logits)
    warped = TopKLogitsWarper(top_k)(None, warped) if top_k else warped
    expected = TopPLogitsWarper(top_p)(None, warped).softmax(1)[0]
    count = 20_000
    uniforms = (torch.arange(count) + 0.5) / count
    drawn = Sampling(1.3, top_k, top_p).choose(logits.expand(count, -1), uniforms)
    assert torch.allclose(drawn.bincount(minlength=30) / count, expected, atol=2 / count)


def test_the_last_uniform_below_one_draws_a_token_that_can_be() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, -torch.inf]])
    last = torch.tensor([1 - 2**-24])
    assert Sampling(top_k=0).choose(logits, last).item() == 2
    assert Sampling(top_k=0, top_p=0.5).choose(logits, last).item() < 3


def test_what_does_not_fit_the_context_is_refused_before_weights_are_read() -> None:
    model = FAMILIES[1](context=64)
    with pytest.raises(InputError, match="the context has 64"):
        generate(model, [ask("Short?"), ask("Long? " * 40)], 2, Sampling(budget=8))
    with pytest.raises(InputError, match="the context has 64"):
        generate(model, [ask("Short?")], 2, Sampling(budget=64))


def test_other_attention_is_refused_where_it_would_be_wrong() -> None:
    model = talker(FAMILIES[0])
    model.model.set_attn_implementation("eager")
    with pytest.raises(RuntimeError, match="shared_prefix"):
        generate(model, chats_for(model), 1, GREEDY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"budget": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Sampling(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 1"):
        generate(shared_talker(FAMILIES[0]), [], n=0)
