"""Prompts and images: the goldens of the original exactly, then the processor as a whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, AutoTokenizer, CLIPImageProcessorPil

from lit_biqa.backbones.mplug_owl2 import MplugOwl2Processor, tiny_mplug_owl2
from lit_biqa.backbones.mplug_owl2.processing import Aspect
from lit_biqa.backbones.mplug_owl2.tokenization import (
    encode,
    encode_with_images,
    load_tokenizer,
    train_tokenizer,
)
from lit_biqa.types import InputError


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "goldens/mplug_owl2/preprocess"


@pytest.fixture(scope="module")
def official(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the processing half of an official checkpoint."""
    made = tmp_path_factory.mktemp("official")
    for file in [
        folder / "preprocessor_config.json",
        *(folder / "tokenizer_legacy_true").iterdir(),
    ]:
        shutil.copyfile(file, made / file.name)
    (made / "config.json").write_text('{"model_type": "mplug_owl2"}')
    return made


@pytest.mark.parametrize("legacy", [True, False])
def test_tokens_equal_the_original(folder: Path, legacy: bool) -> None:
    flag = str(legacy).lower()
    tokenizer = load_tokenizer(folder / f"tokenizer_legacy_{flag}")
    prompts = json.loads((folder / "golden.json").read_text())["prompts"]
    assert len(prompts) == 13
    for prompt in prompts:
        ids = encode_with_images(tokenizer, prompt["text"], legacy)
        assert ids == prompt[f"ids_legacy_{flag}"], prompt["text"]


def test_the_stop_word_is_one_token(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    stop = json.loads((folder / "golden.json").read_text())["stop_keyword_ids"]
    assert [encode(tokenizer, "</s>")] == stop


@pytest.mark.parametrize("aspect", get_args(Aspect))
@pytest.mark.parametrize(
    "name", ["wide_97x61", "tall_40x130", "square_56x56", "small_21x30", "big_300x200"]
)
def test_pixels_equal_the_original(folder: Path, official: Path, name: str, aspect: Any) -> None:
    processor = MplugOwl2Processor.from_pretrained(official, aspect=aspect)
    pixels = processor.process_images([Image.open(folder / f"{name}.png")])
    expected = load_file(folder / "pixel_values.safetensors")[f"{name}.{aspect}"]
    assert torch.equal(pixels, expected)


def test_pixels_of_the_official_size_equal_the_original(folder: Path, official: Path) -> None:
    processor = MplugOwl2Processor.from_pretrained(official)
    processor.image_processor = CLIPImageProcessorPil.from_pretrained(
        official, size={"shortest_edge": 448}, crop_size={"height": 448, "width": 448}
    )
    pixels = processor.process_images([Image.open(folder / "big_300x200.png")])
    expected = load_file(folder / "pixel_values.safetensors")["big_300x200.resize448.every7"]
    assert torch.equal(pixels[..., ::7, ::7], expected)


def test_official_folder_round_trip(official: Path, tmp_path: Path) -> None:
    first = AutoProcessor.from_pretrained(official, aspect="pad")
    assert isinstance(first, MplugOwl2Processor) and first.legacy
    first.save_pretrained(tmp_path)
    second = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(second, MplugOwl2Processor) and second.aspect == "pad"
    prompt = "USER: First <|image|> then <|image|> end</s>USER: 你 ASSISTANT:"
    assert second.tokenize(prompt) == first.tokenize(prompt)
    image = Image.effect_noise((40, 70), 50.0)
    assert torch.equal(second.process_images([image]), first.process_images([image]))
    plain = AutoTokenizer.from_pretrained(tmp_path)
    assert plain("USER: Hello").input_ids == first.tokenize("USER: Hello")


def test_the_legacy_flag_is_read_and_kept(folder: Path, official: Path, tmp_path: Path) -> None:
    shutil.copytree(official, tmp_path / "new")
    flag = folder / "tokenizer_legacy_false/tokenizer_config.json"
    shutil.copyfile(flag, tmp_path / "new/tokenizer_config.json")
    processor = MplugOwl2Processor.from_pretrained(tmp_path / "new")
    assert processor.tokenize("a</s>USER:")[-2:] == [0, 527]
    processor.save_pretrained(tmp_path / "saved")
    again = MplugOwl2Processor.from_pretrained(tmp_path / "saved")
    assert again.tokenize("a</s>USER:")[-2:] == [0, 527]


def test_decoding_undoes_encoding(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    for text in ("The image is  blurry.", " two spaces", "naïve 你好 😀", "a\nb", "3.25"):
        assert tokenizer.decode(encode(tokenizer, text)) == text
        assert tokenizer.decode([1, *encode(tokenizer, text), 2], skip_special_tokens=True) == text


@pytest.fixture(scope="module")
def processor() -> MplugOwl2Processor:
    return tiny_mplug_owl2()[1]


def chat(image: Image.Image, question: str) -> list[dict[str, Any]]:
    parts = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    return [{"role": "user", "content": parts}]


def test_conversations_read_as_the_official_ones(processor: MplugOwl2Processor) -> None:
    turns = [
        *chat(Image.new("RGB", (8, 8)), "What is it?"),
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "And now?"},
    ]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True)
    assert prompt == ("USER: <|image|>What is it? ASSISTANT: A cat.</s>USER: And now? ASSISTANT:")
    with_system = [{"role": "system", "content": "Be kind."}, *turns[:2]]
    assert processor.apply_chat_template(with_system) == (
        "Be kind. USER: <|image|>What is it? ASSISTANT: A cat.</s>"
    )


