"""Detection of steps whose loss or gradient is not finite, on all ranks before weights change."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from lightning.pytorch import LightningModule
from torch import Tensor
from torch.distributed.tensor import DTensor

from lit_biqa.distributed import all_gather, gather_rows
from lit_biqa.types import Batch, TrainingError

log = logging.getLogger(__name__)

OnNonfinite = Literal["stop", "skip"]

_NAMED = 3  # most rows, and most weights, named in a message


@dataclass(frozen=True, eq=False)
class _Seen:
    """Loss of one batch of a step, with its parts and the names of its rows."""

    loss: Tensor
    parts: dict[str, Tensor]
    rows: list[str]


class Watch:
    """Checks all losses of an optimizer step, and its gradient.

    Args:
        on_nonfinite: ``stop`` the fit or ``skip`` the step.

    Attributes:
        skipped: number of skipped steps.
    """

    def __init__(self, on_nonfinite: OnNonfinite) -> None:
        self.on_nonfinite = on_nonfinite
        self.skipped = 0
        self._seen: list[_Seen] = []

    def see(self, loss: Tensor, parts: dict[str, Tensor], batch: Batch) -> None:
        """Keep the loss of a batch until its step, without a copy from the GPU."""
        names = zip(batch["dataset"], batch["index"].tolist(), strict=True)
        rows = [f"{dataset} {index}" for dataset, index in names]
        held = {name: part.detach() for name, part in parts.items()}
        self._seen.append(_Seen(loss.detach(), held, rows))

    def judge(self, module: LightningModule, norm: Tensor) -> bool:
        """Check the step; returns true if it must be skipped.

        An overflow in half precision is not an error: the gradient scaler skips such steps while it
        searches for its scale. It is an error once the scale has come down to 1.

        Args:
            module: module whose weights are about to change.
            norm: gradient norm over all ranks.

        Raises:
            TrainingError: on all ranks, if the step is not finite and the fit must stop.
        """
        seen, self._seen = self._seen, []
        sound = norm.isfinite() | _searching(module, norm)
        for batch in seen:
            sound = sound & batch.loss.isfinite().all()
        if all_gather(sound[None]).all():
            return False
        findings = gather_rows(["; ".join(_findings(module, seen))], str)
        message = (
            f"step {module.global_step + 1} is not finite: {'; '.join(filter(None, findings))}"
        )
        if self.on_nonfinite == "stop":
            raise TrainingError(
                f"{message}. The weights and last.ckpt are as before the step: lower the "
                "learning rate or set trainer.gradient_clip_val, check these rows, or set "
                "model.init_args.on_nonfinite=skip; then resume with --ckpt_path last."
            )
        self.skipped += 1
        if module.global_rank == 0:
            log.warning("%s; skipped, %d so far", message, self.skipped)
        return True


def _searching(module: LightningModule, norm: Tensor) -> bool:
    """True if a gradient scaler may have caused the overflow; it then skips the step."""
    if norm.isfinite():
        return False
    scaler = getattr(module.trainer.precision_plugin, "scaler", None)
    return scaler is not None and scaler.get_scale() > 1


def _findings(module: LightningModule, seen: list[_Seen]) -> list[str]:
    """Losses, parts and gradients of this rank that are not finite, in words."""
    bad = [batch for batch in seen if not batch.loss.isfinite().all()]
    parts = {n: p for batch in bad for n, p in batch.parts.items() if not p.isfinite().all()}
    findings = [f"the loss is {float(batch.loss)} for {_some(batch.rows)}" for batch in bad]
    findings += [f"its part {name} is {float(part)}" for name, part in parts.items()]
    if not bad:  # otherwise every gradient follows from the loss
        names = [name for name, weight in module.named_parameters() if _strange(weight.grad)]
        rows = [row for batch in seen for row in batch.rows]
        findings += [f"the gradient of {_some(names)} for {_some(rows)}"] * bool(names)
    return findings


def _strange(gradient: Tensor | None) -> bool:
    local = gradient.to_local() if isinstance(gradient, DTensor) else gradient
    return local is not None and not bool(local.isfinite().all())


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
