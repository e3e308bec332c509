"""The contract of backbones that read chats with images and write text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from lit_biqa.backbones.image_feature_cache import Remembered
from lit_biqa.backbones.inputs import IGNORED, Inputs, Row, extended, padded
from lit_biqa.backbones.sharded import Sharded
from lit_biqa.backbones.shared_prefix import Growing, set_attention
from lit_biqa.backbones.transforms import Evaluate
from lit_biqa.backbones.tuning import SEEING, Part, Tuning
from lit_biqa.backbones.weights import state_of
from lit_biqa.types import Chat, InputError

T = TypeVar("T")
Stepper: TypeAlias = Callable[[Tensor, Tensor, Growing], Tensor]
"""Token ids ``[R]``, positions ``[A, R]`` and all before them to hidden states ``[R, D]``."""
__all__ = ["IGNORED", "Inputs", "Row", "VisionLanguageModel", "extended"]


class VisionLanguageModel(Sharded, ABC):
    """Reads chats, each with or without an image, and says how probable what follows is.

    Building one is cheap: :meth:`prepare` reads tokenizer and image settings, :meth:`load` the
    weights, so that every other setting is checked before.

    Weights may be sharded. They are whole only within ``model(work, ...)``, which calls
    ``work(model, ...)``; whatever reads a weight, attention or hidden state goes in that way.
    Tensors that carry gradients leave it in tuples, lists or dictionaries, or alone. Activations
    are recomputed, where `tuning` says so, in what goes in that way with gradients.

    Args:
        tuning: what is trained, and how.

    Attributes:
        model: of transformers, with its head; there after :meth:`load`.
        context: positions that the decoder can take, known after :meth:`prepare`.
        end: tokens that end an answer; the first is the one that is learned.
        root: where files that settings name may lie, beside the working directory; of the data.
    """

    root: Path = Path()
    context: int
    end: tuple[int, ...]

    def __init__(self, tuning: Tuning) -> None:
        super().__init__(tuning)
        self._remembered: Remembered | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Read tokenizer, image settings and configuration; cheap, and called again for nothing.

        Raises:
            InputError: if a file is missing or broken.
        """

    @abstractmethod
    def _read(self) -> Any:
        """The model of transformers with its weights; see :meth:`load`."""

    def load(self) -> None:
        """Read the weights; freeze and widen them as `tuning` says.

        Raises:
            InputError: if weights are missing, unknown or of another shape.
        """
        self.prepare()
        self._adopt(self._read())

    def _adopt(self, model: Any) -> None:
        self.model = model
        set_attention(model)
        self.tuning.apply(model, self.parts, self.head)
        model.eval()  # what LoRA adds comes in training mode
        if self.tuning.checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})

    @property
    @abstractmethod
    def image_transform(self) -> Evaluate:
        """From an image to the pixels of a chat, for workers."""

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """Tokens of what the assistant says from its start, without an end token."""

    @abstractmethod
    def encode_chat(self, chat: Chat) -> Row:
        """A chat up to where the assistant speaks; its opening is not in it."""

    @abstractmethod
    def text(self, ids: Sequence[int]) -> str:
        """Text of tokens that the assistant said, without end token."""

    @abstractmethod
    def image_features(self, pixels: Sequence[Tensor]) -> Tensor:
        """What the decoder is shown of images: ``[positions of all images, D]``."""

    @abstractmethod
    def decode(
        self,
        embeds: Tensor,
        mask: Tensor | None,
        positions: Tensor,
        cache: Any = None,
        **more: Any,
    ) -> Any:
        """Run the decoder.

        Args:
            embeds: ``[B, L, D]``.
            mask: ``[B, cached + L]``, true at tokens; ``None`` where all are, or where padding
                stands on the right only and is seen by no token.
            positions: ``[A, B, L]``.
            cache: transformers' cache of what came before, which is carried on.
            more: ``image [B, L]`` (true at image positions), and what transformers' decoders take:
                ``output_hidden_states``, ``output_attentions``.

        Returns:
            transformers' output, its ``last_hidden_state [B, L, D]`` after the final norm.
        """

    def stepper(self) -> Stepper:
        """How tokens are written one by one, in a rollout; within ``model(work, ...)``.

        It may hold copies of weights, so it ends with the rollout.
        """

        def step(ids: Tensor, positions: Tensor, prefix: Growing) -> Tensor:
            embeds, places = self.token_embedding(ids[:, None]), positions[..., None]
            hidden: Tensor = self.decode(embeds, None, places, prefix=prefix).last_hidden_state
            return hidden[:, -1]

        return step

    @property
    @abstractmethod
    def parts(self) -> dict[Part, list[nn.Module]]:
        """Modules of each part."""

    @property
    @abstractmethod
    def final_norm(self) -> nn.Module:
        """What stands between the last layer and the head."""

    @abstractmethod
    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write a folder that ``pretrained`` takes.

        Args:
            folder: is made.
            state: weights of this module, whole; updates of LoRA are merged into them.
        """

    @property
    def token_embedding(self) -> nn.Embedding:
        """Of tokens, ``[V, D]``."""
        words: nn.Embedding = self.model.get_input_embeddings()
        return words

    @property
    def head(self) -> nn.Linear:
        """From hidden states to logits, ``[V, D]``, without bias; may be the words themselves."""
        head: nn.Linear = self.model.get_output_embeddings()
        return head

    def state(self) -> dict[str, Tensor]:
        """All weights on the CPU, for :meth:`save`; where they are sharded, as they were read."""
        if self.together is None:
            return state_of(self)
        return {f"model.{name}": weight for name, weight in state_of(self._read()).items()}

    def forward(self, work: Callable[..., T], *args: Any) -> T:
        """Call ``work(self, *args)``, within which weights are whole."""
        # Layers recompute while they are in training mode, and then drop every cache. Trainers
        # leave a model in the mode it was loaded in, and rollouts come between training steps.
        mode = self.tuning.checkpointing and torch.is_grad_enabled()
        if self.model.training != mode:  # telling each of its modules takes a while
            self.model.train(mode)
        return work(self, *args)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def answer(self, chat: Chat, text: str) -> list[int]:
        """Tokens of an answer that goes on from the chat's opening, without an end token.

        A space stands between, unless the opening ends with a line.

        Raises:
            InputError: if the last token of the opening would swallow a part of the answer.
        """
        opening = chat.opening
        if not opening:
            return self.tokenize(text)
        given = self.tokenize(opening)
        whole = self.tokenize(opening + ("" if opening[-1].isspace() else " ") + text)
        if whole[: len(given)] != given:
            raise InputError(
                f"the opening {opening!r} does not end where a token of {text!r} begins: end it "
                "with a whole word, without a space behind it"
            )
        return whole[len(given) :]

    def encode(self, chats: Sequence[Chat], answers: Sequence[str] | None = None) -> Inputs:
        """Chats as rows.

        Args:
            chats: of one batch.
            answers: what is to be learned, one for each chat. Rows are then padded on the right;
                without them on the left, so that each ends where the assistant goes on.

        Raises:
            InputError: if a row is longer than the context; nothing is ever cut off.
        """
        rows, labels = [], []
        for index, chat in enumerate(chats):
            row = self.encode_chat(chat)
            given = self.tokenize(chat.opening) if chat.opening else []
            said = [] if answers is None else [*self.answer(chat, answers[index]), self.end[0]]
            rows.append(extended(row, given + said))
            labels.append([IGNORED] * (len(rows[-1].ids) - len(said)) + said)
        self.check_length(max(len(row.ids) for row in rows), 0)
        pixels = tuple(chat.pixels for chat in chats)
        inputs = padded(rows, labels, pixels, left=answers is None)
        return inputs if answers is not None else replace(inputs, labels=None)

    def check_length(self, prompt: int, budget: int) -> None:
        """Refuse what does not fit the context.

        Raises:
            InputError: with all three numbers.
        """
        if prompt + budget > self.context:
            raise InputError(
                f"a chat of {prompt} tokens (image included) and {budget} to be written need "
                f"{prompt + budget} positions, the context has {self.context}: shorten the text, "
                "allow fewer tokens to be written, or fewer pixels"
            )

    def embed(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Tokens and images in their places; no image costs nothing.

        Returns:
            ``[B, L, D]``, and ``[B, L]``, true at image positions: ``None`` where no rank has any.

        Raises:
            InputError: if gradients are asked for and only what sees images is trained.
        """
        embeds: Tensor = self.token_embedding(inputs.ids)
        seen = [pixels for pixels in inputs.pixels if pixels is not None]
        if not self.anyone(bool(seen)):
            if torch.is_grad_enabled() and "language" not in self.tuning.parts:
                raise InputError(
                    "a batch of text alone trains nothing: add language to tuning.parts, or take "
                    "the texts without images out"
                )
            return embeds, None
        if not seen:
            # The others wait for this rank's share of the tower, forward and backward.
            blank = self.image_transform(Image.new("RGB", (56, 56)))
            return embeds + 0 * self.image_features([blank.to(embeds.device)]).sum(), inputs.image
        if self._remembered is None:
            features = self.image_features(seen)
        else:
            widths = [width for width in inputs.image.sum(1).tolist() if width]
            features = self._remembered(seen, widths)
        places = inputs.image[..., None]
        return embeds.masked_scatter(places, features.to(embeds.dtype)), inputs.image

    @contextmanager
    def cache_image_features(self) -> Iterator[None]:
        """Within it what is made of an image is made once, for all that is asked about it.

        It does nothing where the parts that see images are trained, or sharded: ranks would call
        them unequally often.
        """
        seeing = [module for part in SEEING for module in self.parts[part]]
        trained = any(weight.requires_grad for module in seeing for weight in module.parameters())
        if not trained and self.together is None:
            self._remembered = Remembered(self.image_features)
        try:
            yield
        finally:
            self._remembered = None

    def hidden(self, inputs: Inputs, **more: Any) -> Any:
        """Embed and decode; see :meth:`decode`."""
        embeds, image = self.embed(inputs)
        # On the right, padding is seen by no token; without a mask attention is faster.
        padded_left = not bool(inputs.mask[:, 0].all())
        mask = inputs.mask if padded_left else None
        return self.decode(embeds, mask, inputs.positions, image=image, **more)
