"""Trained weights: exactly those of the named parts, full or LoRA, in 4 bits or not."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from chatters import FAMILIES, Tiny, loaded, mixed, reference
from torch import Tensor, nn

from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.tuning import Part, Tuning, counted
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import state_of
from lit_biqa.compat.peft import adapters_off
from lit_biqa.types import InputError

both = pytest.mark.parametrize("family", FAMILIES)
PARTS = get_args(Part)
CHOICES = [chosen for count in (1, 2, 3) for chosen in combinations(PARTS, count)]
ANSWERS = ["good", "fair", "bad", "excellent"]
READ: dict[Any, Any] = {TinyMplugOwl2: MplugOwl2, TinyQwenVL: QwenVL}


def part_of(name: str) -> str:
    """The part that a weight of either family belongs to, by its official name."""
    if name.startswith(("model.visual_abstractor.", "model.visual.merger.")):
        return "bridge"
    return "vision" if name.startswith(("model.vision_model.", "model.visual.")) else "language"


def loss_of(model: VisionLanguageModel, chats: Any = None) -> Tensor:
    """Mean over the tokens of the answers."""
    inputs = model.encode(mixed(model) if chats is None else chats, ANSWERS)
    assert inputs.labels is not None
    logits = model.head(model.hidden(inputs).last_hidden_state)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), inputs.labels[:, 1:].flatten())


def stir(model: VisionLanguageModel) -> None:
    """Give LoRA's updates weights: they begin at zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))


def trained(model: VisionLanguageModel) -> set[str]:
    return {name for name, weight in model.model.named_parameters() if weight.requires_grad}


def reached(model: VisionLanguageModel) -> set[str]:
    return {name for name, weight in model.model.named_parameters() if weight.grad is not None}


@both
@pytest.mark.parametrize("parts", CHOICES, ids="+".join)
def test_the_parts_named_are_trained_and_no_others(family: Any, parts: tuple[Part, ...]) -> None:
    plain = reference(family)
    model = loaded(family, Tuning("full", parts))
    expected = {name for name, _ in plain.named_parameters() if part_of(name) in parts}
    assert trained(model) == expected
    model(loss_of).backward()
    assert reached(model) == expected


@both
@pytest.mark.parametrize("parts", CHOICES, ids="+".join)
def test_lora_stands_beside_the_linear_layers_of_the_parts(
    family: Any, parts: tuple[Part, ...]
) -> None:
    plain = reference(family)
    model = loaded(family, Tuning("lora", parts, rank=3))
    linear = [name for name, module in plain.named_modules() if isinstance(module, nn.Linear)]
    beside = [name for name in linear if part_of(name) in parts and name != "lm_head"]
    expected = {f"{name}.lora_{side}.default.weight" for name in beside for side in "AB"}
    assert trained(model) == expected
    stir(model)
    model(loss_of).backward()
    assert reached(model) == expected
    weights = dict(model.model.named_parameters())
    assert all(weights[name].grad.count_nonzero() > 0 for name in expected)


@both
def test_without_its_updates_the_model_is_the_base(family: Any) -> None:
    model, base = loaded(family, Tuning("lora", rank=2)), loaded(family)
    with torch.no_grad():
        expected = base(loss_of)
        assert torch.equal(model(loss_of), expected)
        stir(model)
        changed = model(loss_of)
        with adapters_off(model):
            assert torch.equal(model(loss_of), expected)
        assert torch.equal(model(loss_of), changed) and not torch.equal(changed, expected)
        with adapters_off(base):
            assert torch.equal(base(loss_of), expected)
    before = trained(model)
    with pytest.raises(RuntimeError), adapters_off(model):
        raise RuntimeError
    with torch.no_grad():
        assert torch.equal(model(loss_of), changed)
    assert trained(model) == before


def test_parameters_are_counted() -> None:
    """By hand, for the Qwen2.5-VL decoder of 2 layers, 64 wide, and 401 tokens."""
    layer = 2 * 64 + (64 * 64 + 64) + 2 * (64 * 32 + 32) + 64 * 64 + 3 * 64 * 128
    language = 2 * layer + 64 + 2 * 401 * 64
    block = 2 * 64 + (64 * 192 + 192) + (64 * 64 + 64) + 2 * (64 * 128 + 128) + (128 * 64 + 64)
    vision = 2 * block + 3 * 2 * 14 * 14 * 64
    bridge = 64 + (256 * 256 + 256) + (256 * 64 + 64)
    total = vision + bridge + language
    told = counted(loaded(TinyQwenVL, Tuning("full", ["language"])))
    assert told["parameters"] == f"{total:,}"
    assert told["trained"] == f"{language:,} ({language / total:.2%})"
    assert told["weights"] == f"{4 * total / 2**20:.1f} MiB"
    lora = 2 * 5 * ((64 + 64) + 2 * (64 + 32) + (64 + 64) + 3 * (64 + 128))
    told = counted(loaded(TinyQwenVL, Tuning("lora", ["language"], rank=5)))
    assert told["parameters"] == f"{total + lora:,}"
    assert told["trained"].startswith(f"{lora:,} (")


