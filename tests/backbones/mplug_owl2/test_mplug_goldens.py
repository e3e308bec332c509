"""The model against what the original code gave on the same weights, within the goldens' bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lit_biqa.backbones.mplug_owl2 import MplugOwl2ForConditionalGeneration
from lit_biqa.backbones.mplug_owl2.abstractor import position_tables
from lit_biqa.compat.transformers import cache_of

VISUAL: dict[str, Any] = {"atol": 3e-5, "rtol": 0.0}
LANGUAGE: dict[str, Any] = {"atol": 5e-5, "rtol": 0.0}
LOSS: dict[str, Any] = {"atol": 1e-5, "rtol": 0.0}
GRADIENT: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-3}

close = torch.testing.assert_close


@dataclass
class Goldens:
    """Inputs and outputs of the original code, and this package's model on the same weights."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    model: Any
    meta: dict[str, Any]

    @property
    def pixels(self) -> Tensor:
        return self.inputs["pixel_values"]


@pytest.fixture(scope="module")
def goldens(shared: Path) -> Goldens:
    folder = shared / "goldens/mplug_owl2/forward"
    return Goldens(
        load_file(folder / "inputs.safetensors"),
        load_file(folder / "outputs.safetensors"),
        MplugOwl2ForConditionalGeneration.from_pretrained(folder),
        json.loads((folder / "meta.json").read_text()),
    )


@pytest.fixture()
def eager(goldens: Goldens) -> Iterator[Any]:
    """The golden model with attention written out, for its maps."""
    goldens.model.set_attn_implementation("eager")
    yield goldens.model
    goldens.model.set_attn_implementation("sdpa")


@contextmanager
def recorded(modules: Any) -> Iterator[list[Any]]:
    """Outputs of the modules, in order."""
    outputs: list[Any] = []
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        for module in modules
    ]
    yield outputs
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_vision_and_abstractor(goldens: Goldens, eager: Any, implementation: str) -> None:
    eager.set_attn_implementation(implementation)
    expected = goldens.outputs
    with torch.no_grad():
        features = eager.model.vision_model(goldens.pixels)
        close(features, expected["a.vision.last_hidden_state"], **VISUAL)
        again = eager.model.vision_model.post_layernorm(features[:, 0])
        close(again, expected["a.vision.pooler_output"], **VISUAL)
        vectors = eager.model.encode_images(goldens.pixels)
        close(vectors, expected["b.abstractor.last_hidden_state"], **VISUAL)


def test_inside_vision_and_abstractor(goldens: Goldens, eager: Any) -> None:
    expected = goldens.outputs
    tower, abstractor = eager.model.vision_model, eager.model.visual_abstractor
    with (
        torch.no_grad(),
        recorded([tower.embeddings, *tower.encoder.layers]) as states,
        recorded([layer.self_attn for layer in tower.encoder.layers]) as attention,
        recorded(abstractor.encoder.layers) as layers,
    ):
        eager.model.encode_images(goldens.pixels)
    for index, state in enumerate(states):
        close(state, expected[f"a.vision.hidden_states.{index}"], **VISUAL)
    close(attention[0][1], expected["a.vision.attentions.0"], **VISUAL)
    for index, state in enumerate(layers):
        close(state, expected[f"b.abstractor.layer_out.{index}"], **VISUAL)
    close(layers[-1][:, 0], expected["b.abstractor.pooler_output"], **VISUAL)


def test_position_tables(goldens: Goldens) -> None:
    tables = position_tables(goldens.model.config.abstractor, torch.device("cpu"))
    for table, name in zip(tables, "qk", strict=True):
        close(table, goldens.outputs[f"buf.{name}_pos_embed"], atol=1e-6, rtol=0.0)


