"""Feature spaces of images and of the reasonings that a model writes about them.

Source: Reasoning as Representation, figures 2 and 4. The paper embeds reasonings with CLIP, and
compares visual with reasoning tokens of a model without saying which states these are, or how it
pools them. Here an image or a reasoning is the mean over its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_biqa.analysis.csv_rows import Who, who
from lit_biqa.analysis.score_states import SEGMENTS, RatedAnswer, context
from lit_biqa.backbones.base import ImageTextEncoder
from lit_biqa.backbones.inputs import Inputs, prompts_of
from lit_biqa.backbones.pretrained.folders import PREFIX
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.evaluation.bootstrap import Array
from lit_biqa.text.leakage import leaks
from lit_biqa.text.parsing import tagged
from lit_biqa.types import Batch, InputError

STATES = ("image, into the decoder", "image, last layer", "reasoning, last layer")
TEXT = "reasoning, text encoder"
_CONTENT = ("reference", "prompt")  # groups of images that show the same


@dataclass(frozen=True)
class Reasoned:
    """A reasoning about an image, with the states of the model that wrote it.

    Attributes:
        who: the sample.
        mos: mean opinion score on [1, 5]; ``nan`` if unknown.
        content: name of what the image shows, shared by images of one reference or prompt.
        text: the reasoning.
        states: mean over the tokens of each of `STATES`, ``[D]`` each.
    """

    who: Who
    mos: float
    content: str
    text: str
    states: tuple[Tensor, ...]

    @property
    def leaks(self) -> bool:
        """True if the reasoning names a rating, which a probe could read."""
        return leaks(self.text)


@torch.no_grad()
def reasoned(
    model: VisionLanguageModel, batch: Batch, answers: Sequence[RatedAnswer], at_once: int
) -> list[Reasoned]:
    """Reasonings of answers that saw their images; answers without one are left out.

    Args:
        model: model with its weights.
        batch: batch of the answers.
        answers: answers with a rating.
        at_once: chats that the model runs together.
    """
    place = SEGMENTS.index("reasoning")
    contexts = [(answer, context(model, answer)) for answer in answers]
    kept = [(a, c) for a, c in contexts if tagged(a.text, "think") and (c.segment == place).any()]
    results = []
    for start in range(0, len(kept), at_once):
        some = kept[start : start + at_once]
        inputs = prompts_of([c.row for _, c in some])
        segment = torch.full_like(inputs.ids, -1)
        for line, (_, c) in zip(segment, some, strict=True):
            line[len(line) - len(c.segment) :] = c.segment
        states = model(_states, inputs.to(model.device), (segment == place).to(model.device))
        for (answer, _), *vectors in zip(some, *states, strict=True):
            sample, text = batch["samples"][answer.row], tagged(answer.text, "think") or ""
            groups = [sample.groups[kind] for kind in _CONTENT if kind in sample.groups]
            content = f"{sample.dataset}/{groups[0] if groups else sample.index}"
            one = Reasoned(who(batch, answer.row), sample.mos, content, text, tuple(vectors))
            results.append(one)
    return results


def _states(
    model: VisionLanguageModel, inputs: Inputs, reasoning: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`STATES` of each row ``[B, D]``, of tokens ``reasoning [B, L]``, on the CPU."""
    embeds, image = model.embed(inputs)
    hidden = model.decode(embeds, inputs.mask, inputs.positions, image=image).last_hidden_state
    embeds = embeds[..., : hidden.shape[-1]]  # without what later layers take
    pairs = ((embeds, inputs.image), (hidden, inputs.image), (hidden, reasoning))
    first, second, third = (_mean(states, chosen).cpu() for states, chosen in pairs)
    return first, second, third


def _mean(states: Tensor, chosen: Tensor) -> Tensor:
    """Mean of states ``[B, L, D]`` over the chosen places ``[B, L]``."""
    kept = states.float().masked_fill(~chosen[..., None], 0)
    return kept.sum(1) / chosen.sum(1, keepdim=True).clamp_min(1)


def text_encoder(name: str) -> ImageTextEncoder:
    """Encoder of reasonings, not loaded yet.

    Args:
        name: ``package:minilm``, or a folder with a sentence encoder of transformers' form; or
            ``MODEL:TAG`` of open_clip, such as ``ViT-L-14-336-quickgelu:openai``.

    Raises:
        InputError: if there is no such encoder.
    """
    if name.startswith(PREFIX) or Path(name).is_dir():
        from lit_biqa.backbones.timm_sentence import TimmSentence

        return TimmSentence(text=name)
    model, _, tag = name.partition(":")
    if not tag:
        raise InputError(
            f"--text-encoder {name}: name {PREFIX}minilm, a folder, MODEL:TAG of open_clip such as "
            "ViT-L-14-336-quickgelu:openai, or none"
        )
    from lit_biqa.backbones.clip import OpenClip

    return OpenClip(model, tag)


@torch.no_grad()
def spaces(
    results: Sequence[Reasoned], encoder: ImageTextEncoder | None, at_once: int = 64
) -> dict[str, Array]:
    """Features ``[N, D]`` of each space by its name: `STATES`, and `TEXT` if there is an encoder.

    Args:
        results: N reasonings.
        encoder: loaded encoder of texts; ``None`` for none.
        at_once: texts that are embedded together.
    """
    found = {
        name: np.stack([item.states[place].double().numpy() for item in results])
        for place, name in enumerate(STATES)
    }
    if encoder is not None:
        texts = [item.text for item in results]
        parts = [texts[at : at + at_once] for at in range(0, len(texts), at_once)]
        found[TEXT] = (
            torch.cat([encoder.embed_texts(part).cpu() for part in parts]).double().numpy()
        )
    return found
