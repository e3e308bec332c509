"""mPLUG-Owl2 as a transformers model: decoder, vision tower and abstractor, without a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_biqa.backbones.mplug_owl2.abstractor import VisualAbstractor
from lit_biqa.backbones.mplug_owl2.configuration import MplugOwl2Config
from lit_biqa.backbones.mplug_owl2.language import (
    DecoderAttention,
    DecoderLayer,
    RMSNorm,
    Rotary,
    Route,
)
from lit_biqa.backbones.mplug_owl2.splicing import (
    FILLER,
    Images,
    check_placeholders,
    expand_placeholders,
    flatten_images,
    positions_from_mask,
)
from lit_biqa.backbones.mplug_owl2.vision import VisionEmbeddings, VisionTower
from lit_biqa.compat.transformers import (
    CACHE_NAMES,
    BaseModelOutputWithPast,
    Cache,
    DynamicCache,
    capture_outputs,
    causal_mask,
    either_cache,
    initialization,
    named_cache,
)
from lit_biqa.types import InputError


class Spliced(NamedTuple):
    """Rows ready for the decoder, text and images in their places.

    Attributes:
        inputs_embeds: ``[B, L, H]``.
        attention_mask: ``[B, L]``, or none where none was given and none is needed.
        image_positions: ``[B, L]``, true at image positions; none for a text-only batch.
        labels: ``[B, L]``, or none where none were given.
    """

    inputs_embeds: Tensor
    attention_mask: Tensor | None
    image_positions: Tensor | None
    labels: Tensor | None


@dataclass
class MplugOwl2ModelOutput(BaseModelOutputWithPast):  # type: ignore[misc]
    """Decoder output of a batch, with labels and image positions as the decoder saw them.

    Attributes:
        labels: the given labels, widened to the decoder's positions ``[B, L]``.
        image_positions: ``[B, L]``, true at image positions; none for a text-only batch.
    """

    labels: Tensor | None = None
    image_positions: Tensor | None = None


class MplugOwl2PreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """Attributes for transformers that the two models share."""

    config_class = MplugOwl2Config
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ("DecoderLayer", "VisionLayer", "AbstractorLayer")
    _skip_keys_device_placement = CACHE_NAMES
    _supports_sdpa = True
    # Checkpoints carry tables that are computed here: the official one rotary frequencies, those
    # that the original code saved after training also the abstractor's positions.
    _keys_to_ignore_on_load_unexpected = (r"rotary_emb\.inv_freq$", r"attention\.[qk]_pos_embed$")
    _can_record_outputs = {  # noqa: RUF012 - transformers reads it so
        "hidden_states": DecoderLayer,
        "attentions": DecoderAttention,
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, VisionEmbeddings):
            initialization.normal_(module.cls_token, std=std)
            initialization.normal_(module.position_embedding, std=std)
        elif isinstance(module, VisualAbstractor):
            initialization.normal_(module.query_embeds, std=std)
            initialization.normal_(module.vit_eos, std=std)


class MplugOwl2Model(MplugOwl2PreTrainedModel):
    """Vision tower, abstractor and decoder; returns the decoder's last hidden states.

    The structure is mPLUG-Owl2's (Ye et al., arXiv 2311.04257); the module names are those of the
    official weights.
    """

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, width, config.pad_token_id)
        self.layers = nn.ModuleList(
            DecoderLayer(config, index) for index in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(width, config.rms_norm_eps)
        self.vision_model = VisionTower(config)
        self.visual_abstractor = VisualAbstractor(config)
        self.post_init()

    def rotary_emb(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines ``[B, L, d]`` of positions ``[B, L]``, as Llama gives them."""
        config = self.config
        width = config.hidden_size // config.num_attention_heads
        rotary = Rotary.of(positions, width, config.rope_theta, hidden.dtype)
        return rotary.cos[:, 0], rotary.sin[:, 0]

    def encode_images(self, images: Tensor) -> Tensor:
        """Image features for the decoder: ``[N, 3, S, S] -> [N, positions_per_image, H]``.

        Raises:
            InputError: for images of another size than the configured one.
        """
        size = self.config.vision.image_size
        if images.shape[1:] != (3, size, size):
            raise InputError(
                f"images are {tuple(images.shape[1:])}, but the model takes (3, {size}, {size}); "
                "prepare them with the processor of the same checkpoint"
            )
        features: Tensor = self.visual_abstractor(self.vision_model(images))
        return features

    def splice(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        images: Images | None = None,
        labels: Tensor | None = None,
        pack_left: bool = False,
    ) -> Spliced:
        """Embed rows of token ids and put each image in the place of its placeholder.

        Args:
            input_ids: ``[B, L]``, -200 at each placeholder.
            attention_mask: ``[B, L]``, 1 at tokens.
            images: one image, or stack of images, per placeholder, in the order of the rows;
                see `splicing.flatten_images`. A row without a placeholder takes none.
            labels: ``[B, L]``, -100 where nothing is asked.
            pack_left: see `splicing.expand_placeholders`.

        Raises:
            InputError: if placeholders and images do not pair up.
        """
        if images is None:
            check_placeholders(input_ids, 0)
            return Spliced(self.embed_tokens(input_ids), attention_mask, None, labels)
        flat, counts = flatten_images(images)
        check_placeholders(input_ids, len(counts))
        lengths = counts * self.config.positions_per_image
        rows = expand_placeholders(input_ids, attention_mask, labels, lengths, pack_left)
        embeds = self.embed_tokens(rows.input_ids.clamp_min(0))
        embeds = embeds.masked_fill((rows.input_ids == FILLER)[..., None], 0.0)
        at_image = rows.image_positions
        features = self.encode_images(flat).to(embeds.dtype)
        embeds = embeds.masked_scatter(at_image[..., None], features)
        return Spliced(embeds, rows.attention_mask, at_image, rows.labels)

    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        images: Images | None = None,
        image_positions: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        past_key_values: Cache | None = None,
        **more: Any,
    ) -> MplugOwl2ModelOutput:
        """Run the decoder; see `MplugOwl2ForConditionalGeneration.forward` for the arguments.

        What is named beside them goes to the attention function.
        """
        if output_attentions and self.config._attn_implementation != "eager":
            raise InputError(
                "attention maps need the eager implementation; call "
                "model.set_attn_implementation('eager') first"
            )
        cache = either_cache(cache, past_key_values)
        past = 0 if cache is None else cache.get_seq_length()
        if images is not None and (past or inputs_embeds is not None):
            raise InputError("images go in with their prompt's input_ids, not later or beside them")
        if inputs_embeds is not None:
            spliced = Spliced(inputs_embeds, attention_mask, image_positions, labels)
        elif input_ids is None:
            raise InputError("give the model input_ids or inputs_embeds")
        elif past:
            # Generated tokens: looking for placeholders among them would stop the device each time.
            spliced = Spliced(self.embed_tokens(input_ids), attention_mask, None, labels)
        else:
            spliced = self.splice(input_ids, attention_mask, images, labels)
        if cache is None and (self.config.use_cache if use_cache is None else use_cache):
            cache = DynamicCache(config=self.config)
        if position_ids is None:
            position_ids = _positions(spliced, past)
        return MplugOwl2ModelOutput(
            last_hidden_state=self._decode(spliced, position_ids, cache, **more),
            **named_cache(cache),
            labels=spliced.labels,
            image_positions=spliced.image_positions,
        )

    def _decode(
        self,
        spliced: Spliced,
        position_ids: Tensor,
        cache: Cache | None,
        **more: Any,
    ) -> Tensor:
        config, hidden = self.config, spliced.inputs_embeds
        mask = causal_mask(config, hidden, spliced.attention_mask, cache)
        cosines, sines = self.rotary_emb(hidden, position_ids)
        rotary = Rotary(cosines[:, None], sines[:, None])
        at_image = spliced.image_positions
        route = None if at_image is None else Route.of(at_image)
        for layer in self.layers:
            hidden = layer(hidden, rotary, mask, route, **named_cache(cache), **more)
        normed: Tensor = self.norm(hidden)
        return normed


def _positions(spliced: Spliced, past: int) -> Tensor:
    mask, embeds = spliced.attention_mask, spliced.inputs_embeds
    if mask is not None and mask.ndim == 2:
        return positions_from_mask(mask, past)
    return torch.arange(past, past + embeds.shape[1], device=embeds.device)[None]
