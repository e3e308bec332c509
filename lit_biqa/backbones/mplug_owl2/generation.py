"""mPLUG-Owl2 that speaks: the language-modelling head, generation, and loading of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_biqa.backbones.mplug_owl2.configuration import IMAGE_TOKEN_INDEX, MplugOwl2Config
from lit_biqa.backbones.mplug_owl2.model import MplugOwl2Model, MplugOwl2PreTrainedModel
from lit_biqa.backbones.mplug_owl2.splicing import Images
from lit_biqa.backbones.weights import check_complete
from lit_biqa.compat.transformers import (
    Cache,
    CausalLMOutputWithPast,
    GenerationMixin,
    cache_of,
    can_return_tuple,
    either_cache,
    named_cache,
    slice_logits_to_keep,
)
from lit_biqa.types import InputError


@dataclass
class MplugOwl2Output(CausalLMOutputWithPast):  # type: ignore[misc]
    """Loss and logits, with the labels and image positions as the decoder saw them.

    Attributes:
        labels: the given labels, widened to the decoder's positions ``[B, L]``.
        image_positions: ``[B, L]``, true at image positions; none for a text-only batch.
    """

    labels: Tensor | None = None
    image_positions: Tensor | None = None


class MplugOwl2ForConditionalGeneration(
    MplugOwl2PreTrainedModel,
    GenerationMixin,  # type: ignore[misc]
):
    """mPLUG-Owl2 with its language-modelling head (Ye et al., arXiv 2311.04257)."""

    # The Trainer then hands over the number of labels of the whole accumulated batch.
    accepts_loss_kwargs = True

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__(config)
        self.model = MplugOwl2Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *model_args: Any,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load a checkpoint, official or saved by `save_pretrained`; every weight or none.

        Official folders hold a transformers 4.31 ``config.json`` and sharded ``.bin`` files, which
        are read with ``weights_only``, or safetensors. Options are those of transformers.

        Raises:
            InputError: if weights are missing, unknown, or of another shape than the configured.
        """
        model, info = super().from_pretrained(
            pretrained_model_name_or_path,
            *model_args,
            output_loading_info=True,
            **{**kwargs, "ignore_mismatched_sizes": True},
        )
        check_complete(str(pretrained_model_name_or_path), info)
        return (model, info) if output_loading_info else model

    @can_return_tuple  # type: ignore[untyped-decorator]
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
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        past_key_values: Cache | None = None,
    ) -> MplugOwl2Output:
        """Logits of the next token at every position, and the loss where labels are given.

        Args:
            input_ids: ``[B, L]``, -200 at each image placeholder; the outputs are as long as the
                rows become when each is replaced by its image's positions.
            attention_mask: ``[B, L]``, 1 at tokens; with a cache, ``[B, cached + L]``.
            position_ids: ``[B, L]`` of the widened rows; without them, counted from each row's
                first token, whichever side is padded.
            cache: transformers' cache of what came before.
            inputs_embeds: ``[B, L, H]`` in place of ids, as `MplugOwl2Model.splice` makes them.
            images: one image per placeholder ``[n, 3, S, S]``, or stacks of images, in the order
                of the rows; none for a text-only batch, which then costs nothing for vision.
            image_positions: ``[B, L]``, true at image positions, with ``inputs_embeds``.
            labels: ``[B, L]``, -100 where nothing is asked.
            use_cache: whether to return a cache; the configuration's word by default.
            output_attentions: whether to return attention maps; needs the eager implementation.
            output_hidden_states: whether to return hidden states: the embeddings, each layer's
                output, the last one after the final norm.
            logits_to_keep: the last so many positions, or which, a mask ``[B, L]`` included; 0
                for all.
            num_items_in_batch: divides the summed loss, in place of the number of labels here.
            past_key_values: the name of ``cache`` before transformers 5.24.

        Raises:
            InputError: if placeholders and images do not pair up, images are of another size, or
                attention maps are asked of another implementation.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=either_cache(cache, past_key_values),
            inputs_embeds=inputs_embeds,
            images=images,
            image_positions=image_positions,
            labels=labels,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        hidden = outputs.last_hidden_state
        logits = self.lm_head(slice_logits_to_keep(hidden, logits_to_keep))
        return MplugOwl2Output(
            loss=self._loss(logits, outputs.labels, num_items_in_batch),
            logits=logits,
            **named_cache(cache_of(outputs)),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            labels=outputs.labels,
            image_positions=outputs.image_positions,
        )

    def _loss(
        self, logits: Tensor, labels: Tensor | None, num_items: int | Tensor | None
    ) -> Tensor | None:
        if labels is None:
            return None
        if logits.shape[:-1] != labels.shape:
            raise InputError("a loss needs the logits of every position: leave logits_to_keep out")
        loss: Tensor = self.loss_function(
            logits, labels, vocab_size=self.config.vocab_size, num_items_in_batch=num_items
        )
        return loss

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        *args: Any,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        images: Images | None = None,
        **options: Any,
    ) -> Any:
        """Generate as transformers' ``generate`` does, whose options these are.

        Rows with images are packed to the left first, so each row generates what it would alone,
        whichever side it was padded on. The sequences returned start with the prompt as given,
        placeholders included. Beams and ``num_return_sequences`` repeat each row with its images.

        Args:
            inputs: ``[B, L]``, -200 at each image placeholder; or name it ``input_ids``.
            args: further positional arguments of transformers' ``generate``.
            input_ids: see ``inputs``.
            attention_mask: ``[B, L]``, 1 at tokens. Text-only rows must be padded on the left.
            images: as in `forward`.
            options: what transformers' ``generate`` takes.

        Raises:
            InputError: if placeholders and images do not pair up, or text is padded on the right.
        """
        prompts = input_ids if inputs is None else inputs
        if images is None or prompts is None:
            _check_left_padded(attention_mask)
            return super().generate(prompts, *args, attention_mask=attention_mask, **options)
        spliced = self.model.splice(prompts, attention_mask, images, pack_left=True)
        # Processors that look up the prompt's tokens (repetition penalty) know no placeholder.
        known = prompts.masked_fill(prompts.eq(IMAGE_TOKEN_INDEX), 0)
        result = super().generate(
            known,
            *args,
            inputs_embeds=spliced.inputs_embeds,
            attention_mask=spliced.attention_mask,
            image_positions=spliced.image_positions,
            **options,
        )
        sequences = result if isinstance(result, Tensor) else result.sequences
        copies = len(sequences) // len(prompts)
        sequences[:, : prompts.shape[1]] = prompts.repeat_interleave(copies, dim=0)
        return result

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        inputs_embeds: Tensor | None = None,
        image_positions: Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Inputs of one step; only the first holds image positions, all later tokens are text."""
        prepared: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids,
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        if is_first_iteration:
            prepared["image_positions"] = image_positions
        return prepared


def _check_left_padded(attention_mask: Tensor | None) -> None:
    if attention_mask is not None and not attention_mask[:, -1].all():
        raise InputError(
            "a text-only batch to generate from is padded on the right, so that padding would be "
            "continued; pad it on the left (padding_side='left')"
        )
