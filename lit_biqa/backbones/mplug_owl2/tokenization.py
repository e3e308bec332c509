"""Text to token ids exactly as the original's slow LLaMA tokenizer, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from lit_biqa.backbones.mplug_owl2.configuration import IMAGE_TOKEN_INDEX
from lit_biqa.backbones.mplug_owl2.sentencepiece import merges_of, read_pieces
from lit_biqa.compat.transformers import cached_file
from lit_biqa.types import IMAGE, InputError

_UNKNOWN, _BEGIN, _END = "<unk>", "<s>", "</s>"
_SPACE = "▁"
_BYTES = [f"<0x{value:02X}>" for value in range(256)]


def find_file(source: str | Path, name: str, **hub: Any) -> Path | None:
    """Path of a checkpoint's file, or ``None`` if it has no such file.

    Args:
        source: a folder, or a name that transformers can resolve.
        name: the file's name.
        hub: how transformers shall look for it: ``revision``, ``cache_dir`` and their like.
    """
    path = cached_file(str(source), name, _raise_exceptions_for_missing_entries=False, **hub)
    return None if path is None else Path(path)


def load_tokenizer(source: str | Path, **hub: Any) -> PreTrainedTokenizerFast:
    """The tokenizer of a checkpoint: its ``tokenizer.model`` if it has one, else what we saved.

    Args:
        source: a folder, or a name that transformers can resolve.
        hub: see `find_file`.

    Raises:
        InputError: if it holds neither, or no LLaMA tokenizer.
    """
    model = find_file(source, "tokenizer.model", **hub)
    if model is not None:
        pieces = read_pieces(model)
        vocabulary = {piece.text: index for index, piece in enumerate(pieces)}
        return build_tokenizer(vocabulary, merges_of(pieces))
    if find_file(source, "tokenizer.json", **hub) is None:
        raise InputError(f"{source}: no tokenizer.model and no tokenizer.json; add one of them")
    return PreTrainedTokenizerFast.from_pretrained(source, **hub)


def build_tokenizer(
    vocabulary: dict[str, int], merges: list[tuple[str, str]]
) -> PreTrainedTokenizerFast:
    """A LLaMA tokenizer: BPE with byte fallback, a space in front of every stretch of text.

    transformers' own LLaMA tokenizer leaves that space out where the text starts with one, as it
    does after an image; the original does not.

    Args:
        vocabulary: token to id; ``<unk>``, ``<s>`` and ``</s>`` are 0, 1 and 2.
        merges: best first.
    """
    backend = Tokenizer(
        BPE(vocabulary, merges, unk_token=_UNKNOWN, fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.post_processor = TemplateProcessing(
        single=f"{_BEGIN} $A", special_tokens=[(_BEGIN, vocabulary[_BEGIN])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=_UNKNOWN,
        bos_token=_BEGIN,
        eos_token=_END,
        pad_token=_UNKNOWN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Learn a LLaMA tokenizer from texts, offline and always the same from the same texts.

    Args:
        texts: what it shall represent well.
        vocabulary_size: at most so many tokens, the 3 special ones and 256 bytes among them.

    Raises:
        InputError: if those 259 do not fit.
    """
    reserved = [_UNKNOWN, _BEGIN, _END, *_BYTES]
    if vocabulary_size < len(reserved):
        raise InputError(f"vocabulary_size {vocabulary_size}: give at least {len(reserved)}")
    learner = Tokenizer(BPE(unk_token=_UNKNOWN, byte_fallback=True))
    # Only while learning: no token spans two words or two digits.
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(_SPACE, prepend_scheme="always"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split("\n", behavior="isolated"),
            pre_tokenizers.Punctuation(),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=reserved, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    learnt = json.loads(learner.to_str())["model"]
    return build_tokenizer(learnt["vocab"], [tuple(merge) for merge in learnt["merges"]])


def encode(tokenizer: PreTrainedTokenizerFast, text: str, legacy: bool = True) -> list[int]:
    """Token ids of a stretch of text without placeholders, special tokens in it recognised.

    Args:
        tokenizer: as `load_tokenizer` gives it.
        text: any text.
        legacy: as the tokenizer's own configuration says. If false, the space that is put in front
            of text right after a special token is taken away again, and what then is no token
            becomes ``<unk>``, as transformers 4.31 does.
    """
    if legacy:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids
    specials = "|".join(re.escape(token) for token in tokenizer.all_special_tokens)
    ids = []
    for index, part in enumerate(re.split(f"({specials})", text)):
        tokens = tokenizer.tokenize(part)
        after_special = index > 0 and index % 2 == 0
        if after_special and tokens and part[0] not in f" {_SPACE}":
            tokens = [tokens[0].removeprefix(_SPACE), *tokens[1:]]
        ids += tokenizer.convert_tokens_to_ids([token for token in tokens if token])
    return ids


def encode_with_images(
    tokenizer: PreTrainedTokenizerFast, prompt: str, legacy: bool = True
) -> list[int]:
    """Token ids of a prompt, ``IMAGE_TOKEN_INDEX`` for each ``<|image|>``.

    Each stretch between placeholders is tokenised by itself. One begin token stands in front of
    all; a prompt that starts with a placeholder has one after each placeholder instead, as in the
    original.
    """
    begin = tokenizer.bos_token_id
    parts = [
        [begin, *encode(tokenizer, part, legacy)] if part else [] for part in prompt.split(IMAGE)
    ]
    hoisted = 1 if parts[0] else 0
    ids = parts[0]
    for part in parts[1:]:
        ids = [*ids, IMAGE_TOKEN_INDEX, *part[hoisted:]]
    return ids
