"""The fused decoder says what transformers' modules say, one token of each row at a time."""

from __future__ import annotations

import pytest
import torch
from chatters import loaded
from torch import Tensor

from lit_biqa.backbones.fused import FusedDecoder, can_fuse
from lit_biqa.backbones.shared_prefix import Growing
from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import Stepper, VisionLanguageModel
from lit_biqa.rollout.prompts import read
from lit_biqa.types import ask

STEPS, COPIES = 5, 3
QUESTIONS = ("How good is it?", "The image is blurry and very dark. What is its quality?")


def model(how: str) -> TinyQwenVL:
    """Weights larger than initial ones, and updates of LoRA that are not zero."""
    made = loaded(TinyQwenVL, Tuning("lora" if how == "lora" else "full"))
    assert isinstance(made, TinyQwenVL)
    generator = torch.Generator().manual_seed(0)
    for name, weight in made.named_parameters():
        if "lora_" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
        elif weight.ndim == 1:
            weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
        else:
            weight.data *= 3
    return made


@torch.no_grad()
def hidden(made: VisionLanguageModel, stepper: Stepper) -> Tensor:
    """States ``[steps, rows, D]`` of given tokens behind two prompts of unequal length."""
    prompts = read(made, made.encode([ask(question) for question in QUESTIONS]))
    prefix = Growing(prompts.states, COPIES, STEPS)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(300, (STEPS, COPIES * len(QUESTIONS)), generator=generator)
    start = prompts.next.repeat_interleave(COPIES)
    return torch.stack(
        [stepper(ids, (start + n).expand(prompts.axes, -1), prefix) for n, ids in enumerate(tokens)]
    )


@pytest.mark.parametrize("how", ["full", "lora"])
def test_states_are_those_of_transformers(how: str) -> None:
    made = model(how)
    plain = VisionLanguageModel.stepper(made)
    assert isinstance(made.stepper(), FusedDecoder)
    torch.testing.assert_close(hidden(made, made.stepper()), hidden(made, plain), rtol=0, atol=2e-5)


def test_adapters_that_are_off_stay_off() -> None:
    from lit_biqa.compat.peft import adapters_off

    made = model("lora")
    with adapters_off(made):
        off = hidden(made, made.stepper())
        torch.testing.assert_close(off, hidden(made, VisionLanguageModel.stepper(made)))
    assert not torch.allclose(hidden(made, made.stepper()), off)


def test_autocast_is_that_of_transformers() -> None:
    made = model("full")
    with torch.autocast("cpu", torch.bfloat16):
        fused, plain = (
            hidden(made, step) for step in (made.stepper(), VisionLanguageModel.stepper(made))
        )
        stepper = made.stepper()
        assert isinstance(stepper, FusedDecoder)
        assert stepper.layers[0].qkv[0].dtype == torch.bfloat16
    exact = hidden(made, made.stepper())
    # Both round; neither is further from the exact states than rounding takes it.
    assert float((fused - exact).abs().mean()) < 2 * float((plain - exact).abs().mean()) < 0.2


def test_packed_weights_are_left_to_transformers() -> None:
    made = model("full")
    decoder = made.model.model.language_model
    assert can_fuse(decoder)
    projection = decoder.layers[0].mlp.down_proj
    projection.weight = torch.nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    assert not can_fuse(decoder) and not isinstance(made.stepper(), FusedDecoder)
