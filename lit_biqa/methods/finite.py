"""Steps whose loss or gradient is not finite, found on all ranks alike before weights change."""

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

_NAMED = 3  # rows, and weights, that a message names


@dataclass(frozen=True, eq=False)
class _Seen:
    """A batch of a step: its loss with its parts, and the names of its rows."""

    loss: Tensor
    parts: dict[str, Tensor]
    rows: list[str]


class Watch:
    """Looks at all losses of an optimizer step, and at its gradient.

    Args:
        on_nonfinite: whether to stop the fit or to skip the step.

    Attributes:
        skipped: steps so far.
    """

    def __init__(self, on_nonfinite: OnNonfinite) -> None:
        self.on_nonfinite = on_nonfinite
        self.skipped = 0
        self._seen: list[_Seen] = []

    def see(self, loss: Tensor, parts: dict[str, Tensor], batch: Batch) -> None:
        """Keep the loss of a batch until its step; nothing is read back from a GPU."""
        names = zip(batch["dataset"], batch["index"].tolist(), strict=True)
        rows = [f"{dataset} {index}" for dataset, index in names]
        held = {name: part.detach() for name, part in parts.items()}
        self._seen.append(_Seen(loss.detach(), held, rows))

    def judge(self, module: LightningModule, norm: Tensor) -> bool:
        """Whether the step is to be skipped.

        A gradient that overflows in half precision is none of this: the scaler skips such steps
        while it looks for its scale. It is, once the scale has come down to 1.

        Args:
            module: whose weights are about to change.
            norm: of the gradient over all ranks.

        Raises:
            TrainingError: on all ranks, where the step is not sound and the fit is to stop.
        """
        seen, self._seen = self._seen, []
        sound = norm.isfinite() | _searching(module, norm)
        for each in seen:
            sound = sound & each.loss.isfinite().all()
        if all_gather(sound[None]).all():
            return False
        found = gather_rows(["; ".join(_findings(module, seen))], str)
        message = f"step {module.global_step + 1} is not finite: {'; '.join(filter(None, found))}"
        if self.on_nonfinite == "stop":
            raise TrainingError(
                f"{message}. The weights and last.ckpt are as they were before it: lower the "
                "learning rate or set trainer.gradient_clip_val, look at these rows, or set "
                "model.init_args.on_nonfinite=skip; then go on with --ckpt_path last."
            )
        self.skipped += 1
        if module.global_rank == 0:
            log.warning("%s; skipped, %d so far", message, self.skipped)
        return True


def _searching(module: LightningModule, norm: Tensor) -> bool:
    """Whether a gradient that is not finite may be the doing of a scaler, which skips the step."""
    if norm.isfinite():
        return False
    scaler = getattr(module.trainer.precision_plugin, "scaler", None)
    return scaler is not None and scaler.get_scale() > 1


def _findings(module: LightningModule, seen: list[_Seen]) -> list[str]:
    """What is not finite on this rank, each as words."""
    bad = [each for each in seen if not each.loss.isfinite().all()]
    parts = {n: p for each in bad for n, p in each.parts.items() if not p.isfinite().all()}
    said = [f"the loss is {float(each.loss)} for {_some(each.rows)}" for each in bad]
    said += [f"its part {name} is {float(part)}" for name, part in parts.items()]
    if not bad:  # else every gradient follows from the loss
        names = [name for name, weight in module.named_parameters() if _strange(weight.grad)]
        rows = [row for each in seen for row in each.rows]
        said += [f"the gradient of {_some(names)} for {_some(rows)}"] * bool(names)
    return said


def _strange(gradient: Tensor | None) -> bool:
    own = gradient.to_local() if isinstance(gradient, DTensor) else gradient
    return own is not None and not bool(own.isfinite().all())


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
