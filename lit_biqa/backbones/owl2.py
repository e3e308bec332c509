"""mPLUG-Owl2 as a backbone: adapter from its modelling code to the interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from lit_biqa.backbones.inputs import Row
from lit_biqa.backbones.layout import Checkpoint, Layout
from lit_biqa.backbones.tuning import Part, Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import read_config, read_weights, reading, save_weights
from lit_biqa.types import Chat

if TYPE_CHECKING:
    from lit_biqa.backbones.mplug_owl2 import MplugOwl2ForConditionalGeneration, MplugOwl2Processor

CONTEXT = 2048  # positions of LLaMA-2's tuning here; the configuration has no limit


class MplugOwl2(VisionLanguageModel):
    """mPLUG-Owl2 (Ye et al., arXiv 2311.04257), 8.2 billion parameters.

    Args:
        pretrained: a folder in the official layout or one that `save` wrote, or a name that
            transformers can resolve.
        tuning: trained parts, and how they are trained.
        aspect: handling of images that are not square: ``pad`` (official training, Q-Align),
            ``resize`` (official evaluation) or ``plain`` (a central crop, Q-Instruct).
        context: most positions of a chat and its answer.
        layout: places of parts that do not lie at the top of `pretrained`; an adapter of peft or of
            LLaVA's trainers is merged into its base.
    """

    model: MplugOwl2ForConditionalGeneration
    processor: MplugOwl2Processor

    def __init__(
        self,
        pretrained: str = "MAGAer13/mplug-owl2-llama2-7b",
        tuning: Tuning = Tuning(),
        aspect: Literal["resize", "pad", "plain"] = "pad",
        context: int = CONTEXT,
        layout: Layout = Layout(),
    ) -> None:
        super().__init__(tuning)
        self.checkpoint = Checkpoint(pretrained, layout)
        self.aspect, self.context = aspect, context

    def prepare(self) -> None:
        """Read tokenizer and image settings."""
        if "processor" in self.__dict__:
            return
        from lit_biqa.backbones.mplug_owl2 import MplugOwl2Config, MplugOwl2Processor

        config = read_config(self.checkpoint.weights, MplugOwl2Config.model_type)
        place = self.checkpoint.processor
        with reading(place, "its tokenizer or image settings"):
            self.processor = MplugOwl2Processor.from_pretrained(
                place.name, self.aspect, **place.options
            )
        self._settle(config.positions_per_image)

    def _settle(self, positions_per_image: int) -> None:
        self.positions_per_image = positions_per_image
        self.end = (self.processor.tokenizer.eos_token_id,)

    def _read(self) -> MplugOwl2ForConditionalGeneration:
        from lit_biqa.backbones.mplug_owl2 import MplugOwl2ForConditionalGeneration

        unquantised = ["model.vision_model", "model.visual_abstractor", "lm_head"]
        model: MplugOwl2ForConditionalGeneration = read_weights(
            MplugOwl2ForConditionalGeneration,
            self.checkpoint.weights,
            self.tuning.loading(unquantised),
            self.checkpoint.adapter,
        )
        return model

    @property
    def image_transform(self) -> Transform:
        """From an image to ``[3, S, S]``."""
        self.prepare()
        return Transform(self.processor)

    def tokenize(self, text: str) -> list[int]:
        """Tokens of the assistant's text, without an end token."""
        return self.processor.tokenize(text)[1:]

    def text(self, ids: Sequence[int]) -> str:
        """Text of the assistant's tokens."""
        return self.processor.decode(ids, skip_special_tokens=True).strip()

    def encode_chat(self, chat: Chat) -> Row:
        """Encode a chat with the official conversation template, up to ``ASSISTANT:``."""
        messages = [{"role": m.role, "content": m.text} for m in chat.messages]
        prompt = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        compact = torch.tensor(self.processor.tokenize(prompt))
        # Image positions have no token; the decoder takes them from the mask.
        placed = compact < 0
        widths = torch.where(placed, self.positions_per_image, 1)
        image = placed.repeat_interleave(widths)
        ids = compact.clamp_min(0).repeat_interleave(widths)
        return Row(ids, image, torch.arange(len(ids))[None], chat.pixels)

    def image_features(self, pixels: Sequence[Tensor]) -> Tensor:
        """``[3, S, S]`` each to ``[n * positions, D]``."""
        return self.model.model.encode_images(torch.stack(list(pixels))).flatten(0, 1)

    @property
    def decoder(self) -> Any:
        """Decoder without its head."""
        return self.model.model

    def decoder_inputs(self, positions: Tensor, image: Tensor | None) -> dict[str, Any]:
        """See `VisionLanguageModel`; the decoder has experts for image positions."""
        return {"position_ids": positions[0], "image_positions": image}

    @property
    def parts(self) -> dict[Part, list[nn.Module]]:
        """Modules of each part."""
        owl = self.model.model
        return {
            "vision": [owl.vision_model],
            "bridge": [owl.visual_abstractor],
            "language": [owl.embed_tokens, owl.layers, owl.norm, self.model.lm_head],
        }

    @property
    def final_norm(self) -> nn.Module:
        """Norm before the head."""
        return self.model.model.norm

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write weights, configuration, tokenizer and image settings."""
        save_weights(folder, self.model, state, self.tuning, self.processor)


@dataclass(frozen=True)
class Transform:
    """Transform from an image to ``[3, S, S]``; picklable, for workers."""

    processor: MplugOwl2Processor

    def __call__(self, image: Image.Image) -> Tensor:
        """Make the image square, scale and normalise it."""
        return self.processor.process_images([image])[0]
