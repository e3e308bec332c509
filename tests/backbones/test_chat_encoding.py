"""Chats as rows: equal to what transformers makes of them, whatever stands beside them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from chatters import FAMILIES, mixed, picture, shared
from PIL import Image
from torch import Tensor
from transformers import Qwen2VLImageProcessorPil

from lit_biqa.backbones.qwen_vl import Transform
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.data.dataset import EvaluateReader
from lit_biqa.data.images import UnreadableImage
from lit_biqa.types import InputError, Sample, ask

both = pytest.mark.parametrize("family", FAMILIES)
ANSWERS = ["good", "fair, I think", "bad", "excellent"]


def own_patches(image: Image.Image) -> Tensor:
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 112 * 112})
    made = processor(images=image, return_tensors="pt")
    patches: Tensor = made["pixel_values"].view(*made["image_grid_thw"][0, 1:], -1)
    return patches


@pytest.mark.parametrize("size", [(56, 56), (28, 90), (33, 47), (500, 31), (2000, 1501)])
def test_qwen_cuts_up_images_as_transformers_does(size: tuple[int, int]) -> None:
    transform = shared(TinyQwenVL).image_transform
    patches = transform(picture(*size))
    assert torch.equal(patches, own_patches(picture(*size)))
    assert 3136 <= patches.shape[0] * patches.shape[1] * 14**2 <= 112**2
    copy = pickle.loads(pickle.dumps(transform))
    assert torch.equal(copy(picture(*size)), patches)


def test_qwen_enlarges_what_is_narrower_than_a_position() -> None:
    transform = shared(TinyQwenVL).image_transform
    patches = transform(picture(120, 10))
    larger = picture(120, 10).resize((336, 28), Image.Resampling.LANCZOS)
    assert patches.shape[:2] == (2, 24)
    assert torch.equal(patches, own_patches(larger))
    assert isinstance(transform, Transform)
    with pytest.raises(InputError, match=r"1005 x 5 pixels are too narrow"):
        transform(picture(1005, 5))


def test_an_image_too_narrow_for_qwen_is_a_bad_image(tmp_path: Path) -> None:
    """So that `on_bad_image` says what becomes of it."""
    Image.new("RGB", (6000, 20)).save(tmp_path / "narrow.png")
    sample = Sample("set", "all", 0, "narrow.png", tmp_path / "narrow.png")
    reader = EvaluateReader(shared(TinyQwenVL).image_transform)
    with pytest.raises(UnreadableImage, match=r"narrow\.png: 6000 x 20 pixels are too narrow"):
        reader(sample, torch.Generator())


def compact(ids: Tensor, image: Tensor) -> list[int]:
    """Token ids of a row without its image."""
    tokens: list[int] = ids[~image].tolist()
    return tokens


@both
@pytest.mark.parametrize("opening", ["", "The quality is", "<think>\n", "In conclusion, it's"])
def test_answers_go_on_from_the_opening(family: Any, opening: str) -> None:
    model = shared(family)
    pixels = model.image_transform(picture(56, 56))
    chat = ask("How good is it?", pixels, opening=opening)
    row = model.encode([chat], ["very good."])
    gap = " " if opening and not opening.endswith("\n") else ""
    said = f"{opening}{gap}very good."
    if isinstance(model, TinyMplugOwl2):
        prompt = f"USER: <|image|>How good is it? ASSISTANT: {said}</s>"
        expected = [token for token in model.processor.tokenize(prompt) if token >= 0]
    else:
        prompt = "<|im_start|>user\n<|vision_start|><|vision_end|>How good is it?<|im_end|>\n"
        prompt += f"<|im_start|>assistant\n{said}<|im_end|>"
        expected = model.tokenize(prompt)
    assert compact(row.ids[0], row.image[0]) == expected
    assert row.labels is not None
    learned = row.labels[0][row.labels[0] >= 0].tolist()
    assert learned == expected[-len(learned) :]
    assert model.text(learned).strip() == "very good."
    without = model.encode([chat])
    assert without.labels is None
    assert torch.equal(without.ids[0], row.ids[0][: -len(learned)])


@both
def test_an_opening_that_swallows_the_answer_is_refused(family: Any) -> None:
    chat = ask("How good is it?", opening="The quality is ")
    with pytest.raises(InputError, match=r"opening 'The quality is ' does not end where"):
        shared(family).encode([chat], ["good"])


@both
def test_what_exceeds_the_context_is_refused_with_the_numbers(family: Any) -> None:
    model = family(layers=2, vocabulary=401, context=50)
    model.prepare()
    chat = ask("good " * 20)
    length = len(model.encode_chat(chat).ids)
    with pytest.raises(InputError) as caught:
        model.encode([chat], ["bad " * 30])
    total = length + len(model.tokenize("bad " * 30)) + 1
    assert f"a chat of {total} tokens" in str(caught.value)
    assert f"need {total} positions, the context has 50" in str(caught.value)
    with pytest.raises(InputError, match=f"{length} tokens .* and 40 .* {length + 40} positions"):
        model.check_length(length, 40)
    model.check_length(length, 50 - length)


@both
def test_a_text_alone_runs_no_image_part(family: Any) -> None:
    model = shared(family)
    calls: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, part=part: calls.append(part))
        for part in ("vision", "bridge")
        for module in model.parts[part][-1].modules()
    ]
    chats = mixed(model)
    model.hidden(model.encode([chats[1], ask("Say more.")], ["good", "bad"]))
    assert not calls
    model.hidden(model.encode(chats))
    assert {"vision", "bridge"} == set(calls)
    for handle in handles:
        handle.remove()


def test_a_text_that_speaks_of_image_tokens_is_refused() -> None:
    model = shared(TinyQwenVL)
    with pytest.raises(InputError, match=r"<\|image_pad\|>"):
        model.encode([ask("What does <|image_pad|> mean?")])


@both
def test_images_are_seen_once_while_they_are_remembered(
    family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shared(family)
    chats = mixed(model)
    counts: list[int] = []
    see = model.image_features

    def counted(pixels: Sequence[Tensor]) -> Tensor:
        counts.append(len(pixels))
        features: Tensor = see(pixels)
        return features

    monkeypatch.setattr(model, "image_features", counted)

    def shown(order: list[int]) -> Tensor:
        return torch.cat(
            list(model.hidden(model.encode([chats[i] for i in order])).last_hidden_state[:, -1:])
        )

    images = sum(chat.pixels is not None for chat in chats)
    some, every = [1, 0], [*range(len(chats))][::-1]
    with torch.no_grad():
        expected = shown(some), shown(every)
    first = sum(chats[i].pixels is not None for i in some)
    counts.clear()
    with model.cache_image_features():
        shown(some)
        shown(every)
    assert counts == [first, images], "what sees images is trained: it changes within a step"
    counts.clear()
    with torch.no_grad(), model.cache_image_features():
        shown(some)
        shown(every)
    assert counts == [first, images - first], "without gradients it does not change"
    counts.clear()
    model.requires_grad_(False)
    try:
        with model.cache_image_features():
            found = shown(some), shown(every), shown(every)
        assert counts == [first, images - first]
        shown([*some, *some])
        assert counts == [first, images - first, 2 * first]
        counts.clear()
        with model.cache_image_features():
            shown([*some, *some])
        assert counts == [first], "an image that two rows show is seen once"
    finally:
        model.requires_grad_(True)
    for one, other in zip(found, (*expected, expected[1]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
