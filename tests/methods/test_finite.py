"""A step whose loss or gradient is not finite never reaches the weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from dummy_method import Dummy
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.utils.data import DataLoader

from lit_biqa.methods.finite import OnNonfinite
from lit_biqa.types import Batch, TrainingError

STEPS = 6


class Broken(Dummy):
    """Meets a loss, or a gradient, that is not finite in some of its batches.

    Args:
        loss: what the loss of each such batch is multiplied by.
        gradient: what its gradient is.
        batches: numbers of the batches, over the whole fit.
        on_nonfinite: see `Method`.
    """

    def __init__(
        self,
        batches: tuple[int, ...] = (),
        loss: float = 1.0,
        gradient: float = 1.0,
        on_nonfinite: OnNonfinite = "stop",
    ) -> None:
        super().__init__()
        self.watch.on_nonfinite = on_nonfinite
        self.batches, self.factors, self.seen = batches, (loss, gradient), 0

    def setup(self, stage: str) -> None:
        """Nothing: the batches are made here."""

    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        plain, _ = super().compute_loss(batch)
        number, self.seen = self.seen, self.seen + 1
        if number not in self.batches:
            return plain, {"fit": plain, "kl": torch.zeros(())}
        loss, gradient = self.factors
        part = plain * loss
        if gradient != 1:
            part.register_hook(lambda above: above * gradient)  # type: ignore[no-untyped-call]
        return part, {"fit": plain, "kl": part}


def batch(number: int) -> dict[str, Any]:
    light = torch.tensor([[0.1 * number], [0.5]])
    return {
        "pixels": light,
        "mos": 1 + 4 * light[:, 0],
        "index": torch.tensor([2 * number, 2 * number + 1]),
        "dataset": ["own"] * 2,
    }


def fitted(folder: Path, made: Dummy, plugins: Any = None, **more: Any) -> pl.Trainer:
    torch.manual_seed(0)
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=plugins,
        **more,
    )
    rows: Any = [batch(number) for number in range(STEPS)]
    trainer.fit(made, DataLoader(rows, batch_size=None))
    return trainer


def moments(trainer: pl.Trainer) -> list[Tensor]:
    (optimizer,) = trainer.optimizers
    return [value for held in optimizer.state.values() for value in held.values()]


@pytest.mark.parametrize(
    ("loss", "gradient", "said"),
    [
        (math.nan, 1.0, "the loss is nan for own 6, own 7; its part kl is nan"),
        (math.inf, 1.0, "the loss is inf for own 6, own 7; its part kl is inf"),
        (1.0, math.nan, "the gradient of layer.weight, layer.bias for own 6, own 7"),
        (1.0, math.inf, "the gradient of layer.weight, layer.bias for own 6, own 7"),
    ],
)
def test_the_fit_stops_before_weights_change(
    loss: float, gradient: float, said: str, tmp_path: Path
) -> None:
    made, whole = Broken((3,), loss, gradient), Broken()
    with pytest.raises(TrainingError, match=f"step 4 is not finite: {said}"):
        fitted(tmp_path, made)
    fitted(tmp_path, whole, limit_train_batches=3)
    for one, other in zip(made.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("loss", "gradient"), [(math.nan, 1.0), (1.0, math.inf)])
def test_a_skipped_step_leaves_weights_and_moments(
    loss: float, gradient: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if the batch had not been there, and counted."""
    last = STEPS - 1
    made, whole = Broken((last,), loss, gradient, "skip"), Broken()
    one = fitted(tmp_path, made)
    assert made.watch.skipped == 1 and float(one.callback_metrics["train/skipped"]) == 1
    assert f"1 of {STEPS} steps were skipped" in capsys.readouterr().out
    other = fitted(tmp_path, whole, limit_train_batches=last)
    assert torch.equal(made.layer.weight, whole.layer.weight)
    for mine, theirs in zip(moments(one), moments(other), strict=True):
        assert torch.equal(mine, theirs)
    checkpoint: dict[str, Any] = {}
    made.on_save_checkpoint(checkpoint)
    whole.on_load_checkpoint(checkpoint)
    assert whole.watch.skipped == 1


def test_any_batch_of_an_accumulated_step_counts(tmp_path: Path) -> None:
    made = Broken((3,), math.nan)
    with pytest.raises(TrainingError, match="step 2 is not finite: the loss is nan for own 6, own"):
        fitted(tmp_path, made, accumulate_grad_batches=3)
    skipping, whole = Broken((3,), math.nan, on_nonfinite="skip"), Broken()
    fitted(tmp_path, skipping, accumulate_grad_batches=3)
    fitted(tmp_path, whole, accumulate_grad_batches=3, limit_train_batches=3)
    assert torch.equal(skipping.layer.weight, whole.layer.weight)


def scaled(scale: float) -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


def test_a_scaler_looks_for_its_scale_undisturbed(tmp_path: Path) -> None:
    made = Broken((0, 1), gradient=math.inf)
    scaler = scaled(4.0)
    fitted(tmp_path, made, scaler)
    assert made.watch.skipped == 0 and scaler.scaler is not None
    assert scaler.scaler.get_scale() == 1
    with pytest.raises(TrainingError, match="step 3 is not finite: the gradient of"):
        fitted(tmp_path, Broken((0, 1, 2), gradient=math.inf), scaled(4.0))


def test_a_loss_that_is_nan_is_no_doing_of_a_scaler(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="step 2 is not finite: the loss is nan"):
        fitted(tmp_path, Broken((1,), math.nan), scaled(4.0))
    made = Broken((1,), math.inf, 0.0, "skip")
    fitted(tmp_path, made, scaled(4.0))
    assert made.watch.skipped == 1 and bool(made.layer.weight.isfinite().all())
