"""GRPO's loss against a plain restatement, its guards, and what it leaves in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from PIL import Image
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
from scripts import Plain, Script, Vowels, answer, batch, described
from torch import Tensor

from lit_biqa.backbones.inputs import Inputs, Row, extended
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.compat.peft import adapters_off
from lit_biqa.data.loader import ResumingSampler
from lit_biqa.methods.grpo import GRPO, PolicySettings, RolloutSettings, rollouts
from lit_biqa.paradigms import (
    Autoencoder,
    ChainOfThought,
    HumanAligned,
    MultiTask,
    Paradigm,
    Score,
    SelfConsistency,
)
from lit_biqa.readouts import Rated, ratings
from lit_biqa.rewards import Slot
from lit_biqa.rollout.engine import Sampling
from lit_biqa.types import Batch, Chat, Completion, InputError, Samples

# The penalty is large, so that it is seen.
POLICY = PolicySettings(beta=0.5, rows_at_once=3)
LORA = Tuning(how="lora", rank=4, alpha=8)
SMALL = {"vocabulary": 320, "width": 32, "layers": 2}
MOS = (4.0, 2.0)
CAPTIONS = (("a sharp photo", "noise"), ("very dark", "<answer>2</answer>"))
RATINGS = [[answer(4.1), "4"], [answer(1), answer(2)], [answer(2.1), answer(4)], []]
DESCRIBED = [[described("sharp", 4.1), "no"], [described("dark", 4), described("grey dog", 2.2)]]
ONCE = [[answer(4)], [], [answer(2.1)], ["2"]]

Make = Callable[[], Paradigm]
PLAYS: dict[str, tuple[Make, list[list[list[str]]]]] = {
    "score": (
        partial(Score, group=3),
        [[[answer(4.1), "good", answer(1)], [answer(2), answer(5), "<answer>"]]],
    ),
    **{
        f"chain {a}{b}": (
            partial(ChainOfThought, group=2, second=2, update_pass1=a, update_pass2=b),
            [[list(some) for some in CAPTIONS], RATINGS],
        )
        for a, b in ((True, True), (True, False), (False, True))
    },
    **{
        f"consistency {a}{b}": (
            partial(SelfConsistency, group=2, update_pass1=a, update_pass2=b),
            [DESCRIBED, [ONCE[0], [], ONCE[2], ONCE[3]]],
        )
        for a, b in ((True, True), (True, False), (False, True))
    },
    "masked": (
        partial(SelfConsistency, group=2, reward_credit="masked"),
        [DESCRIBED, [ONCE[0], [], ONCE[2], ONCE[3]]],
    ),
    "autoencoder": (
        partial(Autoencoder, group=2),
        [[["sharp", "noise"], ["dark", "so dark"]], [ONCE[0], ONCE[3], ONCE[2], ONCE[3]]],
    ),
    "human": (
        partial(HumanAligned, group=2),
        [DESCRIBED, [ONCE[0], [], ONCE[2], ONCE[3]]],
    ),
}


@pytest.fixture(scope="module")
def qwen() -> VisionLanguageModel:
    return loaded(TinyQwenVL(**SMALL))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def owl() -> VisionLanguageModel:
    return loaded(TinyMplugOwl2(**SMALL, tuning=LORA))  # type: ignore[arg-type]


def loaded(model: VisionLanguageModel) -> VisionLanguageModel:
    """Random, with updates of LoRA that are no longer zero."""
    model.load()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    model.zero_grad()
    return model


def images(model: VisionLanguageModel) -> Batch:
    sizes = ((60, 60), (60, 90))
    pixels = [model.image_transform(Image.effect_noise(size, 90).convert("RGB")) for size in sizes]
    return batch(MOS, pixels, "a sharp dog")


def method(
    model: VisionLanguageModel,
    paradigm: Paradigm,
    sampling: Sampling = Sampling(),
    policy: PolicySettings = POLICY,
) -> GRPO:
    """Ready for a step without a Trainer, its reference another model than itself."""
    made = GRPO(model, paradigm, torch.optim.SGD, sampling=sampling, policy=policy)
    made.reference.keep(model)
    if made.reference.copy is not None:
        with torch.no_grad():
            for weight in made.reference.copy.parameters():
                weight.mul_(1.5)
    return made


class Written(Script):
    """Says texts as the tokens of a model, the last of each chat cut off before its end."""

    def __init__(self, model: VisionLanguageModel, passes: list[list[list[str]]]) -> None:
        super().__init__(*passes)
        self.model = model

    def completion(self, text: str) -> Completion:
        ids = self.model.tokenize(text)
        finished = len(ids) % 2 == 0
        return Completion((*ids, *([self.model.end[0]] * finished)), text, finished)


def scripted(monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    monkeypatch.setattr(rollouts, "CompletionSampler", lambda *_: script)


def gradients(model: VisionLanguageModel) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def restated(made: GRPO) -> Tensor:
    """The loss, each completion behind its whole prompt by itself, all logits at once."""
    assert made.rollout is not None
    rollout, group_rewards = made.rollout.rollout, made.rollout.rewards
    losses = []
    for said, earned, trained in zip(
        rollout.passes, group_rewards.advantages, made.paradigm.updates, strict=False
    ):
        rows = zip(said.chats, said.completions, earned, strict=True)
        each = [
            of_completion(made, chat, one, credit)
            for chat, some, credits in rows
            if chat is not None
            for one, credit in zip(some, credits, strict=True)
        ]
        losses += [torch.stack(each).mean()] * trained
    return torch.stack(losses).sum()


def of_completion(made: GRPO, chat: Any, said: Completion, credit: Tensor) -> Tensor:
    before = made.backbone.encode_chat(chat)
    row = extended(before, said.ids)
    whole = Inputs(
        row.ids[None],
        torch.ones_like(row.ids[None]).bool(),
        row.image[None],
        row.positions[:, None],
        None,
        (chat.pixels,),
    )
    now = plain(made.backbone, whole, len(before.ids))
    with torch.no_grad():
        if made.reference.copy is not None:
            reference = plain(made.reference.copy, whole, len(before.ids))
        else:
            with adapters_off(made.backbone):
                reference = plain(made.backbone, whole, len(before.ids))
    advantage = torch.full((len(said.ids),), float(credit[0]))
    if made.paradigm.reward_credit == "masked":
        counts = [len(made.backbone.text(said.ids[: n + 1])) for n in range(len(said.ids))]
        start = said.text.find("<answer>")
        rating = torch.tensor([start >= 0 and count > start for count in counts])
        advantage[rating] = float(credit[1])
    k3 = (reference - now).exp() - (reference - now) - 1
    return (-(now - now.detach()).exp() * advantage + made.objective.beta * k3).mean()


def plain(model: VisionLanguageModel, inputs: Inputs, prompt: int) -> Tensor:
    def work(model: VisionLanguageModel, inputs: Inputs) -> Tensor:
        hidden = model.hidden(inputs).last_hidden_state
        logits: Tensor = hidden @ model.head.weight.T
        return logits

    logits: Tensor = model(work, inputs)
    said = inputs.ids[0, prompt:]
    return logits[0, prompt - 1 : -1].log_softmax(-1).gather(1, said[:, None])[:, 0]


def assert_equal_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert {name for name, g in ours.items() if g.any()} == {
        n for n, g in theirs.items() if g.any()
    }
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    assert largest > 1e-4
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).abs().max()) < 1e-5 * largest, name


@pytest.mark.parametrize("play", PLAYS)
@pytest.mark.parametrize("family", ["qwen", "owl"])
def test_loss_and_gradients_equal_a_plain_restatement(
    play: str, family: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if family == "owl" and play not in ("chain TrueTrue", "masked"):
        return
    model: VisionLanguageModel = request.getfixturevalue(family)
    make, passes = PLAYS[play]
    scripted(monkeypatch, Written(model, passes))
    made = method(model, make())
    loss, parts = made.compute_loss(images(model))
    loss.backward()  # type: ignore[no-untyped-call]
    ours = gradients(model)
    expected = restated(made)
    expected.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-7)
    assert_equal_gradients(ours, gradients(model))
    trained = [f"pass{n}" for n, on in enumerate(made.paradigm.updates, 1) if on]
    for each in trained:
        assert float(parts[f"{each}/ratio"]) == pytest.approx(1)
        assert float(parts[f"{each}/kl"]) > 0 and float(parts[f"{each}/clipped"]) == 0
    assert {name for name in parts if name.endswith("ratio")} == {f"{n}/ratio" for n in trained}
    if made.paradigm.updates == (False, True):
        assert not any("visual" in name for name in ours), "the second pass sees no image"


@pytest.mark.parametrize("aggregation", ["dr_grpo", "dapo"])
def test_other_aggregations_divide_by_all_tokens_or_the_budget(
    aggregation: Any, qwen: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, passes = PLAYS["score"]
    scripted(monkeypatch, Written(qwen, passes))
    policy = PolicySettings(beta=0.0, aggregation=aggregation, rows_at_once=3)
    made = method(qwen, make(), Sampling(budget=100), policy)
    loss, _ = made.compute_loss(images(qwen))
    qwen.zero_grad()
    assert made.rollout is not None
    (update,) = made.rollout.updates
    counted = update.said.mask.flatten(0, 1)
    sizes = {"dapo": int(counted.sum()), "dr_grpo": 6 * 100}
    expected = -(update.advantages * counted).sum() / sizes[aggregation]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_later_updates_are_measured_against_the_policy_that_spoke(
    qwen: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = deepcopy(qwen)
    make, passes = PLAYS["chain TrueTrue"]
    scripted(monkeypatch, Written(model, passes))
    made = method(model, make(), policy=replace(POLICY, iterations=2))
    monkeypatch.setattr(LightningModule, "global_step", 0)
    data = images(model)
    _, first = made.compute_loss(data)
    old = [update.old for update in made.rollout.updates]  # type: ignore[union-attr]
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.01)
    monkeypatch.setattr(LightningModule, "global_step", 1)
    _, second = made.compute_loss(data)
    assert made.rollout is not None
    for update, before in zip(made.rollout.updates, old, strict=True):
        assert update.old is before is not None
    assert float(first["pass1/ratio"]) == pytest.approx(1)
    assert abs(float(second["pass1/ratio"]) - 1) > 1e-4
    assert second["reward"] == first["reward"]


def test_a_checkpoint_holds_what_is_still_to_be_learned_from(
    qwen: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, passes = PLAYS["consistency TrueTrue"]
    scripted(monkeypatch, Written(qwen, passes))
    policy = replace(POLICY, iterations=2)
    made, data = method(qwen, make(), policy=policy), images(qwen)
    monkeypatch.setattr(LightningModule, "global_step", 1)
    made.compute_loss(data)
    again = method(qwen, make(), policy=policy)
    checkpoint: dict[str, Any] = {}
    made.on_save_checkpoint(checkpoint)
    again.on_load_checkpoint(checkpoint)
    monkeypatch.setattr(rollouts, "CompletionSampler", None)  # nothing new is said
    loss, _ = again.compute_loss(data)
    qwen.zero_grad()
    assert made.rollout is not None and again.rollout is not None
    assert again.rollout.rollout.groups == made.rollout.rollout.groups
    for one, other in zip(again.rollout.updates, made.rollout.updates, strict=True):
        assert one.old is not None and other.old is not None
        assert torch.equal(one.old, other.old) and torch.equal(one.advantages, other.advantages)
    assert loss.item() == made.compute_loss(data)[0].item()


def test_a_step_that_cannot_learn_is_an_error(
    qwen: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, passes = PLAYS["chain TrueTrue"]
    scripted(monkeypatch, Written(qwen, passes))
    made = method(qwen, make())
    loss, _ = made.compute_loss(images(qwen))
    loss.backward()  # type: ignore[no-untyped-call]
    logged: dict[str, Tensor] = {}
    monkeypatch.setattr(made, "log", logged.__setitem__)
    made.on_before_optimizer_step(SimpleNamespace())  # type: ignore[arg-type]
    squares = sum(p.grad.double().square().sum() for p in qwen.parameters() if p.grad is not None)
    assert float(logged["train/grad_norm"]) == pytest.approx(float(squares) ** 0.5, rel=1e-5)
    # As the released code of this paradigm: no gradient reaches the weights.
    scripted(monkeypatch, Written(qwen, passes))
    made.compute_loss(images(qwen))
    qwen.zero_grad()
    with pytest.raises(RuntimeError, match="all gradients are zero"):
        made.on_before_optimizer_step(SimpleNamespace())  # type: ignore[arg-type]


@pytest.mark.parametrize("said", [["no", "none"], [answer(4), answer(4)]])
def test_a_step_without_anything_to_learn_is_none(
    said: list[str], qwen: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, Written(qwen, [[said, said]]))
    made = method(qwen, Score(group=2))
    _, parts = made.compute_loss(images(qwen))
    qwen.zero_grad()
    made.on_before_optimizer_step(SimpleNamespace())  # type: ignore[arg-type]
    assert float(parts["zero_variance"]) == 1


def test_rollouts_follow_from_step_and_image(qwen: VisionLanguageModel) -> None:
    made = method(qwen, Score(Slot(Vowels()), group=2), sampling=Sampling(budget=4))
    data = images(qwen)
    first, again = (said(made, data) for _ in range(2))
    assert first == again and first[0] != first[1]
    columns: dict[str, Any] = {**data}
    del columns["samples"]
    second = {name: column[1:] for name, column in columns.items()}
    alone = Batch(samples=Samples([data["samples"][1]]), **second)  # type: ignore[typeddict-item]
    assert said(made, alone) == first[1:]
    made.seed = 1
    assert said(made, data) != first


def validation(
    monkeypatch: pytest.MonkeyPatch, made: GRPO, texts: Sequence[str], data: Batch
) -> dict[str, float]:
    """Rewards that a validation logs in which the first readout gets these answers."""
    (readout,), logged = made.readouts, dict[str, float]()
    monkeypatch.setattr(ratings, "CompletionSampler", lambda *_: Script([[each] for each in texts]))
    monkeypatch.setattr(made, "log", lambda tag, mean, **_: logged.update({tag: float(mean)}))
    made.on_validation_epoch_start()
    rows = made.validation_step(data, 0)
    assert {row.condition for row in rows} == set(readout.conditions)
    made.on_validation_epoch_end()
    return logged


def rated(protocol: ratings.Protocol, prefix: str = "") -> Rated:
    return Rated(protocol, texts=[], prefix=prefix)


def validated(model: VisionLanguageModel, paradigm: Paradigm, readout: Rated) -> GRPO:
    return GRPO(model, paradigm, torch.optim.SGD, readouts=[readout], policy=POLICY)


@pytest.mark.parametrize("prefix", ["", "seen-"])
def test_validation_rewards_answers_to_the_question_of_training(
    prefix: str, qwen: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q-Insight's rules by hand: MOS 4 and 2; 4.1 is near, 2.4 is not; one format is right."""
    said, data = [answer(4.1), '<answer>{"rating": 2.4}</answer>'], images(qwen)
    own = validated(qwen, Score(group=2), rated("matched", prefix))
    logged = validation(monkeypatch, own, said, data)
    assert logged == {"val/reward/score": 0.5, "val/reward/format": 0.5}
    other = validated(qwen, Score(group=2), rated("paper", prefix))
    assert validation(monkeypatch, other, said, data) == {}, "another question, another format"


