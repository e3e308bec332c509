"""Other image-text models, on a small LLaVA-1.5: equal to transformers, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from chatters import picture
from llavas import write_llava
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoProcessor, LlavaForConditionalGeneration

from lit_biqa.backbones.auto_chat import AutoChat
from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.backbones.tuning import Tuning, counted
from lit_biqa.backbones.weights import state_of
from lit_biqa.types import Chat, InputError, ask

IMAGES = [picture(90, 60), picture(57, 130, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llava(tmp_path_factory.mktemp("llava"))


def loaded(folder: Path, tuning: Tuning = Tuning()) -> AutoChat:
    model = AutoChat(str(folder), tuning)
    model.load()
    return model


def chats(model: AutoChat) -> list[Chat]:
    see = model.image_transform
    return [
        ask("How good is it?", see(IMAGES[0])),
        ask("The image is blurry. What is its quality?"),
        ask("Rate it.", see(IMAGES[1]), opening="The quality is"),
    ]


@torch.no_grad()
def logits(model: AutoChat) -> Tensor:
    inputs = model.encode(chats(model))
    made: Tensor = model.head(model.hidden(inputs).last_hidden_state)[inputs.mask]
    return made


@torch.no_grad()
def test_rows_are_what_transformers_makes_of_them(folder: Path) -> None:
    model = loaded(folder)
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    prompts = [
        "USER: <image>\nHow good is it? ASSISTANT:",
        "USER: The image is blurry. What is its quality? ASSISTANT:",
        "USER: <image>\nRate it. ASSISTANT:The quality is",
    ]
    theirs = processor(
        text=prompts, images=IMAGES, padding=True, padding_side="left", return_tensors="pt"
    )
    ours = model.encode(chats(model))
    assert torch.equal(ours.mask, theirs["attention_mask"].bool())
    assert torch.equal(ours.ids[ours.mask], theirs["input_ids"][ours.mask])
    assert ours.image.sum(1).tolist() == [16, 0, 16]
    pixels = torch.stack([chat.pixels for chat in chats(model) if chat.pixels is not None])
    assert torch.equal(pixels, theirs["pixel_values"])
    own = LlavaForConditionalGeneration.from_pretrained(folder)
    expected = own(**theirs).logits[ours.mask]
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_row_is_what_it_is_alone(folder: Path) -> None:
    model = loaded(folder)
    answers = ["good", "fair, I think", "bad"]
    for said in (None, answers):
        together = model.encode(chats(model), said)
        hidden = model.hidden(together).last_hidden_state
        for index, chat in enumerate(chats(model)):
            alone = model.encode([chat], None if said is None else [said[index]])
            expected = model.hidden(alone).last_hidden_state[0]
            found = hidden[index, together.mask[index]]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_parts_are_told_apart_and_weights_come_back(folder: Path, tmp_path: Path) -> None:
    model = loaded(folder)
    parts = {
        part: sum(p.numel() for module in modules for p in module.parameters())
        for part, modules in model.parts.items()
    }
    assert sum(parts.values()) == sum(p.numel() for p in model.parameters())
    assert parts["bridge"] == (32 * 64 + 64) + (64 * 64 + 64)
    assert model.context == 256
    lora = loaded(folder, Tuning("lora", ["bridge", "language"], rank=2, alpha=2))
    count = 2 * ((32 + 64) + (64 + 64)) + lora_of_decoder()
    assert counted(lora)["trained"].startswith(f"{count:,} (")
    with torch.no_grad():
        for name, weight in lora.named_parameters():
            if "lora_B" in name:
                weight.add_(0.05)
    lora.save(tmp_path / "merged", state_of(lora))
    merged = logits(loaded(tmp_path / "merged"))
    assert (merged - logits(model)).abs().max() > 1e-2
    torch.testing.assert_close(merged, logits(lora), atol=1e-5, rtol=0)


def lora_of_decoder() -> int:
    """Two layers: queries and outputs, keys and values, the three of the feed-forward part."""
    return 2 * 2 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 96))


def test_qlora_leaves_tower_bridge_and_head_whole(folder: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    model = loaded(folder, Tuning("qlora", ["language"], rank=2))
    packed = {name for name, m in model.model.named_modules() if isinstance(m, Linear4bit)}
    assert len(packed) == 2 * 7
    assert all("language_model" in name for name in packed)
    before = logits(loaded(folder))
    assert (logits(model) - before).abs().max() < 0.2


def test_weights_that_do_not_fit_are_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "misfit")
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if name.endswith("linear_1.bias"))]
    save_file(weights, tmp_path / "misfit" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing \(model\.multi_modal_projector\.linear_1"):
        loaded(tmp_path / "misfit")


def test_a_folder_without_tokenizer_or_image_settings_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    for missing in ("tokenizer.json", "processor_config.json", "config.json"):
        bare = tmp_path / missing.removesuffix(".json")
        shutil.copytree(folder, bare)
        (bare / missing).unlink()
        (bare / "model.safetensors").unlink()
        with pytest.raises(InputError, match=str(bare)):
            AutoChat(str(bare)).prepare()


def test_a_model_without_template_is_refused(tmp_path: Path) -> None:
    folder = write_llava(tmp_path / "mute", chat_template=None)
    with pytest.raises(InputError, match="its processor has no chat_template"):
        AutoChat(str(folder)).prepare()


class Told:
    """A processor, its answers changed."""

    def __init__(self, processor: Any, change: Any) -> None:
        self.processor, self.change = processor, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)

    def __call__(self, **given: Any) -> Any:
        return self.change(dict(self.processor(**given)), given["images"].size)


def with_sizes(made: Any, size: tuple[int, int]) -> Any:
    return made | {"image_sizes": torch.tensor([size])}


def in_tiles(made: Any, size: tuple[int, int]) -> Any:
    return made | {"pixel_values": made["pixel_values"][None].repeat(1, 1 + size[0] // 90, 1, 1, 1)}


def with_rows(made: Any, size: tuple[int, int]) -> Any:
    """A line break among the image's tokens."""
    ids = made["input_ids"]
    place = int((ids[0] > 396).nonzero()[-1]) - 2
    return made | {"input_ids": torch.cat([ids[:, :place], ids[:, -1:], ids[:, place:]], 1)}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (with_sizes, "its decoder also takes image_sizes"),
        (in_tiles, "an image does not become one tensor"),
        (with_rows, "its image tokens are not one run"),
    ],
)
def test_images_that_are_more_than_one_tensor_are_refused(
    change: Any, complaint: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    monkeypatch.setattr(AutoProcessor, "from_pretrained", lambda *_, **__: Told(processor, change))
    with pytest.raises(InputError, match=complaint):
        AutoChat(str(folder)).prepare()


def test_qwen_is_no_model_for_it(tmp_path: Path) -> None:
    qwen = TinyQwenVL(layers=1)
    qwen.load()
    qwen.save(tmp_path / "qwen", state_of(qwen))
    with pytest.raises(InputError, match=f"{tmp_path}.*cannot be read: Video processor"):
        AutoChat(str(tmp_path / "qwen")).prepare()


def test_the_folder_is_what_a_llava_checkpoint_is(folder: Path) -> None:
    """So that what holds for it holds for LLaVA-1.5."""
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "llava" and config["vision_feature_layer"] == -2
    assert isinstance(loaded(folder).model.lm_head, nn.Linear)
