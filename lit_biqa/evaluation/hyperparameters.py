"""Settings of a run as flat names and values, for comparing runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from lit_biqa.types import InputError

Setting: TypeAlias = str | int | float | bool | None

# The place of a run is no setting, and neither is the place of its logs.
PLACES = ("run", "config", "ckpt_path", "trainer.default_root_dir", "trainer.logger")


def flatten(config: object, name: str = "") -> dict[str, Setting]:
    """Flatten nested settings to dotted names.

    ``{"model": {"class_path": "lit_biqa.methods.RALI", "init_args": {"lr": 0.1}}}`` becomes
    ``{"model": "RALI", "model.lr": 0.1}``; a list of plain values becomes one string, and a member
    of a list of objects is named by its class.

    Args:
        config: mappings, lists and plain values, as read from YAML.
        name: name of ``config`` itself.
    """
    if isinstance(config, Mapping):
        if "class_path" in config:
            settings: dict[str, Setting] = {name: _class(config)}
            return settings | flatten(config.get("init_args") or {}, name)
        items = {str(key): value for key, value in config.items()}
    elif isinstance(config, list) and any(isinstance(value, Mapping) for value in config):
        items = _members(config)
    elif isinstance(config, list):
        return {name: ", ".join(str(value) for value in config)}
    else:
        return {name: config if isinstance(config, Setting) else str(config)}
    flat: dict[str, Setting] = {}
    for key, value in items.items():
        flat |= flatten(value, f"{name}.{key}" if name else key)
    return flat


def _members(config: list[object]) -> dict[str, object]:
    items: dict[str, object] = {}
    for i, value in enumerate(config):
        kind = _class(value)
        items[kind if kind and kind not in items else f"{kind}{i}"] = value
    return items


def _class(config: object) -> str:
    path = config.get("class_path", "") if isinstance(config, Mapping) else ""
    return str(path).rpartition(".")[2]


def read_hyperparameters(run: Path) -> dict[str, Setting]:
    """Flat settings in a run's ``config.yaml``, without the paths that it reads and writes.

    Raises:
        InputError: if there is no such file, or it is no YAML mapping.
    """
    import yaml

    path = run / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"no settings at {path} ({error.strerror}): name the run folder, as given to --run."
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {error}") from error
    if not isinstance(config, Mapping):
        raise InputError(f"{path} holds no settings: name the run folder, as given to --run.")
    return {
        name: value
        for name, value in flatten(config).items()
        if not any(name == place or name.startswith(f"{place}.") for place in PLACES)
    }
