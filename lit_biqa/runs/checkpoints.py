"""Settings and checkpoints of a run: written whole or not at all, and read without unpickling."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import Strategy

from lit_biqa.io.archives import SealingFile, check_archive, note_written
from lit_biqa.io.files import whole
from lit_biqa.runs import shards
from lit_biqa.runs.folder import RunFolder
from lit_biqa.types import InputError


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint file, on the CPU.

    Raises:
        InputError: if the file is damaged, or is a folder.
    """
    content = shards.read_content(path)
    if shards.KEY in content:
        shards.check_files(path, content)
        return shards.read_whole(shards.folder_of(path, content), shards.WEIGHTS)
    state: dict[str, torch.Tensor] = content["state_dict"]
    return state


def _shapes(path: Path) -> dict[str, torch.Size]:
    """Shapes of the weights of a checkpoint file, by name."""
    content = shards.read_content(path)
    if shards.KEY in content:
        return shards.shapes(shards.folder_of(path, content), shards.WEIGHTS)
    return {name: tensor.shape for name, tensor in content["state_dict"].items()}


@contextmanager
def explaining_misfit(model: pl.LightningModule, path: Path | None) -> Iterator[None]:
    """Replace a strategy's error by one line if the checkpoint at ``path`` does not fit ``model``.

    Each strategy fails in its own way; a sharding one fails in a broadcast between processes.

    Raises:
        InputError: names the tensors that are missing, unexpected or of another shape; or says that
            the optimizer's state belongs to other weights.
    """
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, KeyError, ValueError) as error:
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        if path is not None and any("load" in name or "restore" in name for name in frames):
            _compare(path, model)
        if "restore_optimizers" in frames:
            raise InputError(
                f"{path} holds the optimizer state of other weights ({error}): train the same "
                "weights as the config.yaml of that run does."
            ) from error
        raise


def _compare(path: Path, model: pl.LightningModule) -> None:
    stored = _shapes(path)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    faults = {
        "missing": [name for name in expected if name not in stored],
        "not expected": [name for name in stored if name not in expected],
        "of another shape": [n for n, shape in expected.items() if stored.get(n, shape) != shape],
    }
    counts = [
        f"{len(names)} {fault} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
        for fault, names in faults.items()
        if names
    ]
    if counts:
        raise InputError(
            f"{path} is of another architecture: tensors {'; '.join(counts)}. Use the config.yaml "
            f"that lies beside its checkpoints folder."
        )


def refuse_sharded(strategy: Strategy) -> None:
    """Refuse a strategy that would write checkpoints as folders, which this package never reads.

    `ShardedStrategy` writes its folders in a form of its own.

    Raises:
        InputError: names the setting that makes it write files.
    """
    if not getattr(strategy, "unpickles", True):
        return
    sharded = {
        "save_distributed_checkpoint: false": getattr(
            strategy, "_save_distributed_checkpoint", False
        ),
        "state_dict_type: full": getattr(strategy, "_state_dict_type", "full") != "full",
    }
    for remedy, applies in sharded.items():
        if applies:
            raise InputError(
                f"{type(strategy).__name__} would write checkpoints as folders, which are "
                f"never read because they can run programs: set {remedy} under "
                "trainer.strategy.init_args, or take the class "
                "lit_biqa.runs.sharded_strategy.ShardedStrategy."
            )


class WholeCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that no kill, crash or full disk leaves half written.

    Lightning's own class writes to the system's temporary folder and moves the file from there.
    Across disks that move is a copy, which can be cut short; it also holds a second copy in memory.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            OSError: if the file cannot be written; an older file at ``path`` is kept.
        """
        with whole(Path(path)) as part:
            try:
                with part.open("wb") as file:
                    sealing = SealingFile(file)
                    torch.save(checkpoint, sealing)  # type: ignore[arg-type]  # it only writes
                    sealing.seal()
            except RuntimeError as error:
                # torch hides the failed write behind an error about positions in the file.
                cause = error.__context__
                raise cause if isinstance(cause, OSError) else error from None
        note_written(Path(path))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read tensors and plain values; refuse any other object.

        Raises:
            InputError: if the file is damaged, or is a folder.
        """
        check_archive(Path(path))
        content = super().load_checkpoint(path, map_location, weights_only=True)
        return shards.whole(Path(path), content)


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` when a fit begins; a test in the same folder never overwrites it.

    A resumed fit replaces it after everything is restored, so that a fit that cannot resume leaves
    the run's settings unchanged.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the settings, unless a fit has written them already."""
        if not RunFolder(Path(trainer.default_root_dir)).config.exists():
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the settings, once per fit."""
        super().setup(trainer, pl_module, "fit")

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the settings, on rank zero."""
        with whole(RunFolder(Path(trainer.default_root_dir)).config) as part:
            part.write_text(self.parser.dump(self.config, skip_unset=False))
