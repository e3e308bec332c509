"""Chats as rows: equal to what transformers makes of them, whatever stands beside them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from chatters import FAMILIES, mixed, picture, reference, shared
from PIL import Image
from torch import Tensor
from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil, Qwen2VLVideoProcessor

from lit_biqa.backbones.qwen_vl import Transform
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.data.dataset import EvaluateReader
from lit_biqa.data.images import UnreadableImage
from lit_biqa.types import Chat, InputError, Sample, ask

both = pytest.mark.parametrize("family", FAMILIES)
ANSWERS = ["good", "fair, I think", "bad", "excellent"]


@both
@pytest.mark.parametrize("answers", [None, ANSWERS], ids=["left", "right"])
@torch.no_grad()
def test_a_row_is_what_it_is_alone(family: Any, answers: list[str] | None) -> None:
    model = shared(family)
    chats = mixed(model)
    together = model.encode(chats, answers)
    edge = 0 if answers is None else -1
    assert not bool(together.mask[:, edge].all()) and bool(together.mask[:, -1 - edge].all())
    hidden = model.hidden(together).last_hidden_state
    for index, chat in enumerate(chats):
        alone = model.encode([chat], None if answers is None else [answers[index]])
        expected = model.hidden(alone).last_hidden_state[0]
        torch.testing.assert_close(hidden[index, together.mask[index]], expected, atol=1e-5, rtol=0)
        assert together.lengths[index] == alone.lengths[0] == len(expected)
        assert together.next_positions[index] == alone.next_positions[0]
        if alone.labels is not None:
            assert together.labels is not None
            assert torch.equal(together.labels[index, together.mask[index]], alone.labels[0])
    some = model.hidden(together.rows(slice(1, 3))).last_hidden_state
    torch.testing.assert_close(some, hidden[1:3], atol=1e-5, rtol=0)


def own_inputs(model: TinyQwenVL, chats: list[Chat], images: list[Image.Image]) -> Any:
    """Output of transformers' processor of Qwen2.5-VL for the chats."""
    processor = Qwen2_5_VLProcessor(model.image_processor, model.tokenizer, Qwen2VLVideoProcessor())
    prompts = [
        model.tokenizer.apply_chat_template(
            [{"role": m.role, "content": parts(m.text)} for m in chat.messages],
            tokenize=False,
            add_generation_prompt=True,
        )
        + chat.opening
        for chat in chats
    ]
    return processor(
        text=prompts, images=images, padding=True, padding_side="left", return_tensors="pt"
    )


def parts(text: str) -> list[dict[str, str]]:
    if not text.startswith("<|image|>"):
        return [{"type": "text", "text": text}]
    return [{"type": "image"}, {"type": "text", "text": text.removeprefix("<|image|>")}]


@torch.no_grad()
def test_qwen_equals_transformers_through_its_own_processor() -> None:
    model = shared(TinyQwenVL)
    assert isinstance(model, TinyQwenVL)
    chats = mixed(model)
    images = [picture(90, 60), picture(57, 130, 1), picture(120, 50, 2)]
    theirs = own_inputs(model, chats, images)
    ours = model.encode(chats)
    assert torch.equal(ours.mask, theirs["attention_mask"].bool())
    assert torch.equal(ours.ids[ours.mask], theirs["input_ids"][ours.mask])
    assert torch.equal(ours.image, theirs["mm_token_type_ids"] == 1)
    expected = reference(TinyQwenVL)(**theirs).logits
    logits = model.head(model.hidden(ours).last_hidden_state)
    torch.testing.assert_close(logits[ours.mask], expected[ours.mask], atol=1e-5, rtol=0)


@torch.no_grad()
def test_mplug_equals_its_own_call_through_its_processor() -> None:
    model = shared(TinyMplugOwl2)
    assert isinstance(model, TinyMplugOwl2)
    chats = mixed(model)
    images = [picture(90, 60), picture(57, 130, 1), picture(120, 50, 2)]
    prompts = [
        model.processor.apply_chat_template(
            [{"role": m.role, "content": m.text} for m in chat.messages],
            add_generation_prompt=True,
        )
        + (f" {chat.opening}" if chat.opening else "")
        for chat in chats
    ]
    theirs = model.processor(images, prompts, padding_side="right")
    own = reference(TinyMplugOwl2)(**theirs).logits
    ours = model.encode(chats)
    logits = model.head(model.hidden(ours).last_hidden_state)
    for index, length in enumerate(ours.lengths.tolist()):
        expected = own[index, :length]
        torch.testing.assert_close(logits[index, -length:], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(90, 60), (28, 28), (300, 40), (31, 200), (700, 500)])
def test_qwen_places_an_image_as_transformers_does(size: tuple[int, int]) -> None:
    model = shared(TinyQwenVL)
    chat = ask("Rate it, please.", model.image_transform(picture(*size)), system="Be brief.")
    row = model.encode([chat])
    assert chat.pixels is not None
    expected, _ = reference(TinyQwenVL).model.get_rope_index(
        row.ids,
        row.image.int(),
        image_grid_thw=torch.tensor([(1, *chat.pixels.shape[:2])]),
        attention_mask=row.mask.int(),
    )
    assert torch.equal(row.positions, expected)
    assert int(row.next_positions) == int(expected.max()) + 1


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
@torch.no_grad()
def test_images_are_seen_once_while_they_are_remembered(
    family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shared(family)
    chats = mixed(model)
    counts: list[int] = []
    see = model.image_features

    def counted(pixels: Sequence[Tensor]) -> Tensor:
        counts.append(len(pixels))
        return see(pixels)

    monkeypatch.setattr(model, "image_features", counted)

    def shown(order: list[int]) -> Tensor:
        return torch.cat(
            list(model.hidden(model.encode([chats[i] for i in order])).last_hidden_state[:, -1:])
        )

    images = sum(chat.pixels is not None for chat in chats)
    some, every = [1, 0], [*range(len(chats))][::-1]
    expected = shown(some), shown(every)
    first = sum(chats[i].pixels is not None for i in some)
    counts.clear()
    with model.cache_image_features():
        shown(some)
        shown(every)
    assert counts == [first, images], "what sees images is trained: it changes within a step"
    counts.clear()
    model.requires_grad_(False)
    try:
        with model.cache_image_features():
            found = shown(some), shown(every), shown(every)
        assert counts == [first, images - first]
        shown(some)
    finally:
        model.requires_grad_(True)
    assert counts == [first, images - first, first]
    for one, other in zip(found, (*expected, expected[1]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
