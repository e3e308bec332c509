"""Loggers that a user names: added to the run's own, and writing into the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import Logger

from lit_biqa.callbacks.tensorboard import RunLogger
from lit_biqa.compat.jsonargparse import Namespace

_KEY = "--trainer.logger"
# Loggers of Lightning that need a folder.
_NEED_FOLDER = ("CSVLogger", "TensorBoardLogger")


def with_folders(arguments: Sequence[str]) -> list[str]:
    """Set ``save_dir=.``, the run folder, for loggers without one.

    Example:
        ``["fit", "--trainer.logger=CSVLogger"]`` becomes
        ``["fit", "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=."]``.
    """
    arguments_with_folders: list[str] = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "--config":
            settings = yaml.safe_load(value)
            trainer = settings.get("trainer")
            if isinstance(trainer, dict) and trainer.get("logger"):
                trainer["logger"] = _filled(trainer["logger"])
            arguments_with_folders.append(f"{key}={yaml.safe_dump(settings, sort_keys=False)}")
        elif key.removesuffix("+") == _KEY and value[:1] in ("{", "["):
            arguments_with_folders.append(f"{key}={yaml.safe_dump(_filled(yaml.safe_load(value)))}")
        elif key.removesuffix("+") == _KEY and _needs_folder(value):
            arguments_with_folders += [argument, f"{_KEY}.save_dir=."]
        else:
            arguments_with_folders.append(argument)
    return arguments_with_folders


def _filled(logger: Any) -> Any:
    if isinstance(logger, list):
        return [_filled(item) for item in logger]
    named = {"class_path": logger} if isinstance(logger, str) else logger
    if not isinstance(named, dict) or not _needs_folder(named.get("class_path")):
        return logger
    return named | {"init_args": {"save_dir": "."} | (named.get("init_args") or {})}


def _needs_folder(class_path: object) -> bool:
    return str(class_path).rpartition(".")[2] in _NEED_FOLDER


def below(run: Path, logger: Any) -> Any:
    """Parsed settings of loggers with each relative ``save_dir`` inside the run folder."""
    if isinstance(logger, list):
        return [below(run, item) for item in logger]
    if isinstance(logger, Namespace) and "init_args" in logger:
        folder = logger.init_args.get("save_dir")
        if folder is not None:
            placed = logger.clone()
            placed.init_args.save_dir = str(run / Path(folder).expanduser())
            return placed
    return logger


def loggers(setting: Any, run: Path, command: str) -> list[Logger] | bool:
    """Loggers of a command.

    Args:
        setting: ``trainer.logger``, instantiated.
        run: run folder.
        command: name of the command; only fit and test write events.

    Returns:
        The run's own logger, then those of the setting; ``False`` for none.
    """
    if setting is False:
        return False
    named = [] if setting in (None, True) else setting if isinstance(setting, list) else [setting]
    events = [RunLogger(run)] if command in ("fit", "test") else []
    return [*events, *named] or False