def test_memory_is_counted_in_bytes() -> None:
    """2 GiB in bfloat16, of which 2**29 weights are trained: gradient and two moments of each."""
    with torch.device("meta"):
        model = nn.Sequential(
            nn.Linear(2**15, 2**14, bias=False), nn.Linear(2**14, 2**15, bias=False)
        ).bfloat16()
    model[0].requires_grad_(False)
    assert counted(model) == {
        "parameters": f"{2**30:,}",
        "trained": f"{2**29:,} (50.00%)",
        "weights": "2.0 GiB",
        "gradients and AdamW": "3.0 GiB",
    }


@both
@pytest.mark.parametrize("how", ["full", "lora"])
def test_checkpointing_changes_no_gradient(family: Any, how: Any) -> None:
    found: list[dict[str, Tensor]] = []
    calls: list[int] = []
    for checkpointing in (False, True):
        model = loaded(family, Tuning(how, rank=2, checkpointing=checkpointing))
        stir(model)
        norm = next(m for m in model.blocks()[0].modules() if "norm" in type(m).__name__.lower())
        calls.append(0)
        norm.register_forward_hook(lambda *_: calls.__setitem__(-1, calls[-1] + 1))
        model.eval()  # as trainers leave what transformers has loaded
        model(loss_of).backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert calls[1] == 2 * calls[0] > 0
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-5, msg=name)


@both
def test_checkpointing_leaves_caches_alone_where_no_gradient_is_asked_for(family: Any) -> None:
    """In training mode layers that recompute drop the cache that they are given."""
    from transformers import DynamicCache

    def in_two_steps(model: Tiny) -> tuple[Tensor, Tensor]:
        inputs = model.encode([mixed(model)[1]])
        whole = model.hidden(inputs).last_hidden_state
        cache = DynamicCache(config=model.model.config.get_text_config())
        embeds, _ = model.embed(inputs)
        for steps in (slice(0, 7), slice(7, None)):
            made = model.decode(
                embeds[:, steps],
                inputs.mask[:, : steps.stop],
                inputs.positions[..., steps],
                cache=cache,
            )
        return whole[:, 7:], made.last_hidden_state

    model = loaded(family, Tuning(checkpointing=True))
    model.train()
    with torch.no_grad():
        whole, stepped = model(in_two_steps)
    torch.testing.assert_close(stepped, whole, atol=1e-5, rtol=0)


@both
@pytest.mark.parametrize("how", ["full", "lora"])
def test_weights_in_half_precision_train(family: Any, how: Any) -> None:
    model = loaded(family, Tuning(how, rank=2, precision="bfloat16"))
    kinds = {weight.dtype for weight in model.model.parameters() if not weight.requires_grad}
    assert kinds <= {torch.bfloat16}
    assert {w.dtype for w in model.parameters() if w.requires_grad} == {
        torch.bfloat16 if how == "full" else torch.float32
    }
    with torch.no_grad():
        exact = loaded(family)(loss_of)
    loss = model(loss_of)
    loss.backward()
    assert abs(loss.item() - exact.item()) < 0.05
    assert reached(model) == trained(model)


@both
def test_qlora_trains_beside_a_decoder_in_4_bits(family: Any, tmp_path: Path) -> None:
    tiny = loaded(family)
    tiny.save(tmp_path / "base", state_of(tiny))
    tuning = Tuning("qlora", ["bridge", "language"], rank=4)
    model = READ[family](str(tmp_path / "base"), tuning)
    model.load()
    packed = {
        n.replace(".base_layer", "")
        for n, p in model.model.named_parameters()
        if p.dtype == torch.uint8
    }
    decoder = {
        f"{name}.weight"
        for name, module in reference(family).named_modules()
        if isinstance(module, nn.Linear) and part_of(name) == "language" and name != "lm_head"
    }
    assert packed == decoder
    stir(model)
    with torch.no_grad():
        expected = model(loss_of)
        assert abs(expected.item() - tiny(loss_of).item()) < 0.1
    model(loss_of).backward()
    assert reached(model) == trained(model)
    assert all("lora_" in name for name in trained(model))
    total = sum(weight.numel() for weight in tiny.parameters())
    lora = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert counted(model)["parameters"] == f"{total + lora:,}"
    model.save(tmp_path / "merged", state_of(model))
    again = READ[family](str(tmp_path / "merged"))
    again.load()
    with torch.no_grad():
        torch.testing.assert_close(again(loss_of), expected, atol=1e-4, rtol=0)


@both
def test_tuning_that_cannot_be_is_refused(family: Any) -> None:
    with pytest.raises(InputError, match=r"no part 'visoin'\. Did you mean vision"):
        Tuning(parts=["visoin"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="at least one of the parts"):
        Tuning(parts=[])
    with pytest.raises(InputError, match="rank of at least 1"):
        Tuning("lora", rank=0)
    with pytest.raises(InputError, match="tiny model has none: save it"):
        family(tuning=Tuning("qlora"))


@both
def test_a_text_alone_trains_nothing_of_what_sees(family: Any) -> None:
    model = loaded(family, Tuning(parts=["vision", "bridge"]))
    alone = [mixed(model)[1]] * len(ANSWERS)
    with pytest.raises(InputError, match="a batch of text alone trains nothing"):
        model(loss_of, alone)
    with torch.no_grad():
        assert model(loss_of, alone) > 0


def test_a_tiny_model_is_the_same_each_time_it_is_read() -> None:
    model = loaded(TinyMplugOwl2)
    again = model._read().state_dict()
    assert all(torch.equal(w, again[n]) for n, w in model.model.state_dict().items())
