"""Real weights of installed packages do what they were trained for; skipped without them."""

from __future__ import annotations

from pathlib import Path

import made_up
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from sklearn.datasets import load_sample_image
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from lit_biqa.backbones.pretrained import packages
from lit_biqa.backbones.pretrained.folders import weights_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_BIQA_CACHE", str(tmp_path))


def test_lite0_knows_palaces_and_flowers() -> None:
    package = made_up.installed("lite0")
    model = timm.create_model(f"local-dir:{weights_folder('lite0')}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model))
    for name, label in (("china.jpg", "palace"), ("flower.jpg", "daisy")):
        with torch.no_grad():
            logits = model(transform(Image.fromarray(load_sample_image(name)))[None])
        assert ImageNetInfo().index_to_description(int(logits.argmax())) == label

    folder = packages.locate(package)
    assert folder is not None
    original = torch.load(folder / package.files[0].name, weights_only=True)
    pairs = zip(model.state_dict().values(), original.values(), strict=True)
    assert all(torch.equal(new, old) for new, old in pairs)


def test_minilm_sets_paraphrases_together() -> None:
    made_up.installed("minilm")
    folder = weights_folder("minilm")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)

    def embed(text: str) -> Tensor:
        states: Tensor = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        return torch.nn.functional.normalize(states.mean(1), dim=1)[0]

    with torch.no_grad():
        blurred, soft, dog = map(
            embed, ("The photo is blurred.", "The picture is out of focus.", "A dog ate my shoe.")
        )
    assert blurred @ soft > 0.5 > 0.2 > blurred @ dog


def test_smollm2_answers() -> None:
    made_up.installed("smollm2")
    pytest.importorskip("gguf")
    folder = weights_folder("smollm2")
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert not hasattr(model.config, "quantization_config")
    assert model.dtype == torch.bfloat16 and model.num_parameters() == 134_515_008
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    written = model.generate(**prompt, max_new_tokens=10, do_sample=False)[0]
    answer = tokenizer.decode(written[prompt["input_ids"].shape[1] :])
    assert "Paris" in answer and answer.endswith("<|im_end|>")