# case, which images, mask given. The original feeds "m" an image for its first row, which has no
# placeholder, and ignores it; here a row without a placeholder takes none.
LOGITS = [
    ("c", slice(0, 2), True),
    ("d", None, True),
    ("g", slice(0, 2), False),
    ("g_adj", slice(2, 4), False),
    ("g_end", slice(3, 4), False),
    ("m", slice(3, 4), True),
]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(("case", "which", "masked"), LOGITS)
def test_logits(
    goldens: Goldens, eager: Any, implementation: str, case: str, which: slice | None, masked: bool
) -> None:
    """Every position, padding included: there the original is well defined too."""
    eager.set_attn_implementation(implementation)
    with torch.no_grad():
        output = eager(
            input_ids=goldens.inputs[f"{case}.input_ids"],
            attention_mask=goldens.inputs[f"{case}.attention_mask"] if masked else None,
            images=None if which is None else goldens.pixels[which],
        )
    close(output.logits, goldens.outputs[f"{case}.logits"], **LANGUAGE)


def test_two_frames_at_one_placeholder(goldens: Goldens) -> None:
    frames = goldens.pixels[:2]
    for images in (frames[None], [frames]):
        with torch.no_grad():
            output = goldens.model(input_ids=goldens.inputs["g_vid.input_ids"], images=images)
        close(output.logits, goldens.outputs["g_vid.logits"], **LANGUAGE)


def test_text_without_mask_and_padded_on_the_left(goldens: Goldens) -> None:
    with torch.no_grad():
        plain = goldens.model(input_ids=goldens.inputs["d.input_ids"][:1, :12])
        left = goldens.model(
            input_ids=goldens.inputs["d_left.input_ids"],
            attention_mask=goldens.inputs["d_left.attention_mask"],
        )
    close(plain.logits, goldens.outputs["d_row0_nomask.logits"], **LANGUAGE)
    valid = goldens.outputs["d_left.valid"]
    close(left.logits[valid], goldens.outputs["d_left.logits"][valid], **LANGUAGE)
    assert left.logits.isfinite().all()


SPLICED = [
    ("c", slice(0, 2), True, True),
    ("g", slice(0, 2), False, False),
    ("m", slice(3, 4), True, True),
    ("f_left", slice(0, 2), True, False),
]


@pytest.mark.parametrize(("case", "which", "masked", "labelled"), SPLICED)
def test_splicing(goldens: Goldens, case: str, which: slice, masked: bool, labelled: bool) -> None:
    given, expected = goldens.inputs, goldens.outputs
    with torch.no_grad():
        spliced = goldens.model.model.splice(
            given[f"{case}.input_ids"],
            given[f"{case}.attention_mask"] if masked else None,
            goldens.pixels[which],
            given[f"{case}.labels"] if labelled else None,
        )
    close(spliced.inputs_embeds, expected[f"{case}.prep.inputs_embeds"], **VISUAL)
    assert torch.equal(spliced.image_positions.long(), expected[f"{case}.prep.multiway_indices"])
    if labelled:
        assert torch.equal(spliced.labels, expected[f"{case}.prep.labels"])
        assert torch.equal(spliced.attention_mask, expected[f"{case}.prep.attention_mask"])


def test_hidden_states_attention_maps_and_cache(goldens: Goldens, eager: Any) -> None:
    with torch.no_grad():
        output = eager(
            input_ids=goldens.inputs["c.input_ids"],
            attention_mask=goldens.inputs["c.attention_mask"],
            images=goldens.pixels[:2],
            use_cache=True,
            output_hidden_states=True,
            output_attentions=True,
        )
    assert len(output.hidden_states) == 4 and len(output.attentions) == 3
    for index, state in enumerate(output.hidden_states):
        close(state, goldens.outputs[f"h.c.hidden_states.{index}"], **LANGUAGE)
    for index, weights in enumerate(output.attentions):
        close(weights, goldens.outputs[f"h.c.attentions.{index}"], **LANGUAGE)
    first = cache_of(output).layers[0]
    close(first.keys, goldens.outputs["h.c.past.0.key"], **LANGUAGE)
    close(first.values, goldens.outputs["h.c.past.0.value"], **LANGUAGE)


