"""Errors in one line on stderr; only a fault of the program prints a traceback."""

from __future__ import annotations

import dataclasses
import difflib
import errno
import importlib
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from lit_biqa.cli.setting_values import dataclasses_in, parameters_of
from lit_biqa.compat.jsonargparse import classes_in, one_line
from lit_biqa.runs import stops
from lit_biqa.runs.folder import is_first_process
from lit_biqa.runs.stops import Stopped
from lit_biqa.types import InputError, TrainingError

#: Environment variable; 1 prints the traceback of any error.
TRACEBACK = "LIT_BIQA_TRACEBACK"


def guard(command: Callable[[], object]) -> int:
    """Run a command, and print an error in one line.

    Returns:
        0, or 2 for bad input, 1 for a failing machine, or 128 plus its number for a signal: 143 for
        SIGTERM, 130 for SIGINT, 138 for SIGUSR1.

    Raises:
        BaseException: any fault of the program; with LIT_BIQA_TRACEBACK=1 every error.
    """
    try:
        with stops.heard():
            command()
    except Stopped as stop:
        if is_first_process():
            print(f"{stop}: {stop.advice or 'the same command begins again'}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:  # raised by a library, or where no signal handler can be set
        return _say("interrupted", 130)
    except Exception as error:
        message = explain(error)
        if message is None or os.environ.get(TRACEBACK) == "1":
            raise
        if not is_first_process():
            # If every process meets the same error, the first one prints it and ends the others.
            time.sleep(5)
        return _say(message, 2 if isinstance(error, (ValueError, MisconfigurationException)) else 1)
    return 0


def _say(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def explain(error: Exception) -> str | None:
    """Message of an error that a user can resolve; ``None`` for any other error."""
    text = str(error)
    if isinstance(error, InputError):
        # A loader's worker adds its traceback.
        return text.rsplit("InputError: ", 1)[-1].strip() if "DataLoader worker" in text else text
    if isinstance(error, TrainingError):
        return text
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" (at {error.filename})" if error.filename else ""
        return f"the disk is full{where}: make room, then resume the fit with --ckpt_path last."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, torch.OutOfMemoryError):
        first = text.partition(". ")[0]
        return (
            f"{first}: lower data.loader.batch_size and data.loader.eval_batch_size, or shard the "
            "model."
        )
    if isinstance(error, RuntimeError) and _PEER.search(text):
        return (
            "another process of this run has ended or hangs, and its own message says why: resume "
            "with --ckpt_path last"
        )
    if isinstance(error, MisconfigurationException):
        return text
    if isinstance(error, ValueError) and "`val_check_interval`" in text:
        # Lightning finds this error once it knows the length of an epoch.
        return f"trainer.val_check_interval: {text.strip()}"
    return None


# Messages of gloo and NCCL on a rank that has lost another.
_PEER = re.compile(r"Connection (?:closed|reset) by peer|[Tt]imed out waiting|NCCL.*remote process")
_QUOTED = re.compile(r"'([\w./-]+)'|--([\w.-]+)")


def explain_setting(text: str, names: Collection[str], files: Sequence[Path]) -> str:
    """Put jsonargparse's message about a setting into one line, with the nearest names.

    Args:
        text: its message.
        names: names of all settings and classes.
        files: configuration files in which the setting may be.
    """
    classes = classes_in(text)
    valid = {*names, *classes, *_settings_of(classes)}
    message = one_line(text)
    words = ["".join(groups) for groups in _QUOTED.findall(message)]
    strange = [word for word in words if word not in valid]
    near = [name for word in strange for name in difflib.get_close_matches(word, valid, 2, 0.75)]
    lasts = [word.rpartition(".")[2] for word in strange]
    where = [
        str(file)
        for file in files
        if any(re.search(rf"\b{re.escape(last)}\b", file.read_text()) for last in lasts)
    ]
    message += f" (in {', '.join(where)})." if where else "."
    if near:
        message += f" Nearest names: {', '.join(dict.fromkeys(near))}."
    if "required: " in message:
        message += (
            " Name a recipe or a file with --config, such as --config quickstart; "
            "`lit_biqa list recipes` names all."
        )
    return message


def _settings_of(class_paths: list[str]) -> Iterator[str]:
    """Arguments of classes, and fields of those that are dataclasses: ``head``, ``head.pca``."""
    for path in class_paths:
        module, _, name = path.rpartition(".")
        with suppress(ImportError, AttributeError, ValueError):
            for argument, (hint, _) in parameters_of(
                getattr(importlib.import_module(module), name)
            ):
                yield argument
                for kind in dataclasses_in(hint):
                    yield from (f"{argument}.{field.name}" for field in dataclasses.fields(kind))
