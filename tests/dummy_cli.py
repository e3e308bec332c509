"""A method and data of a few numbers behind the real command line; also run as a script."""

from __future__ import annotations

import sys
from pathlib import Path

import lit_biqa  # noqa: F401  before lightning, as it mends torchvision

# isort: split

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lit_biqa import faults
from lit_biqa.cli import CLI
from lit_biqa.types import InputError, Prediction


class Dummy(pl.LightningModule):
    """Learns to repeat the MOS it is shown."""

    def __init__(self, width: int = 1, lr: float = 0.1) -> None:
        super().__init__()
        self.width, self.lr = width, lr
        self.layer = torch.nn.Linear(1, width)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return (self.layer(batch[0]).mean(1, keepdim=True) - batch[0]).square().mean()

    def validation_step(self, batch: list[Tensor], _: int) -> list[Prediction]:
        scores = self.layer(batch[0]).mean(1).tolist()
        mos = batch[0][:, 0].tolist()
        return [
            Prediction("dummy", "all", round(m * 100), f"{m:.2f}", m, s)
            for m, s in zip(mos, scores, strict=True)
        ]

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.lr)

    def ship(self, folder: Path, state: dict[str, Tensor]) -> None:
        (folder / "shipped.txt").write_text(" ".join(sorted(state)))


class Wide(Dummy):
    """Another architecture."""

    def __init__(self, width: int = 3) -> None:
        super().__init__(width)


class DummyData(pl.LightningDataModule):
    """16 images whose only pixel is their MOS."""

    def __init__(
        self,
        root: str = "data",
        train: list[str] | None = None,
        test: list[str] | None = None,
        batch_size: int = 4,
    ) -> None:
        super().__init__()
        self.specs = {"train": train, "test": test}
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        if "koniq" in (self.specs["train"] or []):
            raise InputError("unknown data set 'koniq': nearest is koniq10k")

    def loader(self) -> DataLoader[tuple[Tensor, ...]]:
        mos = torch.linspace(1, 5, 16).unsqueeze(1)
        return DataLoader(TensorDataset(mos), batch_size=self.batch_size)

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader


def main(args: list[str] | None = None) -> int:
    return faults.guard(lambda: CLI(Dummy, DummyData, args))


if __name__ == "__main__":
    sys.exit(main())
