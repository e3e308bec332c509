"""Files written whole or not at all, the best weights, and the end of a fit."""

from __future__ import annotations

import errno
import math
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_biqa.compat.lightning import unwind
from lit_biqa.io.files import whole
from lit_biqa.runs.checkpoint_callback import RunCheckpoint
from lit_biqa.runs.checkpoints import WholeCheckpointIO, explaining_misfit
from lit_biqa.types import InputError


def test_a_failing_write_leaves_the_file_before_it(tmp_path: Path) -> None:
    file = tmp_path / "new" / "x"
    with whole(file) as part:
        part.write_text("first")
    with pytest.raises(OSError, match="No space") as caught, whole(file) as part:
        part.write_text("seco")
        raise OSError(errno.ENOSPC, "No space")
    assert caught.value.filename == str(file)
    assert file.read_text() == "first"
    assert list(file.parent.iterdir()) == [file]


def test_a_full_disk_loses_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, file = WholeCheckpointIO(), tmp_path / "last.ckpt"
    plugin.save_checkpoint({"step": 1}, file)
    opened = Path.open

    def full(path: Path, mode: str = "r", *args: Any) -> Any:
        return open("/dev/full", mode) if "w" in mode else opened(path, mode, *args)  # noqa: PTH123

    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space left") as caught:
            plugin.save_checkpoint({"step": 2, "weights": torch.zeros(100_000)}, file)
    assert caught.value.errno == errno.ENOSPC
    assert plugin.load_checkpoint(file) == {"step": 1}


def test_only_plain_values_are_loaded_whatever_is_asked(tmp_path: Path) -> None:
    torch.save({"object": SimpleNamespace()}, tmp_path / "x")
    with pytest.raises(Exception, match="Weights only load failed"):
        WholeCheckpointIO().load_checkpoint(tmp_path / "x", weights_only=False)


class FakeTrainer:
    """Just what the callback asks of a Trainer."""

    sanity_checking = fast_dev_run = should_stop = False
    num_training_batches = 8
    accumulate_grad_batches = 1
    validating = False
    state = SimpleNamespace(fn="fit")
    strategy = SimpleNamespace(reduce_boolean_decision=bool)

    def __init__(self, folder: Path) -> None:
        self.default_root_dir = folder
        self.global_step = 0
        self.saved: list[str] = []
        self.callback_metrics: dict[str, float] = {}

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        self.saved.append(f"{path.name}{'' if weights_only else ' whole'}@{self.global_step}")


def validations(callback: RunCheckpoint, values: list[float]) -> FakeTrainer:
    trainer = FakeTrainer(Path("run"))
    for trainer.global_step, value in enumerate(values):
        trainer.callback_metrics = {"val/srcc": value}
        callback.on_validation_end(trainer, trainer)  # type: ignore[arg-type]
    return trainer


@pytest.mark.parametrize(
    ("mode", "values", "steps"),
    [
        ("max", [0.1, 0.3, 0.2, 0.3, 0.4], [0, 1, 4]),
        ("min", [0.1, 0.3, 0.05], [0, 2]),
        # Some weights must be kept though none is defined; then anything defined is better.
        ("max", [math.nan, -0.5, math.nan, -0.6], [0, 1]),
    ],
)
def test_the_best_weights_are_kept(mode: Any, values: list[float], steps: list[int]) -> None:
    trainer = validations(RunCheckpoint(mode=mode), values)
    assert trainer.saved == [f"best.ckpt@{step}" for step in steps]


def test_the_fit_ends_when_nothing_was_better_for_long() -> None:
    assert not validations(RunCheckpoint(patience=2), [0.1, 0.0, 0.2, 0.1]).should_stop
    assert validations(RunCheckpoint(patience=2), [0.1, 0.2, 0.1, 0.1]).should_stop
    assert not validations(RunCheckpoint(), [0.1, 0.0, 0.0, 0.0]).should_stop