@pytest.mark.parametrize(
    ("case", "which"), [("d", None), ("m", slice(3, 4))], ids=["text", "mixed"]
)
def test_losses(goldens: Goldens, case: str, which: slice | None) -> None:
    with torch.no_grad():
        output = goldens.model(
            input_ids=goldens.inputs[f"{case}.input_ids"],
            attention_mask=goldens.inputs[f"{case}.attention_mask"],
            labels=goldens.inputs[f"{case}.labels"],
            images=None if which is None else goldens.pixels[which],
        )
    close(output.loss, goldens.outputs[f"{case}.loss"], **LOSS)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients(goldens: Goldens, checkpointing: bool) -> None:
    """Every parameter's gradient by its norm, the stored ones element by element."""
    model = goldens.model
    if checkpointing:
        model.activation_checkpointing_enable()
    model.train()
    try:
        output = model(
            input_ids=goldens.inputs["c.input_ids"],
            attention_mask=goldens.inputs["c.attention_mask"],
            labels=goldens.inputs["c.labels"],
            images=goldens.pixels[:2],
            use_cache=False,
        )
        output.loss.backward()
        found = {name: parameter.grad for name, parameter in model.named_parameters()}
    finally:
        model.activation_checkpointing_disable()
        model.eval().zero_grad()
    close(output.loss.detach(), goldens.outputs["e.loss"], **LOSS)
    close(output.loss.detach(), goldens.outputs["i.loss"], **LOSS)
    check_gradients(goldens, found)


def check_gradients(goldens: Goldens, found: dict[str, Tensor | None]) -> None:
    norms = goldens.meta["grad_norms"]
    assert found.keys() == norms.keys()
    for name, gradient in found.items():
        assert gradient is not None, name
        assert gradient.norm().item() == pytest.approx(norms[name], rel=1e-3, abs=1e-5), name
        if f"i.grad.{name}" in goldens.outputs:
            close(gradient, goldens.outputs[f"i.grad.{name}"], **GRADIENT)


GENERATED = [
    ("f_img", "f_img", slice(0, 1)),
    ("f_txt", "f_txt", None),
    ("f_two", "g", slice(0, 2)),
]


@pytest.mark.parametrize(("case", "prompt", "which"), GENERATED)
def test_greedy_generation(goldens: Goldens, case: str, prompt: str, which: slice | None) -> None:
    output = goldens.model.generate(
        goldens.inputs[f"{prompt}.input_ids"],
        images=None if which is None else goldens.pixels[which],
        do_sample=False,
        max_new_tokens=12,
        return_dict_in_generate=True,
        output_logits=True,
    )
    assert torch.equal(output.sequences, goldens.outputs[f"{case}.sequences"])
    logits = torch.stack(output.logits, dim=1)
    close(logits, goldens.outputs[f"{case}.step_logits"], **LANGUAGE)


def test_the_fault_of_left_padding_lies_in_the_mask_alone(goldens: Goldens) -> None:
    """Given the original's faulty mask, the model gives the original's faulty logits."""
    ids, mask = goldens.inputs["f_left.input_ids"], goldens.inputs["f_left.attention_mask"]
    images = goldens.pixels[:2]
    faulty = goldens.outputs["f_left.prep.attention_mask"]
    with torch.no_grad():
        spliced = goldens.model.model.splice(ids, mask, images)
        as_original = goldens.model(
            inputs_embeds=spliced.inputs_embeds,
            image_positions=spliced.image_positions,
            attention_mask=faulty,
            position_ids=torch.arange(faulty.shape[1])[None],
        )
        right = goldens.model(input_ids=ids, attention_mask=mask, images=images)
    close(as_original.logits, goldens.outputs["left.logits"], **LANGUAGE)
    assert not torch.equal(spliced.attention_mask, faulty)
    real = spliced.attention_mask.bool()
    assert (right.logits - as_original.logits)[real].abs().max() > 1


def test_left_padded_batch_generates_what_each_row_does_alone(goldens: Goldens) -> None:
    ids, mask = goldens.inputs["f_left.input_ids"], goldens.inputs["f_left.attention_mask"]
    assert not mask.bool().all()
    options = {"do_sample": False, "max_new_tokens": 12}
    together = goldens.model.generate(
        ids, attention_mask=mask, images=goldens.pixels[:2], **options
    )
    assert torch.equal(together[:, : ids.shape[1]], ids)
    for row in range(2):
        alone = goldens.model.generate(
            ids[row : row + 1, mask[row].bool()], images=goldens.pixels[row : row + 1], **options
        )
        assert torch.equal(together[row, ids.shape[1] :], alone[0, -12:])
