"""Loggers that a user names: they are added to the run's own, and write into the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import Logger

from lit_biqa.callbacks.tensorboard import RunLogger
from lit_biqa.compat.jsonargparse import Namespace

_KEY = "--trainer.logger"
# Lightning's that must be given a folder.
_NEED_FOLDER = ("CSVLogger", "TensorBoardLogger")


def with_folders(arguments: Sequence[str]) -> list[str]:
    """Arguments in which a logger without a ``save_dir`` has the run folder, written ``.``.

    Example:
        ``["fit", "--trainer.logger=CSVLogger"]`` becomes
        ``["fit", "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=."]``.
    """
    given: list[str] = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "--config":
            settings = yaml.safe_load(value)
            trainer = settings.get("trainer")
            if isinstance(trainer, dict) and trainer.get("logger"):
                trainer["logger"] = _filled(trainer["logger"])
            given.append(f"{key}={yaml.safe_dump(settings, sort_keys=False)}")
        elif key.removesuffix("+") == _KEY and value[:1] in ("{", "["):
            given.append(f"{key}={yaml.safe_dump(_filled(yaml.safe_load(value)))}")
        elif key.removesuffix("+") == _KEY and _needs_folder(value):
            given += [argument, f"{_KEY}.save_dir=."]
        else:
            given.append(argument)
    return given


def _filled(logger: Any) -> Any:
    if isinstance(logger, list):
        return [_filled(each) for each in logger]
    named = {"class_path": logger} if isinstance(logger, str) else logger
    if not isinstance(named, dict) or not _needs_folder(named.get("class_path")):
        return logger
    return named | {"init_args": {"save_dir": "."} | (named.get("init_args") or {})}


def _needs_folder(class_path: object) -> bool:
    return str(class_path).rpartition(".")[2] in _NEED_FOLDER


def below(run: Path, logger: Any) -> Any:
    """Parsed settings of loggers in which each ``save_dir`` that is relative lies in the run."""
    if isinstance(logger, list):
        return [below(run, each) for each in logger]
    if isinstance(logger, Namespace) and "init_args" in logger:
        folder = logger.init_args.get("save_dir")
        if folder is not None:
            placed = logger.clone()
            placed.init_args.save_dir = str(run / Path(folder).expanduser())
            return placed
    return logger


def loggers(setting: Any, run: Path, command: str) -> list[Logger] | bool:
    """The loggers of a command.

    Args:
        setting: ``trainer.logger``, instantiated.
        run: folder of the run.
        command: fit and test write events into it; the others have no scalars to keep.

    Returns:
        The run's own, then those of the setting; ``False`` where none is wanted.
    """
    if setting is False:
        return False
    named = [] if setting in (None, True) else setting if isinstance(setting, list) else [setting]
    own = [RunLogger(run)] if command in ("fit", "test") else []
    return [*own, *named] or False