def test_a_resumed_run_knows_the_best_before() -> None:
    before = RunCheckpoint()
    validations(before, [0.5, 0.1])
    after = RunCheckpoint(patience=3)
    after.load_state_dict(before.state_dict())
    trainer = validations(after, [0.4, 0.3])
    assert trainer.saved == []
    assert trainer.should_stop


def test_the_last_state_is_written_once_a_step_when_it_is_known_what_follows() -> None:
    trainer: Any = FakeTrainer(Path("run"))
    trainer.accumulate_grad_batches = 2
    callback, module = RunCheckpoint(every_n_steps=2), SimpleNamespace(device=torch.device("cpu"))
    # Two batches make a step; the epoch ends after the eighth, and a validation follows.
    for batch in range(8):
        callback.on_train_batch_start(trainer, trainer, None, batch)
        trainer.global_step = (batch + 1) // 2
        callback.on_train_batch_end(trainer, module, None, None, batch)  # type: ignore[arg-type]
    assert trainer.saved == ["last.ckpt whole@2"]
    callback.on_validation_start(trainer, trainer)
    assert trainer.saved[1:] == ["last.ckpt whole@4"]
    callback.on_train_epoch_end(trainer, module)  # type: ignore[arg-type]
    assert trainer.saved[2:] == ["last.ckpt whole@4"]


def counted(ready: int, started: int, processed: int, completed: int) -> dict[str, Any]:
    one = {"ready": ready, "started": started, "processed": processed, "completed": completed}
    return {"current": dict(one), "total": dict(one), "is_last_batch": True}


def test_what_is_cut_short_counts_as_not_begun() -> None:
    loops = {
        "epoch_progress": counted(2, 2, 1, 1),
        "epoch_loop.batch_progress": counted(5, 4, 4, 4),
        "epoch_loop.val_loop.batch_progress": counted(3, 3, 2, 2),
    }
    validation = deepcopy(loops)
    unwind(loops, validating=False)
    assert loops["epoch_loop.batch_progress"]["current"] == counted(4, 4, 4, 4)["current"]
    assert not loops["epoch_loop.batch_progress"]["is_last_batch"]
    assert loops["epoch_progress"]["total"]["processed"] == 1
    # A validation that is to be begun again has its first batch under way.
    unwind(validation, validating=True)
    assert validation["epoch_loop.val_loop.batch_progress"]["total"] == counted(1, 1, 0, 0)["total"]
    assert validation["epoch_loop.batch_progress"] == counted(5, 4, 4, 4)


def test_a_run_that_was_stopped_does_not_train_on_when_resumed() -> None:
    stopped = RunCheckpoint(patience=1)
    validations(stopped, [0.5, 0.4])
    resumed, trainer = RunCheckpoint(patience=1), FakeTrainer(Path("run"))
    resumed.load_state_dict(stopped.state_dict())
    resumed.on_train_start(trainer, trainer)  # type: ignore[arg-type]
    assert trainer.should_stop


def test_what_is_not_logged_cannot_be_monitored() -> None:
    with pytest.raises(InputError, match=r"'val/scc'.*choose from val/srcc"):
        validations(RunCheckpoint(monitor="val/scc"), [0.1])
    assert validations(RunCheckpoint(monitor=None), [0.1]).saved == []


def test_a_misfit_is_told_tensor_by_tensor(tmp_path: Path) -> None:
    torch.save({"state_dict": torch.nn.Linear(2, 3).state_dict()}, tmp_path / "x")
    model: Any = torch.nn.Linear(4, 3, bias=False)
    with (
        pytest.raises(InputError, match=r"1 not expected \(bias\); 1 of another shape \(weight\)"),
        explaining_misfit(model, tmp_path / "x"),
    ):
        model.load_state_dict(torch.load(tmp_path / "x")["state_dict"])
    # What fails for another reason stays as it is.
    with pytest.raises(RuntimeError, match="other"), explaining_misfit(model, tmp_path / "x"):
        raise RuntimeError("other")
