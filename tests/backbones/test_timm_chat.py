"""A language model with image features of a timm network: contract, files, cached features."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from PIL import Image
from timm_chats import TinyTimmChat, network_folder
from transformers import AutoModelForCausalLM

from lit_biqa.backbones.small_decoder import SmallDecoder
from lit_biqa.backbones.timm_chat import TimmChat
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import state_of
from lit_biqa.types import Chat, InputError, Message, ask

FROZEN = Tuning(parts=("bridge", "language"))


def loaded(tuning: Tuning = FROZEN) -> TinyTimmChat:
    model = TinyTimmChat(tuning=tuning)
    model.load()
    return model


@pytest.fixture(scope="module")
def model() -> TinyTimmChat:
    """One for all tests; do not change it."""
    return loaded()


def picture(seed: int = 0, size: tuple[int, int] = (80, 60)) -> Image.Image:
    noise = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.manual_seed(seed))
    return Image.fromarray(noise.to(torch.uint8).numpy())


def chats(model: VisionLanguageModel) -> list[Chat]:
    see = model.image_transform
    return [
        ask("How good is it?", see(picture())),
        ask("The image is blurry."),
        ask("Rate it.", see(picture(1, (30, 30))), opening="The quality is"),
    ]


@torch.no_grad()
def logits(model: VisionLanguageModel) -> torch.Tensor:
    inputs = model.encode(chats(model), ["good", "bad", "fair"])
    rows: torch.Tensor = model.head(model.hidden(inputs).last_hidden_state)
    return rows[inputs.mask]


def test_an_image_takes_the_place_of_its_cells_and_one_more(model: TinyTimmChat) -> None:
    inputs = model.encode(chats(model))
    assert inputs.image.sum(1).tolist() == [5, 0, 5]
    assert (inputs.ids[inputs.image] == 0).all()
    text = model.text(inputs.ids[1][inputs.mask[1]].tolist())
    assert text == "user\nThe image is blurry.\nassistant\n"


def test_cells_hold_means_and_deviations(model: TinyTimmChat) -> None:
    tower = model.model.tower
    pixels = torch.randn(1, 3, 64, 96, generator=torch.manual_seed(0))
    with torch.no_grad():
        features = tower(pixels)
        stages = tower.network.forward_intermediates(pixels)[1]
    cells, whole = model.model.projector.split(features)
    assert cells.shape == (1, 4, 2 * (24 + 32 + 48) + 64)
    assert whole.shape == (1, 2 * (16 + 24 + 32 + 48 + 64 + 256))
    first = stages[1][0].double()  # of 24 channels: the last four of five stages are shown
    corner = first[:, first.shape[1] // 2 :, : first.shape[2] // 2].flatten(1)  # left, below
    torch.testing.assert_close(cells[0, 2, :24].double(), corner.mean(1), atol=1e-5, rtol=0)
    start = 24 + 32 + 48 + 64
    deviation = cells[0, 2, start : start + 24].double()
    torch.testing.assert_close(deviation, corner.std(1, correction=0), atol=1e-4, rtol=0)


def test_features_are_as_good_as_pixels(model: TinyTimmChat) -> None:
    network = model.frozen_network()
    assert network is not None
    with torch.no_grad():
        pixels = [chat.pixels for chat in chats(model) if chat.pixels is not None]
        rows = iter(network.features(pixels))
        seen = [
            Chat(chat.messages, None if chat.pixels is None else next(rows), chat.opening)
            for chat in chats(model)
        ]
        inputs = model.encode(seen, ["good", "bad", "fair"])
        hidden = model.hidden(inputs).last_hidden_state
    torch.testing.assert_close(model.head(hidden)[inputs.mask], logits(model))


def test_a_trained_network_has_no_features_to_keep() -> None:
    assert loaded(Tuning()).frozen_network() is None


def test_the_digest_tells_networks_and_sizes_apart(model: TinyTimmChat) -> None:
    same = loaded().frozen_network()
    other = loaded()
    other.frame = other.frame.__class__(48, "native")
    changed = loaded()
    next(changed.model.tower.parameters()).data.add_(1)
    digests = [m.frozen_network().digest for m in (model, other, changed)]  # type: ignore[union-attr]
    assert same is not None and same.digest == digests[0]
    assert len(set(digests)) == 3


def test_an_adapter_of_the_language_model_is_merged(model: TinyTimmChat, tmp_path: Path) -> None:
    """Alone, and beside its base; against what peft computes."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    model.save(base, state_of(model))
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False),
    ).eval()
    tuned.save_pretrained(adapter)
    both = shutil.copytree(base, tmp_path / "both")
    shutil.copytree(adapter, both, dirs_exist_ok=True)
    ids = torch.arange(5)[None]
    for folder in (adapter, both):
        found = TimmChat(image=str(network_folder()), language=str(folder), context=64)
        found.load()
        torch.testing.assert_close(found.model.language(ids).logits, tuned(ids).logits)


