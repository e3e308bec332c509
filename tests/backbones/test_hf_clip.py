"""CLIP in transformers' layout, read and written, against transformers' own CLIPModel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hf_clips import DIM, SIDE, small_clip
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from lit_biqa.__main__ import main
from lit_biqa.backbones.clip import OpenClip
from lit_biqa.backbones.hf_clip_folder import write_clip
from lit_biqa.backbones.weights import state_of
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import write_scorer
from lit_biqa.types import InputError

TEXTS = ["Sharp, well lit; it's clean.", "Strong noise, 3 of 5", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as OpenAI's lie on the hub."""
    folder = tmp_path_factory.mktemp("hub") / "clip"
    small_clip(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> OpenClip:
    encoder = OpenClip(f"transformers:{folder}", long_texts="truncate")
    encoder.load()
    return encoder.eval()


def pixels() -> Tensor:
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def theirs(model: CLIPModel, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings of pixels and of token ids by transformers."""
    image = model.vision_model(pixel_values=pixels()).pooler_output
    text = model.text_model(input_ids=ids).pooler_output
    return model.visual_projection(image), model.text_projection(text)


@torch.no_grad()
def test_embeddings_are_those_of_transformers(folder: Path, encoder: OpenClip) -> None:
    model = CLIPModel.from_pretrained(folder).eval()
    image, text = theirs(model, encoder.tokenizer(TEXTS))
    assert (encoder.dim, encoder.frame.size) == (DIM, SIDE)
    assert image.std() > 0.1
    torch.testing.assert_close(encoder.embed_images(pixels()), image, atol=1e-5, rtol=1e-5)
    ours = encoder.embed_texts(TEXTS)
    torch.testing.assert_close(ours, text / text.norm(dim=1, keepdim=True), atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.scale, model.logit_scale.exp().clamp(max=100)[None])


def test_pixels_are_those_of_transformers(folder: Path, encoder: OpenClip) -> None:
    noise = torch.randint(0, 256, (45, 70, 3), generator=torch.Generator().manual_seed(1))
    image = Image.fromarray(noise.byte().numpy())
    expected = CLIPImageProcessorPil.from_pretrained(folder)(image, return_tensors="pt")
    made = encoder.eval_transform(image)
    torch.testing.assert_close(made, expected["pixel_values"][0], atol=1e-5, rtol=0)


def test_both_towers_are_written_for_others(encoder: OpenClip, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip", state_of(encoder.clip), encoder.config, encoder.frame)
    model = CLIPModel.from_pretrained(tmp_path / "clip").eval()
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "clip")
    tokens = tokenizer(TEXTS, padding="max_length", max_length=20, return_tensors="pt")
    own = encoder.tokenizer(TEXTS)
    for row, mask, ours in zip(tokens["input_ids"], tokens["attention_mask"], own, strict=True):
        assert row[mask.bool()].tolist() == ours[: int(mask.sum())].tolist()
    image, text = theirs(model, tokens["input_ids"])
    with torch.no_grad():
        expected = encoder.embed_images(pixels()), encoder.embed_texts(TEXTS)
    torch.testing.assert_close(image, expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        text / text.norm(dim=1, keepdim=True), expected[1], atol=1e-5, rtol=0
    )
    again = OpenClip(f"transformers:{tmp_path / 'clip'}")
    assert (again.config, again.frame) == (encoder.config, encoder.frame)
    with pytest.raises(InputError, match="exists and is not replaced"):
        write_clip(tmp_path / "clip", state_of(encoder.clip), encoder.config, encoder.frame)


@pytest.mark.parametrize("whole", [False, True], ids=["image", "both"])
def test_a_scorer_gives_its_clip_away(
    folder: Path, encoder: OpenClip, tmp_path: Path, whole: bool
) -> None:
    tower = state_of(encoder.image_tower)
    head = PrototypeHead(DIM, HeadSettings(pca=4, prototypes=6))
    write_scorer(tmp_path / "scorer.safetensors", tower, head, encoder.settings())
    arguments = ["export-clip", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main([*arguments, *(["--text", str(folder)] if whole else [])]) == 0
    kind = CLIPModel if whole else CLIPVisionModelWithProjection
    model, told = kind.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert CLIPImageProcessorPil.from_pretrained(tmp_path / "out").crop_size["height"] == SIDE
    with torch.no_grad():
        pooled = model.eval().vision_model(pixel_values=pixels()).pooler_output
        made, expected = model.visual_projection(pooled), encoder.embed_images(pixels())
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "siglip"}, "of type 'siglip', not 'clip'"),
        ({"text_config": {"vocab_size": 99}}, "vocab_size is 99; the tokenizer of CLIP has 49408"),
        ({"text_config": {"hidden_act": "gelu"}}, "another activation"),
    ],
)
def test_other_models_are_refused_before_weights_load(
    folder: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        OpenClip(f"transformers:{tmp_path}")


def test_the_form_of_a_folder_is_told(folder: Path) -> None:
    with pytest.raises(InputError, match="model=transformers:"):
        OpenClip(f"local-dir:{folder}")
