"""What a run keeps, its settings and its checkpoints: written whole or not at all, and read."""

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
from lit_biqa.runs.folder import RunFolder
from lit_biqa.types import InputError


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint file, on the CPU.

    Raises:
        InputError: if it is damaged, or a folder.
    """
    check_archive(path)
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    state: dict[str, torch.Tensor] = content["state_dict"]
    return state


@contextmanager
def explaining_misfit(model: pl.LightningModule, path: Path | None) -> Iterator[None]:
    """Say in one line that the checkpoint at ``path`` does not fit ``model``, where that failed.

    Strategies fail on it in ways of their own; a sharding one, in a broadcast between processes.

    Raises:
        InputError: naming the tensors that are missing, not expected or of another shape; or if
            the state of the optimizer is of other weights.
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
                f"{path} holds the state of an optimizer of other weights ({error}): what is "
                "trained must be as in the config.yaml of that run."
            ) from error
        raise


def _compare(path: Path, model: pl.LightningModule) -> None:
    held = {name: tensor.shape for name, tensor in read_state(path).items()}
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    faults = {
        "missing": [name for name in wanted if name not in held],
        "not expected": [name for name in held if name not in wanted],
        "of another shape": [n for n, shape in wanted.items() if held.get(n, shape) != shape],
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
    """Refuse a strategy that would write checkpoints as folders, which are not read again.

    Raises:
        InputError: naming the setting that makes them files.
    """
    sharded = {
        "save_distributed_checkpoint: false": getattr(
            strategy, "_save_distributed_checkpoint", False
        ),
        "state_dict_type: full": getattr(strategy, "_state_dict_type", "full") != "full",
    }
    for remedy, applies in sharded.items():
        if applies:
            raise InputError(
                f"{type(strategy).__name__} would write checkpoints as folders, which are not read "
                f"again since they can run programs: set {remedy} under trainer.strategy.init_args."
            )


class WholeCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that no kill, crash or full disk leaves half written.

    Lightning's own writes to the system's temporary folder and moves from there, which across
    disks is a copy that can be cut short; and it keeps a second copy of the file in memory.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            OSError: if it cannot be written; a file that was there before is still there.
        """
        with whole(Path(path)) as part:
            try:
                with part.open("wb") as file:
                    sealing = SealingFile(file)
                    torch.save(checkpoint, sealing)  # type: ignore[arg-type]  # it only writes
                    sealing.seal()
            except RuntimeError as error:
                # torch covers the failed write with a complaint about positions in the file.
                cause = error.__context__
                raise cause if isinstance(cause, OSError) else error from None
        note_written(Path(path))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read tensors and plain values; anything else in the file is refused.

        Raises:
            InputError: if it is damaged, or a folder.
        """
        check_archive(Path(path))
        return super().load_checkpoint(path, map_location, weights_only=True)


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` when a fit begins; a test beside it never overwrites it.

    A fit that goes on replaces it when all has been restored: one that cannot go on leaves the
    settings of the run as they are.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the settings, unless a fit has left its own."""
        if not RunFolder(Path(trainer.default_root_dir)).config.exists():
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the settings, unless that has been done."""
        super().setup(trainer, pl_module, "fit")

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the settings, on rank zero."""
        with whole(RunFolder(Path(trainer.default_root_dir)).config) as part:
            part.write_text(self.parser.dump(self.config, skip_unset=False))
