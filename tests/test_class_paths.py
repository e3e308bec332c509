"""A configuration calls classes of the kinds that settings take, and no program."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_biqa.cli import errors, main
from lit_biqa.cli.class_paths import MOVED
from lit_biqa.cli.config_files import read
from lit_biqa.types import InputError

RECIPES = Path(__file__).resolve().parent.parent / "configs"
RALI = RECIPES / "quickstart.yaml"
GRPO = RECIPES / "grpo" / "small_autoencoder.yaml"
LAMBDA = "lightning.pytorch.callbacks.LambdaCallback"
SETTINGS = [
    "model",
    "model.optimizer",
    "model.encoder",
    "model.head",
    "data.sets.synthetic",
    "data.sets.conversations",
    "trainer.callbacks",
    "trainer.logger",
    "trainer.plugins",
    "trainer.strategy",
    "trainer.accelerator",
    "trainer.profiler",
]
WITHIN = {
    "trainer.callbacks": {"class_path": LAMBDA, "init_args": {"on_fit_start": None}},
    "trainer.strategy": {
        "class_path": "lightning.pytorch.strategies.FSDPStrategy",
        "init_args": {"auto_wrap_policy": None},
    },
    "trainer.logger": {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": "x"},
        "dict_kwargs": {"comment": None},
    },
    "trainer.profiler": {
        "class_path": "lightning.pytorch.profilers.PyTorchProfiler",
        "dict_kwargs": {"on_trace_ready": None},
    },
    "model.optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": None}},
}


class Dry(main.CLI):
    """Parses and makes all objects, and runs nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Stop here."""

    def _clean_up(self) -> None:
        """There is nothing to clean."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with modules of a user's own: a program, and a reward."""
    program = "import pathlib\n\ndef touch(path: str, *_):\n    pathlib.Path(path).touch()\n\n\n"
    kind = (
        "class Touch:\n    def __init__(self, path: str, *_): touch(path)\n    __call__ = print\n"
    )
    (tmp_path / "own_program.py").write_text(program + kind)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def calls(folder: Path) -> list[dict[str, Any]]:
    """Class paths that each make a file ``marker`` where something calls them."""
    marker = str(folder / "marker")
    return [
        {"class_path": "os.system", "init_args": {"command": f"touch {marker}"}},
        {
            "class_path": "lightning.pytorch.trainer.trainer.os.mkdir",
            "init_args": {"path": marker},
        },
        {"class_path": "own_program.touch", "init_args": {"path": marker}},
        {"class_path": "own_program.Touch", "init_args": {"path": marker}},
    ]


def filled(within: Any, call: Any) -> Any:
    """``within`` with ``call`` in place of its null."""
    if isinstance(within, dict):
        return {key: filled(value, call) for key, value in within.items()}
    return call if within is None else within


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that refuses the arguments."""
    assert errors.guard(lambda: Dry(arguments)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1
    return lines[0]


def nested(key: str, value: Any) -> dict[str, Any]:
    """Settings of a file in which ``value`` stands under the dotted ``key``."""
    first, *rest = key.split(".")
    if not rest:
        return {first: value}
    inner = nested(".".join(rest), value)
    return {first: {"init_args": inner} if first == "model" else inner}


@pytest.mark.parametrize("key", SETTINGS)
def test_no_setting_calls_a_program(
    key: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for call in calls(folder):
        value = [call] if key in ("trainer.callbacks", "trainer.plugins") else call
        (folder / "bad.yaml").write_text(yaml.safe_dump(nested(key, value)))
        refused(["fit", f"--config={RALI}", "--config=bad.yaml"], capsys)
        assert not (folder / "marker").exists()
    refused(["fit", f"--config={RALI}", f"--{key}={json.dumps(value)}"], capsys)
    assert not (folder / "marker").exists()


@pytest.mark.parametrize("key", WITHIN)
def test_no_setting_of_a_class_calls_a_program(
    key: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for call in calls(folder):
        value = filled(WITHIN[key], call)
        value = [value] if key == "trainer.callbacks" else value
        (folder / "bad.yaml").write_text(yaml.safe_dump(nested(key, value)))
        refused(["fit", f"--config={RALI}", "--config=bad.yaml"], capsys)
        assert not (folder / "marker").exists()


def test_no_file_that_a_setting_names_calls_a_program(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for call in calls(folder):
        (folder / "part.yaml").write_text(yaml.safe_dump(call))
        refused(["fit", f"--config={RALI}", "--model.optimizer=part.yaml"], capsys)
        assert not (folder / "marker").exists()


@pytest.mark.parametrize("key", ["model.backbone", "model.paradigm", "model.rewards"])
def test_no_part_of_reinforcement_calls_a_program(
    key: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for call in calls(folder):
        value = {"own": call} if key == "model.rewards" else call
        refused(["fit", f"--config={GRPO}", f"--{key}={json.dumps(value)}"], capsys)
        assert not (folder / "marker").exists()


def test_a_function_is_named_and_not_called(capsys: pytest.CaptureFixture[str]) -> None:
    value = [{"class_path": LAMBDA, "init_args": {"on_fit_start": "own_program.touch"}}]
    line = refused(["fit", f"--config={RALI}", f"--trainer.callbacks={json.dumps(value)}"], capsys)
    assert "trainer.callbacks.0.init_args.on_fit_start: touch would be called" in line


def test_what_is_of_another_kind_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = {"class_path": "own_program.touch", "init_args": {"path": "marker"}}
    line = refused(["fit", f"--config={RALI}", f"--model.optimizer={json.dumps(value)}"], capsys)
    assert "model.init_args.optimizer.class_path: own_program.touch is not called" in line


def test_pythons_own_library_is_refused_before_it_is_imported(folder: Path) -> None:
    (folder / "bad.yaml").write_text("model: {init_args: {x: [{class_path: antigravity.fly}]}}")
    with pytest.raises(InputError, match=r"model.init_args.x.0.class_path: antigravity.fly is in"):
        read(Path("bad.yaml"))


def test_classes_of_ones_own_are_taken(folder: Path) -> None:
    (folder / "own_callback.py").write_text(
        "from lightning.pytorch import Callback\n\n\nclass Own(Callback):\n"
        "    def __init__(self, n: int = 1):\n        self.n = n\n"
    )
    made = Dry(["fit", f"--config={RALI}", "--trainer.callbacks=[{class_path: own_callback.Own}]"])
    callbacks = made.trainer.callbacks  # type: ignore[attr-defined]
    assert "Own" in [type(callback).__name__ for callback in callbacks]


def test_classes_that_have_moved_are_found_under_their_new_path(folder: Path) -> None:
    for old, new in MOVED.items():
        module, _, name = new.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
        file = folder / "saved.yaml"
        file.write_text(f"model: {{class_path: {old}, init_args: {{path: x.csv}}}}\n")
        assert read(file)["model"]["class_path"] == new
