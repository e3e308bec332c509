"""A method that knows every score, and what it takes to run it."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import lit_biqa  # noqa: F401  before lightning, in spawned processes too: it mends torchvision

# isort: split
import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lit_biqa.callbacks import ProgressBar
from lit_biqa.distributed import GlobalBatchSampler
from lit_biqa.types import Batch, Prediction, TextPrediction

N = 23
RNG = np.random.default_rng(7)
MOS = RNG.uniform(1, 5, N)
SCORES = {"image": MOS + RNG.normal(0, 0.5, N), "text": MOS + RNG.normal(0, 1.0, N)}
BROKEN = 4
SECONDS = 0.25  # that reading a text takes


def dataset_of(index: int) -> str:
    return "csiq" if index % 3 else "spaq"


class Indices(torch.utils.data.Dataset[int]):
    """Samples are their own indices; the sampler's draw is ignored."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, item: Any) -> int:
        return int(item[0]) if isinstance(item, tuple) else int(item)


def collate(indices: list[int]) -> dict[str, Any]:
    return {"index": torch.tensor(indices), "dataset": [dataset_of(i) for i in indices]}


class Tiny(pl.LightningModule):
    """Knows the scores of each image under two conditions; one image cannot be read."""

    def __init__(self, constant: bool = False, conditions: tuple[str, ...] = ("image",)) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.constant, self.conditions = constant, conditions

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = ((self.weight - batch["index"].float()) ** 2).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def rows(self, batch: Batch) -> list[Prediction]:
        return [self.row(i, c) for i in batch["index"].tolist() for c in self.conditions]

    def row(self, i: int, condition: str) -> Prediction:
        broken = i == BROKEN
        score = math.nan if broken else 3.0 if self.constant else float(SCORES[condition][i])
        status = "truncated" if broken else "ok"
        name, mos = f"{i}.png", float(MOS[i])
        known = (dataset_of(i), "all@1", i, name, mos, score, condition, status)
        return (
            TextPrediction(*known, seconds=SECONDS) if condition == "text" else Prediction(*known)
        )

    def validation_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int
    ) -> list[Prediction]:
        return self.rows(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> list[Prediction]:  # type: ignore[override]
        return self.rows(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Prediction]:
        return self.rows(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


def loader() -> DataLoader[int]:
    sampler = GlobalBatchSampler(N, 4, shuffle=False)
    return DataLoader(Indices(), batch_sampler=sampler, collate_fn=collate)


def uneven_loader(rank: int, ranks: int) -> DataLoader[int]:
    """Every image once over all ranks, batch by batch: ranks have unequal numbers of batches."""
    mine = list(range(rank, N, ranks))
    return DataLoader(torch.utils.data.Subset(Indices(), mine), collate_fn=collate)


def trainer(folder: Path, *callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
        "use_distributed_sampler": False,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **(defaults | settings))


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
