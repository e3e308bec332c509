"""The contract of backbones that read chats with images and write text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from lit_biqa.backbones.chat_encoding import ChatEncoder
from lit_biqa.backbones.image_embedding import ImageEmbedding
from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.shared_prefix import Growing, set_attention
from lit_biqa.backbones.weights import state_of

T = TypeVar("T")
Stepper: TypeAlias = Callable[[Tensor, Tensor, Growing], Tensor]
"""Token ids ``[R]``, positions ``[A, R]`` and all before them to hidden states ``[R, D]``."""


class VisionLanguageModel(ImageEmbedding, ChatEncoder):
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
        root: where files that settings name may lie, beside the working directory; of the data.
    """

    root: Path = Path()

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

    def hidden(self, inputs: Inputs, **more: Any) -> Any:
        """Embed and decode; see :meth:`decode`."""
        embeds, image = self.embed(inputs)
        # On the right, padding is seen by no token; without a mask attention is faster.
        padded_left = not bool(inputs.mask[:, 0].all())
        mask = inputs.mask if padded_left else None
        return self.decode(embeds, mask, inputs.positions, image=image, **more)
