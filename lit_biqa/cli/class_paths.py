"""What a configuration may call: classes of the kinds that settings take, and nothing else.

The parser compares a class with the setting it stands under, but it would also call functions, and
anything at all where a constructor of a library says `Callable` or `Any`. So every class path of
the parsed settings must name a class of a known kind, before any of them is called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from torch.optim import Optimizer

from lit_biqa.compat.jsonargparse import Namespace
from lit_biqa.types import InputError

#: What settings take. Of this package's own classes, all and whatever is derived from them.
KINDS = (
    Accelerator,
    Callback,
    CheckpointIO,
    ClusterEnvironment,
    LayerSync,
    Logger,
    Optimizer,
    Precision,
    Profiler,
    Strategy,
)
_PACKAGE = __name__.partition(".")[0]

#: Classes that have moved: a ``config.yaml`` saved before names the old place.
MOVED = {
    "lit_biqa.methods.external.Predictions": "lit_biqa.methods.predictions_file.Predictions",
    "lit_biqa.methods.portable.PortableScorer": "lit_biqa.methods.scorer_method.PortableScorer",
}


def refuse_standard_library(settings: object, name: str = "") -> None:
    """Refuse class paths into Python's own library while nothing has been imported for them.

    Args:
        settings: as they come out of YAML.
        name: of ``settings`` itself.

    Raises:
        InputError: naming the setting.
    """
    for key, value in walk(settings, name):
        if _last(key) == "class_path":
            check_module(value, key)


def with_new_places(settings: Any) -> Any:
    """Settings as they come out of YAML, with classes that have moved under their new path."""
    if isinstance(settings, dict):
        return {
            key: MOVED.get(value, value)
            if key == "class_path" and isinstance(value, str)
            else with_new_places(value)
            for key, value in settings.items()
        }
    return [with_new_places(each) for each in settings] if isinstance(settings, list) else settings


def check_module(path: object, key: str) -> None:
    """Refuse one class path that leads into Python's own library.

    Raises:
        InputError: naming the setting.
    """
    # None of its classes is of any kind, and to import some of its modules already does something.
    if isinstance(path, str) and path.partition(".")[0] in sys.stdlib_module_names:
        raise InputError(f"{key}: {path} is of Python's own library, of which no setting is made")


def check_parsed(config: object) -> None:
    """Refuse parsed settings that would call something else than a class of a known kind.

    Modules that class paths name have been imported by then; nothing of them has been called.

    Args:
        config: what the parser returned.

    Raises:
        InputError: naming the setting.
    """
    for key, value in walk(config):
        if _last(key) == "class_path" and isinstance(value, str):
            _check_class(value, key)
        elif callable(value):
            said = getattr(value, "__qualname__", type(value).__qualname__)
            raise InputError(
                f"{key}: {said} would be called: settings take classes, by class_path, and no "
                "functions"
            )


def _check_class(path: str, key: str) -> None:
    check_module(path, key)
    if not _is_of_a_kind(imported(path, key)):
        kinds = ", ".join(sorted(kind.__name__ for kind in KINDS))
        raise InputError(
            f"{key}: {path} is not called, since no setting takes it: take a class of "
            f"{_PACKAGE}, or one derived from them or from {kinds}"
        )


def imported(path: str, key: str) -> Any:
    """What a class path names.

    Raises:
        InputError: if it names nothing; ``key`` is the setting.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{key}: there is no class {path}") from error


def _is_of_a_kind(named: object) -> bool:
    if not isinstance(named, type):
        return False
    ours = any(base.__module__.partition(".")[0] == _PACKAGE for base in named.__mro__)
    return ours or issubclass(named, KINDS)


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def walk(settings: object, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that holds no others, with its dotted name.

    Args:
        settings: mappings, namespaces and lists, of each other and of values.
        name: of ``settings`` itself.
    """
    items: Iterator[tuple[object, object]]
    if isinstance(settings, Mapping):
        items = iter(settings.items())
    elif isinstance(settings, (list, tuple, set)):
        items = iter(enumerate(settings))
    elif isinstance(settings, Namespace):
        items = iter(vars(settings).items())
    else:
        yield name, settings
        return
    for key, value in items:
        yield from walk(value, f"{name}.{key}" if name else str(key))
