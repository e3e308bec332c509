"""The contract of backbones that read chats, on one of each kind (docs/add-a-backbone.md)."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import test_chat_sharding
import torch
from chatters import BACKBONES, PICTURES, loaded, mixed, picture, reread, shared, stirred
from own_calls import BUDGET, Own, own_call
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from lit_biqa.backbones.auto_chat import PASSED, AutoChat
from lit_biqa.backbones.fused import FusedDecoder
from lit_biqa.backbones.inputs import extended, prompts_of
from lit_biqa.backbones.mplug_owl2 import MplugOwl2ForConditionalGeneration
from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.qwen_vl import KINDS, QwenVL
from lit_biqa.backbones.shared_prefix import Growing
from lit_biqa.backbones.timm_chat import TimmChat
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import state_of
from lit_biqa.compat.peft import adapters_off
from lit_biqa.rollout.engine import Sampling, generate
from lit_biqa.rollout.log_probs import completion_log_probs
from lit_biqa.rollout.prompts import read
from lit_biqa.types import ask

ANSWERS = ["good", "fair, I think", "bad", "excellent"]
ROOT = Path(__file__).resolve().parents[2]

each = pytest.mark.parametrize("name", BACKBONES)


@pytest.fixture(scope="module", params=BACKBONES)
def model(request: pytest.FixtureRequest) -> Any:
    """A backbone whose answers depend on what it reads; do not change it."""
    return stirred(BACKBONES[request.param])


@pytest.fixture(scope="module")
def own(model: Any) -> list[Own]:
    """What transformers makes of `mixed`, chat by chat."""
    images = [None if size is None else picture(*size) for size in PICTURES]
    return [own_call(model, *pair) for pair in zip(mixed(model), images, strict=True)]


@torch.no_grad()
def logits_of(model: VisionLanguageModel) -> Tensor:
    inputs = model.encode(mixed(model))
    rows: Tensor = model.head(model.hidden(inputs).last_hidden_state)
    return rows[inputs.mask]


@torch.no_grad()
def test_logits_of_a_mixed_batch_are_those_of_transformers(model: Any, own: list[Own]) -> None:
    inputs = model.encode(mixed(model))
    logits = model.head(model.hidden(inputs).last_hidden_state)
    assert not bool(inputs.mask[:, 0].all())
    for row, theirs in enumerate(own):
        kept = inputs.mask[row] & ~inputs.image[row]
        assert inputs.ids[row][kept].tolist() == theirs.ids
        found = logits[row][inputs.mask[row]]
        torch.testing.assert_close(found, theirs.logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_answers_are_those_of_generate(model: Any, own: list[Own]) -> None:
    chats = mixed(model)
    said = generate(model, chats, 2, Sampling(0.0, budget=BUDGET))
    for completions, theirs in zip(said, own, strict=True):
        assert [list(each.ids) for each in completions] == [theirs.written] * 2
    assert len({each.ids for each, _ in said}) > 1


@torch.no_grad()
def test_the_fused_step_is_the_decoding_of_transformers(model: Any, own: list[Own]) -> None:
    stepper = model.stepper()
    assert isinstance(stepper, FusedDecoder)
    for chat, theirs in zip(mixed(model), own, strict=True):
        prompts = read(model, model.encode([chat]))
        prefix, found = Growing(prompts.states, 1, BUDGET), [prompts.last]
        for step, token in enumerate(theirs.written[:-1]):
            positions = (prompts.next + step).expand(prompts.axes, -1)
            found.append(stepper(torch.tensor([token]), positions, prefix))
        logits = model.head(torch.cat(found))
        torch.testing.assert_close(logits, theirs.steps, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("answers", [None, ANSWERS], ids=["left", "right"])
@torch.no_grad()
def test_a_row_is_what_it_is_alone(model: Any, answers: list[str] | None) -> None:
    chats = mixed(model)
    together = model.encode(chats, answers)
    edge = 0 if answers is None else -1
    assert not bool(together.mask[:, edge].all()) and bool(together.mask[:, -1 - edge].all())
    hidden = model.hidden(together).last_hidden_state
    for index, chat in enumerate(chats):
        alone = model.encode([chat], None if answers is None else [answers[index]])
        expected = model.hidden(alone).last_hidden_state[0]
        torch.testing.assert_close(hidden[index, together.mask[index]], expected, atol=1e-5, rtol=0)
        assert together.lengths[index] == alone.lengths[0] == len(expected)
        assert together.next_positions[index] == alone.next_positions[0]
        if alone.labels is not None:
            assert torch.equal(together.labels[index, together.mask[index]], alone.labels[0])
    some = model.hidden(together.rows(slice(1, 3))).last_hidden_state
    torch.testing.assert_close(some, hidden[1:3], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(90, 60), (28, 28), (300, 40), (31, 200), (700, 500)])
def test_positions_are_those_of_transformers(model: Any, size: tuple[int, int]) -> None:
    transform = pickle.loads(pickle.dumps(model.image_transform))
    chat = ask("Rate it, please.", transform(picture(*size)), system="Be brief.")
    row = model.encode([chat])
    expected = torch.arange(int(row.lengths)).expand_as(row.positions)
    if isinstance(model, QwenVL):
        assert chat.pixels is not None
        grid = torch.tensor([(1, *chat.pixels.shape[:2])])
        expected, _ = model.model.model.get_rope_index(
            row.ids, row.image.int(), image_grid_thw=grid, attention_mask=row.mask.int()
        )
    assert torch.equal(row.positions, expected)
    assert int(row.next_positions) == int(expected.max()) + 1


@torch.no_grad()
def test_groups_behind_a_shared_prompt_have_the_log_probs_of_plain_rows(model: Any) -> None:
    chats = mixed(model)
    ids = torch.randint(5, 250, (len(chats), 3, 4), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(4) < torch.tensor([4, 1, 3])[:, None].expand(len(chats), 3, 1)
    found = completion_log_probs(model, model.encode(chats), ids, mask)
    for prompt, chat in enumerate(chats):
        for copy in range(3):
            row = prompts_of([extended(model.encode_prompt(chat), ids[prompt, copy].tolist())])
            logits = model.head(model.hidden(row).last_hidden_state[0, -5:-1])
            expected = logits.log_softmax(1).gather(1, ids[prompt, copy][:, None])[:, 0]
            expected = expected * mask[prompt, copy]
            torch.testing.assert_close(found[prompt, copy], expected, atol=1e-5, rtol=0)


@each
def test_the_parts_are_all_weights_and_no_weight_twice(name: str) -> None:
    model = shared(BACKBONES[name])
    held = [w for part in model.parts.values() for module in part for w in module.parameters()]
    assert len({id(weight) for weight in held}) == len(held)
    assert {id(weight) for weight in held} == {id(weight) for weight in model.parameters()}


@each
def test_updates_of_lora_stand_beside_linear_layers_and_are_merged(
    name: str, tmp_path: Path
) -> None:
    family, base = BACKBONES[name], loaded(BACKBONES[name])
    linear = [
        (layer, weight)
        for part in base.parts.values()
        for module in part
        for layer in module.modules()
        if isinstance(layer, nn.Linear) and layer is not base.head
        for weight in [layer.weight]
    ]
    whole = sum(w.numel() for m in base.new_modules for w in m.parameters())
    fresh = {id(m) for new in base.new_modules for m in new.modules()}
    updates = sum(3 * sum(w.shape) for layer, w in linear if id(layer) not in fresh)
    model = stirred(family, Tuning("lora", rank=3, alpha=7))
    count = sum(w.numel() for w in model.parameters() if w.requires_grad)
    assert count == updates + whole
    expected = logits_of(model)
    with adapters_off(model):
        assert (logits_of(model) - expected).abs().max() > 1e-2
    model.save(tmp_path / "merged", state_of(model))
    again = reread(family, str(tmp_path / "merged"))
    torch.testing.assert_close(logits_of(again), expected, atol=1e-4, rtol=1e-5)
    assert state_of(again).keys() == state_of(base).keys()


@each
def test_what_is_saved_comes_back_and_is_what_transformers_reads(name: str, tmp_path: Path) -> None:
    family, model = BACKBONES[name], stirred(BACKBONES[name])
    model.save(tmp_path / "weights", state_of(model))
    again = reread(family, str(tmp_path / "weights"))
    assert torch.equal(logits_of(again), logits_of(model))
    kind: Any = AutoModelForImageTextToText
    kind = MplugOwl2ForConditionalGeneration if isinstance(model, MplugOwl2) else kind
    kind = AutoModelForCausalLM if isinstance(model, TimmChat) else kind
    own = kind.from_pretrained(tmp_path / "weights").state_dict()
    ours = (model.model.language if isinstance(model, TimmChat) else model.model).state_dict()
    assert own.keys() == ours.keys()
    assert all(torch.equal(weight, ours[key]) for key, weight in own.items())
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    assert config["dtype"] == "float32" and "quantization_config" not in config


@each
def test_a_decoder_in_4_bits_runs_its_modules(name: str, tmp_path: Path) -> None:
    family, base = BACKBONES[name], loaded(BACKBONES[name])
    base.save(tmp_path / "base", state_of(base))
    tuning = Tuning("qlora", ["language"], rank=2)
    model = reread(family, str(tmp_path / "base"), tuning)
    packed = [n for n, p in model.decoder.named_parameters() if p.dtype == torch.uint8]
    decoder = dict(base.decoder.named_modules())
    tower = {id(m) for part in ("vision", "bridge") for p in base.parts[part] for m in p.modules()}
    linear = [n for n, m in decoder.items() if isinstance(m, nn.Linear) and id(m) not in tower]
    assert len(packed) == len(linear) > 0
    assert len(packed) == sum(p.dtype == torch.uint8 for p in model.parameters())
    assert not isinstance(model.stepper(), FusedDecoder)
    assert 0 < (logits_of(model) - logits_of(base)).abs().mean() < 0.1


def table() -> str:
    """The table of docs/add-a-backbone.md: each check runs on each backbone."""
    head = ["backbone", *CHECKS]
    rows = [[name, *["✓"] * len(CHECKS)] for name in BACKBONES]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def test_the_page_shows_what_runs() -> None:
    assert table() in (ROOT / "docs/add-a-backbone.md").read_text(encoding="utf-8")
    assert set(test_chat_sharding.FAMILIES) == set(BACKBONES.values())
    assert all(callable(check) for checks in CHECKS.values() for check in checks)


def test_the_classes_name_the_types_that_are_tested() -> None:
    models = [shared(family) for family in BACKBONES.values()]
    for kind, named in ((AutoChat, PASSED), (QwenVL, KINDS)):
        tested = {m.model.config.model_type for m in models if isinstance(m, kind)}
        assert tested == set(named)


# What each column of the page stands for.
CHECKS = {
    "forward": [test_logits_of_a_mixed_batch_are_those_of_transformers],
    "generate": [
        test_answers_are_those_of_generate,
        test_the_fused_step_is_the_decoding_of_transformers,
    ],
    "positions": [test_positions_are_those_of_transformers],
    "padding": [test_a_row_is_what_it_is_alone],
    "shared prefix": [test_groups_behind_a_shared_prompt_have_the_log_probs_of_plain_rows],
    "LoRA": [test_updates_of_lora_stand_beside_linear_layers_and_are_merged],
    "4 bits": [test_a_decoder_in_4_bits_runs_its_modules],
    "FSDP2": [test_chat_sharding.test_two_ranks_find_the_gradients_of_one],
    "files": [test_what_is_saved_comes_back_and_is_what_transformers_reads],
}