def test_validation_rewards_what_people_wrote(
    qwen: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F by `rouge_score`: "a sharp dog sharp" and "a sharp dog" share 3 of 4 and 3 of 3 words."""
    made = validated(qwen, HumanAligned(group=2), rated("matched"))
    data, said = images(qwen), [described("a sharp dog", 4)] * 2
    logged = validation(monkeypatch, made, said, data)
    scorer = RougeScorer(["rouge1"])
    expected = scorer.score("a sharp dog", "a sharp dog sharp")["rouge1"].fmeasure
    assert logged["val/reward/human"] == pytest.approx(expected)
    assert logged["val/reward/format"] == 1 and "val/reward/consistency" not in logged
    alone = batch(MOS, data["pixels"])
    assert "val/reward/human" not in validation(monkeypatch, made, said, alone), "no references"


def test_validation_rewards_ratings_of_images_whose_task_is_a_rating(
    qwen: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, data = validated(qwen, MultiTask(group=2), rated("matched")), images(qwen)
    degraded = replace(data["samples"][1], mos=math.nan, degradation=("blur", "slight"))
    data["samples"] = Samples([data["samples"][0], degraded])
    logged = validation(monkeypatch, made, [answer(4.1), "no"], data)
    assert logged == {"val/reward/score": 1.0, "val/reward/format": 1.0}


def test_each_chat_is_encoded_once_for_sampling_reference_and_loss(
    qwen: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, encoded = TinyQwenVL.encode_chat, list[Chat]()

    def counted(model: TinyQwenVL, chat: Chat) -> Row:
        encoded.append(chat)
        return encode(model, chat)

    monkeypatch.setattr(TinyQwenVL, "encode_chat", counted)
    said(method(qwen, Plain(), sampling=Sampling(budget=4)), images(qwen))
    # Two images, then a caption of each of two completions about each.
    assert len(encoded) == len(set(encoded)) == 2 + 4


def said(made: GRPO, data: Batch) -> list[tuple[Completion, ...]]:
    made.compute_loss(data)
    made.backbone.zero_grad()
    assert made.rollout is not None
    return [group.completions for group in made.rollout.rollout.groups]


def test_settings_out_of_range_are_refused() -> None:
    model, paradigm = TinyQwenVL(), Score()
    for name, value in (("iterations", 0), ("beta", -1.0), ("clip", 0.0), ("rows_at_once", 0)):
        with pytest.raises(InputError, match=rf"model\.policy\.{name} is {value}: give"):
            PolicySettings(**{name: value})  # type: ignore[arg-type]
    for name in ("prompts_at_once", "table_every"):
        with pytest.raises(InputError, match=rf"model\.rollouts\.{name} is 0: give 1 or more"):
            RolloutSettings(**{name: 0})
    with pytest.raises(InputError, match="gives equal completions"):
        GRPO(model, paradigm, torch.optim.SGD, sampling=Sampling(temperature=0))


@pytest.mark.parametrize("completed", [0, 1, 4, 7])
def test_batches_are_repeated_and_resumed_within_repeats(completed: int) -> None:
    def trainer(done: int) -> Any:
        counts = {"total": SimpleNamespace(completed=done), "current": SimpleNamespace(ready=0)}
        progress = SimpleNamespace(**counts)
        loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
        return SimpleNamespace(fit_loop=loop, num_training_batches=6)

    def batches(done: int) -> Iterator[Any]:
        return iter(ResumingSampler(trainer(done), 6, 2, seed=3, repeats=2))

    assert len(ResumingSampler(None, 6, 2, seed=3, repeats=2)) == 6
    epochs = [*batches(0), *batches(6)]
    assert epochs[0] == epochs[1] != epochs[2] == epochs[3]
    assert list(batches(completed)) == epochs[completed : 6 if completed < 6 else 12]


def test_a_reference_that_nobody_kept_is_asked_for(qwen: VisionLanguageModel) -> None:
    made = method(qwen, Score(group=2))
    made.reference.copy = None
    with pytest.raises(InputError, match="pass a backbone that is not loaded"):
        made.on_fit_start()