def test_with_lora_the_projection_trains_in_full() -> None:
    model = loaded(Tuning("lora", ("bridge", "language"), rank=2))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    projector = {name for name in trained if name.startswith("model.projector.")}
    assert len(projector) == 4  # weights and biases of two layers
    assert all("lora_" in name for name in trained - projector)
    assert not any("tower" in name for name in trained)


def test_standardisation_comes_from_the_first_training_images(model: TinyTimmChat) -> None:
    projector = model.model.projector
    before = projector.standardise_whole.mean.clone()
    projector.observe(torch.zeros(3, projector.cells * projector.cell + projector.whole))
    assert torch.equal(projector.standardise_whole.mean, before)


def test_smaller_images_than_the_grid(model: TinyTimmChat) -> None:
    with torch.no_grad():
        features = model.image_features([model.image_transform(picture(0, (8, 8)))])
    assert features.shape == (5, 64) and features.isfinite().all()


def test_a_long_image_keeps_its_shape(model: TinyTimmChat) -> None:
    assert model.image_transform(picture(0, (300, 40))).shape == (3, 40, 300)
    assert model.image_transform(picture(0, (256, 128))).shape == (3, 64, 128)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"language": {"width": 50}}, "language.width"),
        ({"language": {"width": 96, "heads": 4}}, "multiple of 16"),
        ({"grid": 0}, "backbone.grid"),
        ({"pretrained": "."}, "no model that TimmChat saved"),
        ({"image": "nowhere/x"}, "nowhere/x"),
    ],
)
def test_wrong_settings_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        options = {"image": str(network_folder()), "language": {}, **settings}
        options["language"] = SmallDecoder(**options["language"])
        TimmChat(**options).prepare()


def test_a_language_model_without_chat_template_gets_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoTokenizer

    saved = loaded()
    saved.save(tmp_path / "weights", saved.state())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "weights")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "weights")
    (tmp_path / "weights" / "chat_template.jinja").unlink(missing_ok=True)
    model = TimmChat(image=str(network_folder()), language=str(tmp_path / "weights"))
    model.prepare()
    assert "has no chat template of ChatML" in caplog.text
    row = model.encode_chat(ask("Sharp?"))
    assert model.tokenizer.decode(row.ids).startswith("<|im_start|>user")


def test_a_text_with_the_image_token_is_refused(model: TinyTimmChat) -> None:
    with pytest.raises(InputError, match="image token"):
        model.encode([Chat((Message("user", "What is <|image_pad|>?"),))])


def test_a_projection_of_another_network_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = loaded()
    model.save(tmp_path / "weights", model.state())
    path = tmp_path / "weights" / "projector.safetensors"
    weights = load_file(path)
    weights["project_cell.weight"] = F.pad(weights["project_cell.weight"], (0, 1))
    save_file(weights, path)
    with pytest.raises(InputError, match="the projection does not fit"):
        TimmChat(pretrained=str(tmp_path / "weights")).load()
