"""Other image-text models, on a small LLaVA-1.5: equal to transformers, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from chatters import picture
from llavas import write_internvl, write_llava, write_llava_onevision
from own_calls import own_call
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoProcessor

from lit_biqa.backbones import auto_chat
from lit_biqa.backbones.auto_chat import PASSED, AutoChat
from lit_biqa.backbones.qwen_vl import KINDS
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


def with_types(made: Any, size: tuple[int, int]) -> Any:
    return made | {"token_type_ids": torch.zeros_like(made["input_ids"])}


def of_its_size(made: Any, size: tuple[int, int]) -> Any:
    return made | {"pixel_values": torch.zeros(1, 3, *size)}


def with_rows(made: Any, size: tuple[int, int]) -> Any:
    """A line break among the image's tokens."""
    ids = made["input_ids"]
    place = int((ids[0] > 396).nonzero()[-1]) - 2
    return made | {"input_ids": torch.cat([ids[:, :place], ids[:, -1:], ids[:, place:]], 1)}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (with_types, "its decoder also takes token_type_ids"),
        (of_its_size, "an image does not become tiles of one size"),
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
    with pytest.raises(InputError, match=f"{tmp_path}.*(cannot be read|no model for AutoChat)"):
        AutoChat(str(tmp_path / "qwen")).prepare()


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("llava_of_tomorrow", "transformers knows no model of type 'llava_of_tomorrow'"),
        ("bert", "a model of type 'bert' reads no images with text"),
    ],
)
def test_a_type_that_cannot_run_is_refused_with_those_that_do(
    kind: str, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "model.safetensors").write_text("never read")
    with pytest.raises(InputError) as caught:
        AutoChat(str(tmp_path)).prepare()
    assert complaint in str(caught.value)
    assert all(named in str(caught.value) for named in (*PASSED, *KINDS, "mplug_owl2"))


def test_a_type_that_runs_unchecked_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    AutoChat(str(folder)).prepare()
    assert not caplog.records
    monkeypatch.setattr(auto_chat, "PASSED", ("internvl",))
    AutoChat(str(folder)).prepare()
    assert "llava is no type that the tests check" in caplog.text


@pytest.mark.parametrize("write", [write_internvl, write_llava_onevision])
@torch.no_grad()
def test_fewer_tiles_if_asked(write: Any, tmp_path: Path) -> None:
    """And so after saving, by the class of transformers too."""
    large = picture(200, 100)
    whole = AutoChat(str(write(tmp_path / "whole")))
    few = AutoChat(str(tmp_path / "whole"), max_tiles=1)
    few.load()
    tiles = [len(model.image_transform(large)) for model in (whole, few)]
    assert tiles[0] > 2 and tiles[1] == (1 if write is write_internvl else 2)
    few.save(tmp_path / "few", state_of(few))
    again = loaded(tmp_path / "few")
    chat = ask("How good is it?", again.image_transform(large))
    assert chat.pixels is not None and len(chat.pixels) == tiles[1]
    logits = again.head(again.hidden(again.encode([chat])).last_hidden_state[0])
    torch.testing.assert_close(logits, own_call(again, chat, large).logits, atol=1e-5, rtol=0)


def test_tiles_that_cannot_be_limited_are_told(folder: Path) -> None:
    with pytest.raises(InputError, match="does not cut images into tiles; leave max_tiles out"):
        AutoChat(str(folder), max_tiles=2).prepare()
    with pytest.raises(InputError, match=r"backbone\.max_tiles"):
        AutoChat(str(folder), max_tiles=0)


def test_the_folder_is_what_a_llava_checkpoint_is(folder: Path) -> None:
    """So that what holds for it holds for LLaVA-1.5."""
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "llava" and config["vision_feature_layer"] == -2
    assert isinstance(loaded(folder).model.lm_head, nn.Linear)
