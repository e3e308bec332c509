"""The checkpoint that a command starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lit_biqa.compat.jsonargparse import Namespace
from lit_biqa.methods.base import Method
from lit_biqa.runs.folder import RunFolder, check_checkpoint, check_ends, find_weights
from lit_biqa.types import InputError


def starting_weights(
    command: str,
    settings: Namespace,
    run: RunFolder | None,
    wanted: str | None,
    files: Sequence[Path],
) -> Path | None:
    """The checkpoint to start from, looked at before anything heavy is built.

    Args:
        command: the subcommand; a fit starts anew where nothing is wanted.
        settings: parsed.
        run: the run folder that was named, if any.
        wanted: what ``--ckpt_path`` names.
        files: configuration files, as given.

    Raises:
        InputError: if it cannot be read or used, or a fit has nothing to train.
    """
    fitting, model = command == "fit", settings.model.class_path
    trains = model.rpartition(".")[2] in (cls.__name__ for cls in family(Method))
    if fitting and not trains:
        raise InputError(f"{model} has nothing to train: it is for validate, test and predict.")
    if wanted is None and (fitting or not trains):
        return None
    weights = find_weights(run, wanted, files)
    if weights is not None:
        content = check_checkpoint(weights, resume=fitting)
        if fitting:
            check_ends(weights, content, settings.trainer)
    return weights


def family(base: type) -> list[type]:
    """``base`` and the classes derived from it, at any remove, that have been imported."""
    children: list[type] = base.__subclasses__()
    return [base, *(cls for child in children for cls in family(child))]
