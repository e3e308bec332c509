"""Sizes of a model: its weights by sharded piece, and the widths that activations follow from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lit_biqa.backbones.fused import can_fuse
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.planning.images import image_of
from lit_biqa.planning.outline import outline
from lit_biqa.planning.stack import Stack

# NF4 with double quantisation: 4 bits, and 8 bits for 64 values with 32 bits for 256 of those
# (Dettmers et al., arXiv 2305.14314, section 3).
_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)


@dataclass(frozen=True)
class Piece:
    """Weights that FSDP2 gathers together: a block, or everything outside blocks.

    Attributes:
        values: number of values.
        held: bytes of them.
        trained: bytes of the trained ones.
        largest: bytes of the largest trained parameter.
    """

    values: int
    held: int
    trained: int
    largest: int

    @classmethod
    def of(cls, parameters: Iterable[nn.Parameter], packed: set[int]) -> Piece:
        """Sum of parameters; those whose ``id`` is in ``packed`` are in 4 bits."""
        listed = list(parameters)
        width = {id(p): _NF4 if id(p) in packed else p.element_size() for p in listed}
        trained = [p.numel() * p.element_size() for p in listed if p.requires_grad]
        return cls(
            sum(p.numel() for p in listed),
            round(sum(p.numel() * width[id(p)] for p in listed)),
            sum(trained),
            max(trained, default=0),
        )


@dataclass(frozen=True)
class Sizes:
    """Sizes of a vision-language model.

    Attributes:
        blocks: pieces of decoder, tower and bridge that are sharded separately.
        root: all other weights.
        decoder: the language model.
        tower: the image tower.
        language: all weights of the decoder and its head.
        words: those of them outside blocks: token embedding, last norm and head.
        head: the head.
        vocabulary: number of tokens.
        image: positions of an image in the decoder, at most.
        patches: positions of an image in the tower, at most.
        fused: true if rollouts run copies of the decoder's matrices (`FusedDecoder`).
        sees: true if the tower is trained, so that its activations are kept.
    """

    blocks: tuple[Piece, ...]
    root: Piece
    decoder: Stack
    tower: Stack
    language: Piece
    words: Piece
    head: Piece
    vocabulary: int
    image: int
    patches: int
    fused: bool
    sees: bool

    @property
    def held(self) -> int:
        """Bytes of all weights."""
        return self.root.held + sum(block.held for block in self.blocks)

    @property
    def trained(self) -> int:
        """Bytes of all trained weights."""
        return self.root.trained + sum(block.trained for block in self.blocks)

    @property
    def largest(self) -> Piece:
        """Largest block."""
        return max(self.blocks, key=lambda block: block.held)


def sizes_of(backbone: VisionLanguageModel) -> Sizes:
    """Sizes of a backbone that is not loaded; it is given modules without weights.

    Raises:
        InputError: as `outline`.
    """
    outline(backbone)
    modules = backbone.blocks()
    blocked = {id(p) for module in modules for p in module.parameters()}
    linear = [m for m in backbone.decoder.layers.modules() if isinstance(m, nn.Linear)]
    packed = {id(m.weight) for m in linear if not m.weight.requires_grad}
    packed = packed if backbone.tuning.how == "qlora" else set()
    config = backbone.model.config
    language = {id(p): p for m in backbone.parts["language"] for p in m.parameters()}
    image = image_of(backbone, config)
    return Sizes(
        blocks=tuple(Piece.of(module.parameters(), packed) for module in modules),
        root=Piece.of((p for p in backbone.parameters() if id(p) not in blocked), packed),
        decoder=_decoder(config.get_text_config()),
        tower=image.tower,
        language=Piece.of(language.values(), packed),
        words=Piece.of((p for key, p in language.items() if key not in blocked), packed),
        head=Piece.of(backbone.head.parameters(), packed),
        vocabulary=backbone.head.out_features,
        image=image.positions,
        patches=image.patches,
        fused=can_fuse(backbone.decoder) and not packed,
        sees=any(p.requires_grad for m in backbone.parts["vision"] for p in m.parameters()),
    )


def _decoder(text: Any) -> Stack:
    width, inner, heads = text.hidden_size, text.intermediate_size, text.num_attention_heads
    each = getattr(text, "head_dim", None) or width // heads
    queries, keys = each * heads, each * text.num_key_value_heads
    linear = 2 * width * (queries + keys) + 3 * width * inner
    return Stack(text.num_hidden_layers, width, queries, keys, inner, linear)
