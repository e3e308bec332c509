"""open_clip's towers, offline: small architectures of each kind, weights from files and folders."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip import factory
from safetensors.torch import save_file
from torch import Tensor

from lit_biqa.backbones.clip import OpenClip
from lit_biqa.backbones.image_towers import build_tower
from lit_biqa.backbones.long_texts import sentences
from lit_biqa.backbones.transforms import CLIP_MEAN, CLIP_STD, Frame
from lit_biqa.types import InputError

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "nano": {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT},
    "nano-wide": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "nano-quickgelu": {"embed_dim": 16, "quick_gelu": True, "vision_cfg": VIT, "text_cfg": TEXT},
    # As SigLIP's: text in a tower of its own, attention pooling in timm's, and a bias.
    "nano-sig": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
    "nano-convnext": {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 64,
            "timm_model_name": "test_convnext",
            "timm_pool": "",
            "timm_proj": "linear",
        },
        "text_cfg": TEXT,
    },
    "nano-resnet": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8},
        "text_cfg": TEXT,
    },
}
TEXTS = ["Sharp and clean. Good light.", "Strong noise."]


@pytest.fixture(autouse=True)
def small_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, config in CONFIGS.items():
        monkeypatch.setitem(factory._MODEL_CONFIGS, name, copy.deepcopy(config))
    torch.manual_seed(0)


def loaded(model: str = "nano", pretrained: str | None = None, **settings: Any) -> OpenClip:
    encoder = OpenClip(model, pretrained, **settings)
    encoder.load()
    return encoder


def pixels(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def weights() -> dict[str, Tensor]:
    state: dict[str, Tensor] = open_clip.create_model("nano", None).state_dict()
    return state


def write_folder(folder: Path, described: Any, state: dict[str, Tensor] | None = None) -> str:
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    if state is not None:
        save_file(state, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


class Malice:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_the_papers_default_is_known_before_weights_are() -> None:
    encoder = OpenClip()
    assert (encoder.model, encoder.pretrained) == ("ViT-L-14-336-quickgelu", "openai")
    assert encoder.dim == 768
    assert encoder.frame == Frame(336, "shortest", CLIP_MEAN, CLIP_STD, bicubic=True)
    assert pytest.approx(encoder.frame.mean) == (0.48145466, 0.4578275, 0.40821073)
    assert not encoder.loaded
    assert not list(encoder.parameters())
    assert encoder.freeze_text
    assert encoder.freeze_scale


def test_siglips_pixels_follow_its_tag() -> None:
    encoder = OpenClip("ViT-B-16-SigLIP", "webli")
    half = (0.5, 0.5, 0.5)
    assert encoder.frame == Frame(224, "squash", half, half)
    assert OpenClip("ViT-B-16-SigLIP", None).frame.mean == CLIP_MEAN


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "ViT-L-14-336-quickgel"}, "Did you mean ViT-L-14-336-quickgelu"),
        ({"model": "hf-hub:someone/model"}, "no architecture 'hf-hub:someone/model'"),
        ({"model": "coca_ViT-B-32"}, "generates captions"),
        ({"model": "ViT-L-14-336"}, "set model=ViT-L-14-336-quickgelu"),
        ({"model": "RN50"}, "set model=RN50-quickgelu"),
        ({"model": "ViT-B-32", "pretrained": "laion"}, "its tags: .*laion2b_s34b_b79k"),
        ({"model": "nano", "pretrained": "openai"}, "its tags: none"),
        ({"pretrained": "absent/weights.pt"}, "no file, and no tag"),
        ({"model": "local-dir:absent"}, "absent/open_clip_config.json: no description"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_there_is_told_before_weights_load(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        OpenClip(**settings)


def test_other_weights_of_the_plain_architecture_are_taken() -> None:
    assert OpenClip("ViT-B-32", "laion2b_s34b_b79k").frame.size == 224
    assert OpenClip("ViT-B-32-quickgelu", "openai").dim == 512


def test_a_folder_brings_architecture_pixels_and_weights(tmp_path: Path) -> None:
    grey = {"mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": "squash", "size": [32, 32]}
    described = {"model_cfg": CONFIGS["nano"], "preprocess_cfg": grey}
    state = weights()
    encoder = loaded(write_folder(tmp_path / "nano", described, state))
    half, quarter = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    assert encoder.frame == Frame(32, "squash", half, quarter)
    for name, value in encoder.clip.state_dict().items():
        assert torch.equal(value.reshape(-1), state[name].reshape(-1)), name


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ([], "no description of a model"),
        ({"embed_dim": 16}, "no description of a model"),
        ({"model_cfg": {"embed_dim": 16, "vision_cfg": VIT}}, "model_cfg lacks text_cfg"),
        ({"model_cfg": CONFIGS["nano"], "preprocess_cfg": {"resize_mode": "longest"}}, "pads"),
    ],
)
def test_a_folder_that_describes_no_model_is_refused(
    tmp_path: Path, described: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        OpenClip(write_folder(tmp_path / "folder", described))


def test_a_folder_without_weights_is_no_random_model(tmp_path: Path) -> None:
    encoder = OpenClip(write_folder(tmp_path / "bare", {"model_cfg": CONFIGS["nano"]}))
    with pytest.raises(InputError, match="could not be loaded"):
        encoder.load()


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_are_read_from_a_file(tmp_path: Path, suffix: str) -> None:
    state, path = weights(), tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    first, again = loaded(pretrained=str(path)), loaded(pretrained=str(path))
    assert torch.equal(first.embed_images(pixels()), again.embed_images(pixels()))
    assert torch.equal(first.clip.visual.conv1.weight, state["visual.conv1.weight"])
    assert not torch.equal(first.embed_images(pixels()), loaded().embed_images(pixels()))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path, harm = tmp_path / "weights.pt", tmp_path / "harm"
    path.write_bytes(pickle.dumps({"state_dict": Malice(harm)}, protocol=2))
    with pytest.raises(InputError, match="nothing else is unpickled"):
        loaded(pretrained=str(path))
    torch.save({"state_dict": {**weights(), "extra": Malice(harm)}}, path)
    with pytest.raises(InputError, match="nothing else is unpickled"):
        loaded(pretrained=str(path))
    assert not harm.exists()


def test_weights_of_another_architecture_are_refused_in_a_line(tmp_path: Path) -> None:
    save_file(weights(), path := tmp_path / "nano.safetensors")
    with pytest.raises(InputError, match=r"nano-wide with pretrained=.*size mismatch") as caught:
        loaded("nano-wide", str(path))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 cut short"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_broken_files_of_weights_are_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"weights.{suffix}"):
        loaded(pretrained=str(path))


@pytest.mark.parametrize(("model", "size"), [("nano", 32), ("nano-sig", 160)])
@pytest.mark.parametrize("freeze", [True, False], ids=["frozen", "trained"])
def test_freezing_decides_where_gradients_flow(model: str, size: int, freeze: bool) -> None:
    encoder = loaded(model, freeze_text=freeze, freeze_scale=freeze).train()
    images, texts, scale = encoder(pixels(size), TEXTS)
    assert scale.shape == (1,)
    (scale * images * texts).square().sum().backward()
    for name, value in encoder.clip.named_parameters():
        image = name.startswith("visual.")
        trained = (image or not freeze) and name != "logit_bias"
        assert value.requires_grad == trained, name
        # Every trained parameter is used: DDP waits for the gradient of each.
        assert (value.grad is not None) == trained, name


def test_the_scale_is_at_most_100() -> None:
    encoder = loaded()
    assert encoder.scale.item() == pytest.approx(1 / 0.07)
    torch.nn.init.constant_(encoder.clip.logit_scale, 9.0)
    assert encoder.scale.item() == pytest.approx(100.0)


def test_sentences_are_averaged_and_truncation_cuts() -> None:
    encoder = loaded().eval()
    long = "Sharp and clean. " * 3 + "Strong noise in the dark. Banding in the sky."
    tokens = encoder.tokenizer(sentences(long))
    by_hand = F.normalize(encoder.clip.encode_text(tokens), dim=1).mean(0)
    torch.testing.assert_close(encoder.embed_texts([TEXTS[1], long])[1], by_hand)

    encoder.long_texts = "truncate"
    kept = "sharp and clean. " * 2 + "sharp and"  # ten tokens between start and end
    cut, same, other = encoder.embed_texts([long, kept, kept + " more"])
    torch.testing.assert_close(cut.norm(), torch.tensor(1.0))
    torch.testing.assert_close(cut, same)
    torch.testing.assert_close(cut, other)
    assert not torch.allclose(cut, by_hand, atol=1e-3)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("nano", 32),
        ("nano-quickgelu", 32),
        ("nano-sig", 160),
        ("nano-convnext", 64),
        ("nano-resnet", 64),
    ],
)
def test_towers_are_rebuilt_from_their_settings(model: str, size: int) -> None:
    encoder = loaded(model).eval()
    settings = json.loads(json.dumps(encoder.settings()))
    tower = build_tower(settings)
    assert not torch.equal(tower.eval()(pixels(size)), encoder.embed_images(pixels(size)))
    tower.load_state_dict(encoder.image_tower.state_dict())
    embedded = encoder.embed_images(pixels(size))
    assert embedded.shape == (2, encoder.dim)
    assert torch.equal(tower(pixels(size)), embedded)
    assert Frame(**settings["frame"]).size == size


def test_blocks_to_be_sharded_are_those_of_both_towers() -> None:
    text = TEXT["layers"]
    assert len(loaded("nano").blocks()) == VIT["layers"] + text
    vit, convnext = loaded("nano-sig"), loaded("nano-convnext")
    assert len(vit.blocks()) == len(vit.clip.visual.trunk.blocks) + text
    assert len(convnext.blocks()) == len(convnext.clip.visual.trunk.stages) + text


@pytest.mark.parametrize("margin", [-0.5, 1e6])
def test_a_margin_that_makes_no_pixels_or_too_many_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match=r"^encoder.crop_margin is .*: give 0 to 127"):
        OpenClip("nano", None, crop_margin=margin)
