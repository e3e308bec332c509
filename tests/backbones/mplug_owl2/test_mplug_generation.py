"""Generation: each row as if alone, whatever its padding, beams, copies and cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from owls import mini, pictures
from torch import Tensor

from lit_biqa.compat.transformers import CACHE_NAMES, cache_of
from lit_biqa.types import InputError

# Rows of different lengths and different numbers of images.
ROWS = [[1, 9, -200, 30, -200, 12], [1, -200, 44, 45, 46, 47, 48, 49], [1, 5, 60, 8]]
IMAGES_OF = [slice(0, 2), slice(2, 3), slice(3, 3)]
GREEDY: dict[str, Any] = {"do_sample": False, "max_new_tokens": 9, "eos_token_id": None}


def padded(rows: list[list[int]], side: str) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    pads = [[0] * (longest - len(row)) for row in rows]
    ids = [pad + row if side == "left" else row + pad for row, pad in zip(rows, pads, strict=True)]
    return torch.tensor(ids), torch.tensor(ids).ne(0).long()


def alone(row: int) -> Tensor:
    images = pictures(3)[IMAGES_OF[row]]
    output: Tensor = mini().generate(
        torch.tensor([ROWS[row]]), images=images if len(images) else None, **GREEDY
    )
    return output[0, len(ROWS[row]) :]


@pytest.mark.parametrize("side", ["left", "right"])
def test_each_row_of_a_mixed_batch_generates_what_it_does_alone(side: str) -> None:
    ids, mask = padded(ROWS, side)
    mask = mask.bool() if side == "right" else mask
    together = mini().generate(ids, attention_mask=mask, images=pictures(3), **GREEDY)
    assert torch.equal(together[:, : ids.shape[1]], ids)
    for row in range(3):
        assert torch.equal(together[row, ids.shape[1] :], alone(row)), row


def test_text_only_rows_padded_on_the_left() -> None:
    rows = [[1, 5, 60, 8], [1, 9, 30, 31, 32, 33]]
    ids, mask = padded(rows, "left")
    together = mini().generate(ids, attention_mask=mask, **GREEDY)
    for row, tokens in enumerate(rows):
        single = mini().generate(torch.tensor([tokens]), **GREEDY)
        assert torch.equal(together[row, ids.shape[1] :], single[0, len(tokens) :])
    ids, mask = padded(rows, "right")
    with pytest.raises(InputError, match="padded on the right"):
        mini().generate(ids, attention_mask=mask, **GREEDY)


def test_the_cache_changes_nothing() -> None:
    """Against the whole sequence run anew for every token."""
    ids, images = torch.tensor(ROWS[:1]), pictures(2)
    expected = mini().generate(ids, images=images, **GREEDY)
    for _ in range(9):
        with torch.no_grad():
            logits = mini()(input_ids=ids, images=images, use_cache=False).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(ids, expected)


def test_beams_and_copies_keep_each_row_with_its_images() -> None:
    """With two images per prompt the original pairs the wrong ones."""
    rows = [ROWS[0], [1, 13, -200, 50, -200, 51]]
    ids, images = torch.tensor(rows), pictures(4)
    together = mini().generate(ids, images=images, num_beams=3, num_return_sequences=2, **GREEDY)
    assert together.shape == (4, 15)
    for row in range(2):
        single = mini().generate(
            ids[row : row + 1],
            images=images[2 * row : 2 * row + 2],
            num_beams=3,
            num_return_sequences=2,
            **GREEDY,
        )
        assert torch.equal(together[2 * row : 2 * row + 2], single)
    sampled = mini().generate(
        ids, images=images, num_return_sequences=2, do_sample=True, top_k=1, max_new_tokens=3
    )
    assert torch.equal(sampled[::2], sampled[1::2]) and torch.equal(sampled[::2, :6], ids)


def test_processors_that_look_at_the_prompt_work() -> None:
    ids, images = torch.tensor(ROWS[:1]), pictures(2)
    repeated = mini().generate(ids, images=images, **GREEDY)[0, 6:]
    output = mini().generate(
        ids, images=images, repetition_penalty=1e6, return_dict_in_generate=True, **GREEDY
    )
    tokens = output.sequences[0, 6:].tolist()
    assert len(set(tokens)) == len(tokens) and not set(tokens) & {1, 9, 30, 12}
    assert output.sequences[0, :6].tolist() == ROWS[0]
    assert tokens != repeated.tolist()


@pytest.mark.parametrize("name", CACHE_NAMES)
def test_completions_after_a_shared_prefix(name: str) -> None:
    """One prompt run once, its cache repeated, two completions run on it at once."""
    model = mini()
    prompt, completions = torch.tensor([[1, 9, -200, 30]]), torch.tensor([[4, 5, 6], [7, 8, 0]])
    whole = torch.cat([prompt.expand(2, -1), completions], dim=1)
    images = pictures(1).expand(2, -1, -1, -1)
    with torch.no_grad():
        plain = model(input_ids=whole, attention_mask=whole.ne(0), images=images).logits
        cache = cache_of(model(input_ids=prompt, images=pictures(1), use_cache=True))
        length = cache.get_seq_length()
        cache.batch_repeat_interleave(2)
        mask = torch.cat([torch.ones(2, length), completions.ne(0)], dim=1)
        shared = model(input_ids=completions, attention_mask=mask, **{name: cache}).logits
    assert length == 4 - 1 + 6
    torch.testing.assert_close(shared[0], plain[0, length:], atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(shared[1, :2], plain[1, length:-1], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("rows", "count", "complaint"),
    [
        ([[1, -200, -200, 5]], 1, "2 image placeholders, but 1 images were given"),
        ([[1, -200, 5]], 2, "1 image placeholders, but 2 images were given"),
        ([[1, 4, 5]], 1, "no image placeholder, but 1 images were given"),
        ([[1, -200, 5]], None, "1 image placeholders, but no images were given"),
    ],
)
def test_placeholders_and_images_must_pair_up(
    rows: list[list[int]], count: int | None, complaint: str
) -> None:
    ids = torch.tensor(rows)
    images = None if count is None else pictures(count)
    with pytest.raises(InputError, match=complaint):
        mini()(input_ids=ids, images=images)
    with pytest.raises(InputError, match=complaint):
        mini().generate(ids, images=images, **GREEDY)


def test_images_and_embeddings_that_make_no_sense_are_refused() -> None:
    model, ids = mini(), torch.tensor([[1, -200, 5]])
    with pytest.raises(InputError, match=r"images are \(3, 28, 28\)"):
        model(input_ids=ids, images=torch.zeros(1, 3, 28, 28))
    with pytest.raises(InputError, match="must be a tensor"):
        model(input_ids=ids, images=torch.zeros(0, 3, 30, 30))
    with pytest.raises(InputError, match="input_ids or inputs_embeds"):
        model(images=None)
    cache = cache_of(model(input_ids=ids, images=pictures(1), use_cache=True))
    with pytest.raises(InputError, match="not later"):
        model(input_ids=ids, images=pictures(1), cache=cache)
    with pytest.raises(InputError, match="two names of one argument"):
        model(input_ids=ids, cache=cache, past_key_values=cache)
    with pytest.raises(InputError, match="eager"):
        model(input_ids=ids, images=pictures(1), output_attentions=True)
    with pytest.raises(InputError, match="logits_to_keep"):
        model(input_ids=ids, images=pictures(1), labels=ids, logits_to_keep=1)
