"""Training: gradients where they belong, LoRA, checkpointing, and losses at chosen positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from owls import mini, mini_config, pictures, random_model
from peft import LoraConfig, PeftModel, get_peft_model

from lit_biqa.backbones.mplug_owl2 import (
    IGNORE_INDEX,
    LORA_TARGETS,
    MplugOwl2ForConditionalGeneration,
    expand_placeholders,
)

IDS = torch.tensor([[1, 9, -200, 30, 31, 2], [1, -200, 44, 2, 0, 0]])
MASK = IDS.ne(0)
LABELS = IDS.masked_fill(IDS.le(9) & IDS.ne(2), IGNORE_INDEX)


def fresh() -> Any:
    return random_model(mini_config())


def test_a_text_only_batch_runs_no_image_part() -> None:
    model = fresh()
    ids = torch.tensor([[1, 9, 30, 31]])
    model(input_ids=ids, labels=ids).loss.backward()
    touched = {name for name, weight in model.named_parameters() if weight.grad is not None}
    image_parts = ("vision_model", "visual_abstractor", "multiway.1")
    assert not any(part in name for name in touched for part in image_parts)
    assert touched == {
        name
        for name, _ in model.named_parameters()
        if not any(part in name for part in image_parts)
    }


def test_an_image_touches_every_parameter_and_only_its_own_copies() -> None:
    """A row without images gets the same output and loss whether or not another has one."""
    model = fresh()
    output = model(input_ids=IDS, attention_mask=MASK, labels=LABELS, images=pictures(2))
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    text = torch.tensor([[1, 9, 30, 31]])
    with torch.no_grad():
        alone = model(input_ids=text).logits
        beside = model(
            input_ids=torch.tensor([[1, 9, 30, 31], [1, -200, 4, 5]]), images=pictures(1)
        ).logits
    torch.testing.assert_close(beside[:1, :4], alone, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_recomputes_and_changes_no_gradient(reentrant: bool) -> None:
    plain, saving = fresh(), fresh()
    saving.activation_checkpointing_enable({"use_reentrant": reentrant})
    gradients = []
    for model in (plain, saving):
        model.train()
        counted = count_calls(model.model.layers[0].self_attn)
        inputs = {"input_ids": IDS, "attention_mask": MASK, "images": pictures(2)}
        model(**inputs, labels=LABELS, use_cache=False).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
        assert len(counted) == (2 if model is saving else 1)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def count_calls(module: torch.nn.Module) -> list[int]:
    """Grows by one with each call of the module."""
    counted: list[int] = []
    module.register_forward_hook(lambda *_: counted.append(1))
    return counted


def test_losses_at_chosen_positions_equal_the_loss() -> None:
    """A custom objective can read its labels and skip the head elsewhere."""
    model = mini()
    inputs: dict[str, Any] = {
        "input_ids": IDS,
        "attention_mask": MASK,
        "images": pictures(2),
    }
    lengths = torch.full((2,), model.config.positions_per_image)
    rows = expand_placeholders(IDS, MASK, LABELS, lengths)
    assert rows.labels is not None
    asked = rows.labels[:, 1:].ne(IGNORE_INDEX)
    before = torch.nn.functional.pad(asked, (0, 1))
    with torch.no_grad():
        whole = model(**inputs, labels=LABELS)
        chosen = model(**inputs, logits_to_keep=before).logits
        inner = model.model(**inputs, labels=LABELS)
        last = model(**inputs, logits_to_keep=2).logits
    assert torch.equal(whole.labels, rows.labels) and torch.equal(inner.labels, rows.labels)
    assert torch.equal(whole.image_positions, rows.image_positions)
    assert len(chosen) == int(asked.sum()) == 5
    loss = torch.nn.functional.cross_entropy(chosen, rows.labels[:, 1:][asked])
    torch.testing.assert_close(loss, whole.loss)
    torch.testing.assert_close(last, whole.logits[:, -2:])
    shared = model(**inputs, labels=LABELS, num_items_in_batch=10).loss
    torch.testing.assert_close(shared, whole.loss * 5 / 10)


def test_lora_trains_saves_merges_and_generates(tmp_path: Path) -> None:
    base = fresh()
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    inputs: dict[str, Any] = {"input_ids": IDS, "attention_mask": MASK, "images": pictures(2)}
    linear = {
        name
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith("model.layers")
    }
    adapter = LoraConfig(r=4, target_modules=LORA_TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(base, adapter)
    assert set(model.targeted_module_names) == linear and len(linear) == 2 * 9
    optimizer = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad], lr=1e-2
    )
    losses = []
    for _ in range(5):
        loss = model(**inputs, labels=LABELS).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    model.eval()
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": 6}
    with torch.no_grad():
        trained = model(**inputs).logits
        with model.disable_adapter():
            untrained = model(**inputs).logits
    assert torch.equal(untrained, mini()(**inputs).logits)
    generated = model.generate(**inputs, **options)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(fresh(), tmp_path)
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, trained)
    merged = model.merge_and_unload()
    assert isinstance(merged, MplugOwl2ForConditionalGeneration)
    assert merged.state_dict().keys() == before.keys()
    with torch.no_grad():
        torch.testing.assert_close(merged(**inputs).logits, trained, atol=1e-4, rtol=1e-4)
    assert torch.equal(merged.generate(**inputs, **options), generated)


def test_autocast_and_half_weights_run() -> None:
    model = fresh()
    inputs: dict[str, Any] = {"input_ids": IDS, "attention_mask": MASK, "images": pictures(2)}
    with torch.no_grad():
        exact = model(**inputs, labels=LABELS).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**inputs, labels=LABELS).loss
    loss.backward()
    half = model.to(torch.bfloat16)
    with torch.no_grad():
        halved = half(**inputs, labels=LABELS).loss
        generated = half.generate(**inputs, do_sample=False, max_new_tokens=2)
    assert abs(loss.item() - exact.item()) < 0.1 and abs(halved.item() - exact.item()) < 0.1
    assert generated.shape == (2, 8)
