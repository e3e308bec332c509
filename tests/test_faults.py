"""Messages that a person reads when something goes wrong."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lit_biqa.cli import errors
from lit_biqa.types import InputError, TrainingError


def failing(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


WORKER = (
    "Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):"
    "\n  File ...\nlit_biqa.types.InputError: a.png is cut short\n"
)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InputError("no such set"), 2, "error: no such set\n"),
        (InputError(WORKER), 2, "error: a.png is cut short\n"),
        (OSError(errno.ENOSPC, "No space", "x.ckpt"), 1, "error: the disk is full (at x.ckpt)"),
        (
            PermissionError(errno.EACCES, "Permission denied", "a.csv"),
            1,
            "error: a.csv: Permission",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), 1, "error: CUDA out of memory: "),
        (RuntimeError("[gloo/pair.cc] Connection closed by peer"), 1, "error: another process of"),
        (TrainingError("step 3 is not finite"), 1, "error: step 3 is not finite"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
    ],
)
def test_one_line_and_a_status(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, message: str
) -> None:
    assert errors.guard(failing(error)) == status
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_other_exits_and_faults_of_the_program_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        errors.guard(failing(SystemExit(0)))
    with pytest.raises(ZeroDivisionError):
        errors.guard(failing(ZeroDivisionError()))
    monkeypatch.setenv(errors.TRACEBACK, "1")
    with pytest.raises(InputError):
        errors.guard(failing(InputError("x")))


def test_success_is_zero() -> None:
    assert errors.guard(lambda: None) == 0


def test_settings_are_explained_with_their_file_and_the_nearest_names(tmp_path: Path) -> None:
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    files[0].write_text("trainer: {max_epochs: 1}")
    files[1].write_text("trainer: {max_epoch: 1}")
    text = (
        'Parser key "trainer":\n  Does not validate against any of the Union subtypes\n'
        "  - Option 'max_epoch' is not accepted\n  Given value: {...}"
    )
    assert errors.explain_setting(text, {"max_epochs", "min_epochs", "root"}, files) == (
        f"trainer: Option 'max_epoch' is not accepted (in {files[1]}). Nearest names: max_epochs."
    )
