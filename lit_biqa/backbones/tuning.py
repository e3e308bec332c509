"""Tuning of a vision-language model: full weights, LoRA or QLoRA, and trained parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from lit_biqa.backbones.precision import Precision, dtype_of
from lit_biqa.types import InputError, nearest

Part = Literal["vision", "bridge", "language"]
SEEING: tuple[Part, ...] = ("vision", "bridge")
How = Literal["full", "lora", "qlora"]


@dataclass(frozen=True)
class Tuning:
    """Trained parts, and how they are trained.

    Attributes:
        how: ``full`` trains the weights themselves, ``lora`` low-rank updates of every linear layer
            of the parts (Hu et al., arXiv 2106.09685), ``qlora`` the same with a decoder in 4 bits
            (Dettmers et al., arXiv 2305.14314).
        parts: ``vision``, the tower; ``bridge``, the abstractor or merger after it; ``language``,
            the decoder. Other parts are frozen.
        precision: precision of the weights; ``auto`` is bfloat16 where the hardware has it, else
            float32. LoRA's updates are always float32.
        checkpointing: recompute activations in the backward pass, to hold fewer of them.
        rank: rank of the updates.
        alpha: scale of the updates, which are multiplied by ``alpha / rank``.
        seed: seed of their initial weights.

    Raises:
        InputError: for an unknown part, no part, or a rank below 1.
    """

    how: How = "full"
    parts: Sequence[Part] = ("vision", "bridge", "language")
    precision: Precision = "float32"
    checkpointing: bool = False
    rank: int = 64
    alpha: float = 128.0
    seed: int = 0

    def __post_init__(self) -> None:
        valid = get_args(Part)
        for part in self.parts:
            if part not in valid:
                raise InputError(f"tuning.parts: no part {part!r}{nearest(part, valid)}")
        if not self.parts or self.rank < 1:
            raise InputError("tuning: name at least one of the parts, and a rank of at least 1")

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return dtype_of(self.precision)

    def loading(self, linear_kept: Sequence[str]) -> dict[str, Any]:
        """Options of ``from_pretrained``.

        Args:
            linear_kept: modules whose linear layers are never quantised.
        """
        options: dict[str, Any] = {"dtype": self.dtype}
        if self.how == "qlora":
            from transformers import BitsAndBytesConfig

            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=self.dtype,
                llm_int8_skip_modules=list(linear_kept),
            )
        return options

    def apply(
        self,
        model: nn.Module,
        parts: dict[Part, list[nn.Module]],
        head: nn.Module,
        new: Sequence[nn.Module] = (),
    ) -> None:
        """Freeze a loaded model in place, and add LoRA's updates if ``how`` says so.

        Args:
            model: a transformers model.
            parts: modules of each part, none inside another.
            head: head of the language model; LoRA does not change it.
            new: modules with random weights, which train in full even with LoRA.
        """
        model.requires_grad_(False)
        layers: Any = model.modules()
        for layer in layers:
            # On a CPU bitsandbytes repacks 4-bit weights outside training, and cannot train them
            # then.
            if hasattr(layer, "support_avx512bf16_for_cpu"):
                layer.support_avx512bf16_for_cpu = False
        trained = [module for part in self.parts for module in parts[part]]
        if self.how == "full":
            for module in trained:
                module.requires_grad_(True)
            return
        within = {id(m) for module in trained for m in module.modules()} - {id(head)}
        within -= {id(m) for module in new for m in module.modules()}
        linear = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
        if updated := [name for name, m in linear if id(m) in within]:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                from lit_biqa.compat.peft import add_lora

                add_lora(model, updated, self.rank, self.alpha)
        for module in (module for module in trained if any(module is other for other in new)):
            module.requires_grad_(True)


def counted(model: nn.Module) -> dict[str, str]:
    """Number of parameters of a model and memory of its training, as values to print.

    Memory counts weights, gradients and the two moments of AdamW, not activations.
    """
    parameters = list(model.parameters())
    # Weights in 4 bits are packed, two per byte.
    total = sum(p.numel() * (2 if p.dtype == torch.uint8 else 1) for p in parameters)
    trained = [p for p in parameters if p.requires_grad]
    count = sum(p.numel() for p in trained)
    weights = sum(p.numel() * p.element_size() for p in parameters)
    training = sum(3 * p.numel() * p.element_size() for p in trained)
    return {
        "parameters": f"{total:,}",
        "trained": f"{count:,} ({count / max(1, total):.2%})",
        "weights": _sized(weights),
        "gradients and AdamW": _sized(training),
    }


def _sized(count: int) -> str:
    """Number of bytes in readable form."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