def test_batches_from_conversations(processor: MplugOwl2Processor) -> None:
    image = Image.effect_noise((40, 70), 50.0).convert("RGB")
    chats = [chat(image, "Is it good?"), chat(image, "Is the image of a good quality?")]
    batch = processor.apply_chat_template(
        chats, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    assert set(batch) == set(processor.model_input_names)
    assert batch["images"].shape == (2, 3, 56, 56)
    first = processor.tokenize("USER: <|image|>Is it good? ASSISTANT:")
    padding = batch["input_ids"].shape[1] - len(first)
    assert padding > 0
    assert batch["input_ids"][0].tolist() == [0] * padding + first
    assert batch["attention_mask"][0].tolist() == [0] * padding + [1] * len(first)
    right = processor(text=["a", "a b c"], padding_side="right")
    assert "images" not in right
    assert right["attention_mask"].sum(1).tolist() == [
        len(processor.tokenize(text)) for text in ("a", "a b c")
    ]
    assert right["attention_mask"][0, -1] == 0


def test_image_files_are_read(processor: MplugOwl2Processor, tmp_path: Path) -> None:
    image = Image.effect_noise((40, 70), 50.0).convert("RGB")
    image.save(tmp_path / "a.png")
    named = processor(text="<|image|>x", images=[str(tmp_path / "a.png")])
    assert torch.equal(named["images"], processor.process_images([image]))


def test_bad_calls_are_refused(processor: MplugOwl2Processor) -> None:
    image = Image.new("RGB", (8, 8))
    with pytest.raises(InputError, match="1 image placeholders, but no images"):
        processor(text="<|image|>x")
    with pytest.raises(InputError, match="no image placeholder, but 1 images"):
        processor(text="x", images=image)
    with pytest.raises(InputError, match="takes text and images"):
        processor(images=image)
    with pytest.raises(InputError, match="aspect 'crop'"):
        MplugOwl2Processor(processor.image_processor, processor.tokenizer, aspect="crop")  # type: ignore[arg-type]


def test_folders_without_the_files_are_refused(official: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image settings"):
        MplugOwl2Processor.from_pretrained(tmp_path)
    shutil.copyfile(official / "preprocessor_config.json", tmp_path / "preprocessor_config.json")
    with pytest.raises(InputError, match=r"no tokenizer.model and no tokenizer.json"):
        MplugOwl2Processor.from_pretrained(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "unigram", "spaces"])
def test_damaged_or_foreign_tokenizers_are_refused(
    folder: Path, tmp_path: Path, damage: str
) -> None:
    whole = (folder / "tokenizer.model").read_bytes()
    made = {
        "cut": whole[: len(whole) // 2],
        "text": b"<html>not found</html>",
        "empty": b"",
        # Settings said once more override those before: the kind of model, the spaces removed.
        "unigram": whole + b"\x12\x02\x18\x01",
        "spaces": whole + b"\x1a\x02\x20\x01",
    }[damage]
    assert made != whole
    (tmp_path / "tokenizer.model").write_bytes(made)
    with pytest.raises(InputError, match=r"tokenizer\.model: not a"):
        load_tokenizer(tmp_path)


def test_learning_a_tokenizer() -> None:
    texts = ["The quality is good, 3.25.", "The quality is poor.", "An excellent\nimage 12"] * 4
    first, second = train_tokenizer(texts, 400), train_tokenizer(iter(texts), 400)
    assert first.get_vocab() == second.get_vocab() and len(first) <= 400
    assert first.tokenize("The quality") == ["▁The", "▁quality"]
    assert first.tokenize("12")[1:] == ["1", "2"]
    assert first.decode(first.encode("Zürich 😀", add_special_tokens=False)) == "Zürich 😀"
    assert first("The").input_ids[0] == first.bos_token_id == 1
    with pytest.raises(InputError, match="at least 259"):
        train_tokenizer(texts, 200)


def test_a_tiny_model_describes_an_image() -> None:
    """Nonsense, but from pixels to text through every part."""
    model, processor = tiny_mplug_owl2(seed=3)
    again, _ = tiny_mplug_owl2(seed=3)
    other, _ = tiny_mplug_owl2(seed=4)
    weights = [m.state_dict()["lm_head.weight"] for m in (model, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    for word in ("bad", "poor", "fair", "good", "excellent", "average"):
        assert len(processor.tokenizer.tokenize(word)) == 1, word
    batch = processor(
        text=["USER: <|image|>Describe it. ASSISTANT:", "USER: Hello ASSISTANT:"],
        images=[Image.effect_noise((90, 50), 60.0)],
    )
    sequences = model.generate(**batch, do_sample=False, max_new_tokens=5, eos_token_id=None)
    texts = processor.batch_decode(sequences, skip_special_tokens=True)
    assert texts[0].startswith("USER:") and "Describe it. ASSISTANT:" in texts[0]
    assert sequences.shape[1] == batch["input_ids"].shape[1] + 5


def test_the_tiny_builder_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    tiny_mplug_owl2()
    assert torch.equal(torch.rand(1), expected)
