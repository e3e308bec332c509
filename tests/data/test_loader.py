"""A run that is stopped and goes on ends with the weights of a run that was not."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Generator, Tensor, nn

from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.dataset import Reader
from lit_biqa.data.embeddings import EmbeddingRow, Embeddings, write_embeddings
from lit_biqa.data.settings import ImageSettings, LoaderSettings
from lit_biqa.types import Batch, Sample

ROWS, BATCH, PER_EPOCH, EPOCHS = 23, 4, 5, 3
LIMIT = {"max_epochs": EPOCHS}

pytestmark = pytest.mark.filterwarnings("ignore:The .* does not have many workers")


class NoisyReader:
    """Cached vectors with noise, as augmented images would have it."""

    def __init__(self, read: Reader) -> None:
        self.read = read

    def __call__(self, sample: Sample, generator: Generator) -> Tensor:
        vector = self.read(sample, generator)
        assert vector is not None
        return vector + torch.randn(vector.shape, generator=generator)

    def stand_in(self) -> Tensor | None:
        return self.read.stand_in()


class NoisyData(BIQADataModule):
    def setup(self, stage: str) -> None:
        super().setup(stage)
        assert self._train is not None
        self._train = NoisyReader(self._train)


class Regressor(LightningModule):
    """Linear, with momentum and a schedule: its weights depend on the order of all batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.steps: list[tuple[int, tuple[int, ...]]] = []
        self.validated: list[int] = []

    def loss(self, batch: Batch) -> Tensor:
        return nn.functional.mse_loss(self.layer(batch["pixels"]).squeeze(1), batch["mos"])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.steps.append((self.global_step, tuple(batch["index"].tolist())))
        return self.loss(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("loss", self.loss(batch), batch_size=len(batch["mos"]))

    def on_validation_epoch_end(self) -> None:
        self.validated.append(self.global_step)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)
        decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}


class Keep(Callback):
    """Writes ``<step>.ckpt`` after every batch, or after every epoch alone."""

    def __init__(self, folder: Path, epochs: bool) -> None:
        self.folder, self.epochs = folder, epochs

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not self.epochs:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")

    def on_train_epoch_end(self, trainer: Trainer, _: LightningModule) -> None:
        if self.epochs:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    noise = torch.randn(ROWS + 4, 4, generator=Generator().manual_seed(0))
    rows = tuple(
        EmbeddingRow("set", "all@0", i, f"{i}.png", float(noise[i, 3]), 0.0, "train")
        for i in range(ROWS)
    ) + tuple(
        EmbeddingRow("set", "all@0", i, f"{i}.png", float(noise[i, 3]), 0.0, "val")
        for i in range(ROWS, ROWS + 4)
    )
    path = tmp_path_factory.mktemp("cache") / "embeddings.safetensors"
    write_embeddings(path, Embeddings(noise[:, :3], rows))
    return path


def fit(
    cache: Path,
    folder: Path,
    workers: int,
    limit: dict[str, int],
    resume: Path | None = None,
    epochs: bool = False,
) -> Regressor:
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[Keep(folder, epochs)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **limit,  # type: ignore[arg-type]
    )
    model = Regressor()
    data = NoisyData(
        images=ImageSettings(embeddings=str(cache)),
        loader=LoaderSettings(batch_size=BATCH, num_workers=workers),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "You're resuming from a checkpoint")
        trainer.fit(model, datamodule=data, ckpt_path=str(resume) if resume else None)
    return model


def same(one: Regressor, other: Regressor) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.fixture(scope="module", params=[0, 2])
def whole(
    request: pytest.FixtureRequest, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, Path, Regressor]]:
    folder = tmp_path_factory.mktemp("whole")
    yield request.param, folder, fit(cache, folder, request.param, LIMIT)


def test_an_epoch_shows_rows_once_and_the_next_in_another_order(
    whole: tuple[int, Path, Regressor],
) -> None:
    _, _, model = whole
    assert [step for step, _ in model.steps] == list(range(PER_EPOCH * EPOCHS))
    shown = [row for _, rows in model.steps for row in rows]
    epochs = [shown[i : i + PER_EPOCH * BATCH] for i in range(0, len(shown), PER_EPOCH * BATCH)]
    assert all(len(set(epoch)) == PER_EPOCH * BATCH for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert model.validated == [5, 10, 15]


@pytest.mark.parametrize("step", [2, 5, 7, 10, 13])
def test_resuming_from_any_step(
    cache: Path, tmp_path: Path, whole: tuple[int, Path, Regressor], step: int
) -> None:
    workers, folder, model = whole
    checkpoint = folder / f"{step}.ckpt"
    resumed = fit(cache, tmp_path, workers, LIMIT, checkpoint)
    assert resumed.steps == model.steps[step:]
    assert same(resumed, model)
    # Of the epoch that a step ended, Lightning does not make up the validation.
    assert resumed.validated == [at for at in model.validated if at > step]


@pytest.mark.parametrize("limit", [LIMIT, {"max_steps": EPOCHS * PER_EPOCH}])
def test_resuming_from_the_end_of_an_epoch(
    cache: Path, tmp_path: Path, limit: dict[str, int]
) -> None:
    model = fit(cache, tmp_path / "whole", 0, limit, epochs=True)
    assert {f.stem for f in (tmp_path / "whole").iterdir()} == {"5", "10", "15"}
    for step in (5, 10):
        checkpoint = tmp_path / "whole" / f"{step}.ckpt"
        resumed = fit(cache, tmp_path / f"{step}", 0, limit, checkpoint, epochs=True)
        assert resumed.steps == model.steps[step:]
        assert same(resumed, model)
    checkpoint = tmp_path / "5" / "10.ckpt"
    twice = fit(cache, tmp_path / "twice", 0, limit, checkpoint, epochs=True)
    assert same(twice, model)


def test_resuming_twice_within_an_epoch(
    cache: Path, tmp_path: Path, whole: tuple[int, Path, Regressor]
) -> None:
    workers, folder, model = whole
    fit(cache, tmp_path / "once", workers, LIMIT, folder / "6.ckpt")
    twice = fit(cache, tmp_path / "twice", workers, LIMIT, tmp_path / "once" / "8.ckpt")
    assert twice.steps == model.steps[8:]
    assert same(twice, model)


def test_resuming_in_a_shortened_epoch(cache: Path, tmp_path: Path) -> None:
    limit = {"max_epochs": 2, "limit_train_batches": 3}
    model = fit(cache, tmp_path / "whole", 0, limit)
    resumed = fit(cache, tmp_path / "resumed", 0, limit, tmp_path / "whole" / "4.ckpt")
    assert len(model.steps) == 6
    assert resumed.steps == model.steps[4:]
    assert same(resumed, model)


def test_workers_end_when_their_process_ends_them(tmp_path: Path) -> None:
    """A kept traceback keeps a loader's iterator, whose workers Python then ends by SIGTERM."""
    file = tmp_path / "keep.py"
    file.write_text(
        "from lit_biqa.data.loader import BatchLoader\n"
        "iterator = iter(BatchLoader(list(range(8)), batch_size=None, num_workers=1))\n"
        "print(int(next(iterator)))\n"
        # as where an exception of the main thread still holds the frame of the loop
        "import multiprocessing.util as util; util._exit_function()\n"
    )
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "0\n"
