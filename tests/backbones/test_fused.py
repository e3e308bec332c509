"""The fused decoder says what transformers' modules say, one token of each row at a time."""

from __future__ import annotations

import pytest
import torch
from chatters import BACKBONES, stirred
from torch import Tensor

from lit_biqa.backbones.fused import FusedDecoder
from lit_biqa.backbones.shared_prefix import Growing
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import Stepper, VisionLanguageModel
from lit_biqa.rollout.prompts import read
from lit_biqa.types import ask

STEPS, COPIES = 5, 3
QUESTIONS = ("How good is it?", "The image is blurry and very dark. What is its quality?")


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


@pytest.mark.parametrize("name", BACKBONES)
def test_updates_of_lora_are_merged_into_the_step(name: str) -> None:
    """Without LoRA tests/backbones/test_contract.py compares it with ``generate``."""
    made = stirred(BACKBONES[name], Tuning("lora"))
    plain = made.module_stepper()
    assert isinstance(made.stepper(), FusedDecoder)
    torch.testing.assert_close(hidden(made, made.stepper()), hidden(made, plain), rtol=0, atol=2e-5)


def test_adapters_that_are_off_stay_off() -> None:
    from lit_biqa.compat.peft import adapters_off

    made = stirred(BACKBONES["Qwen2.5-VL"], Tuning("lora"))
    with adapters_off(made):
        off = hidden(made, made.stepper())
        torch.testing.assert_close(off, hidden(made, made.module_stepper()))
    assert not torch.allclose(hidden(made, made.stepper()), off)


@pytest.mark.parametrize("name", ["mPLUG-Owl2", "Qwen2.5-VL", "Qwen3-VL", "TimmChat"])
def test_autocast_is_that_of_transformers(name: str) -> None:
    made = stirred(BACKBONES[name])
    with torch.autocast("cpu", torch.bfloat16):
        fused, plain = (hidden(made, step) for step in (made.stepper(), made.module_stepper()))
        stepper = made.stepper()
        assert isinstance(stepper, FusedDecoder)
        assert stepper.layers[0].qkv[0].dtype == torch.bfloat16
    exact = hidden(made, made.stepper())
    # Both round; neither is further from the exact states than rounding takes it.
    assert float((fused - exact).abs().mean()) < 2 * float((plain - exact).abs().mean()) < 0.2
