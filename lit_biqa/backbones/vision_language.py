"""Interface of backbones that read chats with images and write text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from lit_biqa.backbones.chat_encoding import ChatEncoder
from lit_biqa.backbones.frozen import FrozenTower
from lit_biqa.backbones.fused import FusedDecoder, can_fuse
from lit_biqa.backbones.image_embedding import ImageEmbedding
from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.shared_prefix import Growing, set_attention
from lit_biqa.backbones.weights import state_of

T = TypeVar("T")
Stepper: TypeAlias = Callable[[Tensor, Tensor, Growing], Tensor]
"""Token ids ``[R]``, positions ``[A, R]`` and all before them to hidden states ``[R, D]``."""


class VisionLanguageModel(ImageEmbedding, ChatEncoder):
    """Reads chats, each with or without an image, and says how probable what follows is.

    Building one is cheap: `prepare` reads tokenizer and image settings, `load` the
    weights, so that every other setting is checked first.

    Weights may be sharded. They are whole only inside ``model(work, ...)``, which calls
    ``work(model, ...)``; all code that reads weights, attention or hidden states runs inside it.
    Tensors with gradients must leave it alone or in tuples, lists or dictionaries. If `tuning` says
    so, activations of such calls with gradients are recomputed.

    Args:
        tuning: trained parts, and how they are trained.

    Attributes:
        model: of transformers, with its head; there after `load`.
        root: where files that settings name may lie, beside the working directory; of the data.
        from_checkpoint: true if weights are read from files, false if they are drawn at random.
    """

    root: Path = Path()
    from_checkpoint: bool = True

    @abstractmethod
    def prepare(self) -> None:
        """Read tokenizer, image settings and configuration; cheap, and a second call does nothing.

        Raises:
            InputError: if a file is missing or broken.
        """

    @abstractmethod
    def _read(self) -> Any:
        """Read the transformers model with its weights; see `load`."""

    def load(self) -> None:
        """Read the weights, freeze them and add LoRA as `tuning` says.

        Raises:
            InputError: if weights are missing, unknown or of another shape.
        """
        self.prepare()
        self._adopt(self._read())

    def _adopt(self, model: Any) -> None:
        self.model = model
        set_attention(model)
        self.tuning.apply(model, self.parts, self.head, self.new_modules)
        model.eval()  # LoRA's modules start in training mode
        if self.tuning.checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})

    @property
    def new_modules(self) -> list[nn.Module]:
        """Modules that no checkpoint has weights of, so that LoRA alone could not train them."""
        return []

    def frozen_network(self) -> FrozenTower | None:
        """Image network that is not trained, whose features replace pixels; ``None`` for none.

        Chats then hold these features as their pixels.
        """
        return None

    @property
    @abstractmethod
    def decoder(self) -> Any:
        """Decoder of transformers, without its head."""

    def decoder_inputs(self, positions: Tensor, image: Tensor | None) -> dict[str, Any]:
        """Positions as keyword arguments of the decoder.

        Args:
            positions: ``[A, B, L]``.
            image: ``[B, L]``, true at image positions; most decoders need no care of them.
        """
        return {"position_ids": positions[0]}

    def decode(
        self,
        embeds: Tensor,
        mask: Tensor | None,
        positions: Tensor,
        cache: Any = None,
        image: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Run the decoder.

        Args:
            embeds: of `embed`, ``[B, L, D]`` or wider.
            mask: ``[B, cached + L]``, true at tokens; ``None`` if all are tokens, or if padding is
                only on the right, where no token attends to it.
            positions: ``[A, B, L]``.
            cache: transformers' cache of earlier tokens, which grows.
            image: ``[B, L]``, true at image positions.
            options: of transformers' decoders: ``output_hidden_states``, ``output_attentions``; and
                the ``prefix`` of `shared_prefix`.

        Returns:
            transformers' output, with ``last_hidden_state [B, L, D]`` after the final norm.
        """
        from lit_biqa.compat.transformers import named_cache

        return self.decoder(
            inputs_embeds=embeds,
            attention_mask=mask,
            use_cache=cache is not None,
            **self.decoder_inputs(positions, image),
            **named_cache(cache),
            **options,
        )

    def stepper(self) -> Stepper:
        """Step function for generation, one token per row; called inside ``model(work, ...)``.

        It may hold copies of weights, so it must be released after the rollout.
        """
        return FusedDecoder(self.decoder) if can_fuse(self.decoder) else self.module_stepper()

    def module_stepper(self) -> Stepper:
        """The same by the decoder's own modules."""

        def step(ids: Tensor, positions: Tensor, prefix: Growing) -> Tensor:
            embeds, places = self.token_embedding(ids[:, None]), positions[..., None]
            hidden: Tensor = self.decode(embeds, None, places, prefix=prefix).last_hidden_state
            return hidden[:, -1]

        return step

    @property
    @abstractmethod
    def final_norm(self) -> nn.Module:
        """Norm between the last layer and the head."""

    @abstractmethod
    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write a folder that ``pretrained`` takes.

        Args:
            folder: folder to make.
            state: whole weights of this module; LoRA's updates are merged into them.
        """

    @property
    def head(self) -> nn.Linear:
        """Head from hidden states to logits, ``[V, D]``, without bias; may be the embedding."""
        head: nn.Linear = self.model.get_output_embeddings()
        return head

    def state(self) -> dict[str, Tensor]:
        """Weights of the model on the CPU, for `save`; with sharding, those that were read."""
        if self.together is None:
            return state_of(self)
        return {f"model.{name}": weight for name, weight in state_of(self._read()).items()}

    def forward(self, work: Callable[..., T], *args: Any) -> T:
        """Call ``work(self, *args)`` with whole weights."""
        # Checkpointed layers recompute only in training mode, and drop every cache then. Trainers
        # leave a model in its loaded mode, and rollouts come between training steps.
        mode = self.tuning.checkpointing and torch.is_grad_enabled()
        if self.model.training != mode:  # setting it on all modules takes a while
            self.model.train(mode)
        with self.casting_anew():
            return work(self, *args)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def hidden(self, inputs: Inputs, **more: Any) -> Any:
        """Embed and decode; see `decode`."""
        embeds, image = self.embed(inputs)
        # No token attends to padding on the right, and attention without a mask is faster.
        padded_left = not bool(inputs.mask[:, 0].all())
        mask = inputs.mask if padded_left else None
        return self.decode(embeds, mask, inputs.positions, image=image, **more)
