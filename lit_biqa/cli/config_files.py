"""Configuration files, merged before the parser sees them.

jsonargparse merges files by itself, but if a later file names another class it silently keeps those
settings of the earlier class, even defaults, whose names agree. Here a changed ``class_path``
starts afresh. Settings on the command line win over every file.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lit_biqa import limits
from lit_biqa.cli.class_paths import check_module, refuse_standard_library, with_new_places
from lit_biqa.cli.renamed_settings import refuse_renamed, refuse_renamed_argument
from lit_biqa.compat.jsonargparse import get_loader, set_loader
from lit_biqa.io import yaml_text
from lit_biqa.io.files import refuse_special
from lit_biqa.runs import recipes
from lit_biqa.types import InputError

Settings = dict[str, Any]

_load = get_loader("yaml")


def _load_measured(text: str) -> Any:
    yaml_text.measure(text, "a setting")
    loaded = _load(text)
    refuse_standard_library(loaded)
    return loaded


# Loader of everything that the parser reads by itself: command-line values, and files they name.
set_loader("yaml", _load_measured, (yaml.YAMLError,))


def split_arguments(args: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Separate configuration files, named by path or by recipe, from the other arguments.

    Returns:
        The files in order, and the other arguments, with ``--key value`` as ``--key=value``.

    Raises:
        InputError: if ``--config`` names nothing.
    """
    files: list[Path] = []
    rest: list[str] = []
    left = list(args)
    while left:
        key, equals, value = left.pop(0).partition("=")
        if key in ("-c", "--config"):
            if not equals and not left:
                raise InputError(f"{key} names nothing: give a recipe or a file.")
            files.append(recipes.find(value if equals else left.pop(0)))
        elif key.startswith("--") and not equals and left and not left[0].startswith("--"):
            rest.append(f"{key}={left.pop(0)}")
        else:
            rest.append(f"{key}{equals}{value}")
    return files, rest


def merge_arguments(args: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Configuration files, and arguments with their merged settings in one piece.

    Raises:
        InputError: if a file is absent, no regular file or no YAML mapping, or if anything exceeds
            a limit or names a class that no setting takes.
    """
    files, rest = split_arguments(args)
    settings = merge_files(files, rest)
    # Subcommand first, then the files, so that every setting after them wins.
    config = [f"--config={yaml.safe_dump(settings, sort_keys=False)}"] if files else []
    return files, [*rest[:1], *config, *rest[1:]]


def with_own_settings(args: Sequence[str]) -> list[str]:
    """Add the ``config.yaml`` of a run folder to arguments that name the folder and no settings.

    A fit uses it only to resume from a checkpoint.

    Raises:
        InputError: if there is no such folder.
    """
    arguments = list(args)
    files, rest = split_arguments(arguments)
    named = dict(item.removeprefix("--").split("=", 1) for item in rest if "=" in item)
    config = Path(named.get("run", "")).expanduser() / "config.yaml"
    begins = rest[:1] == ["fit"] and "ckpt_path" not in named
    modelled = any(name.split(".")[0] == "model" for name in named)
    if files or "run" not in named or modelled or begins or {"--help", "-h"} & set(rest):
        return arguments
    if not config.parent.exists():
        raise InputError(
            f"the run folder {named['run']} does not exist: name the folder of a fit with --run, "
            "or a configuration file with --config."
        )
    if not config.is_file():
        return arguments
    return [*arguments[:1], "--config", str(config), *arguments[1:]]


def merge_files(files: Sequence[Path], arguments: Sequence[str]) -> Settings:
    """Merged settings of the files, without those of classes that the arguments replace.

    Args:
        files: configuration files; later ones win.
        arguments: arguments as ``--key=value``.

    Raises:
        InputError: as `merge_arguments`.
    """
    settings: Settings = {}
    for file in files:
        settings = merge(settings, read(file))
        refuse_beside_init_args(settings, file)
    method = _method(settings, arguments)
    refuse_renamed(settings, ", ".join(map(str, files)), method)
    for argument in arguments:
        refuse_renamed_argument(argument, method)
        key, _, value = argument.removeprefix("--").partition("=")
        if key.rpartition(".")[2] == "class_path":
            check_module(value, key)
        forget_other_class(settings, key, value if "=" in argument else None)
    return settings


def _method(settings: Settings, arguments: Sequence[str]) -> str:
    """Class path or name of the method: the last one named; empty if none is."""
    named = [
        argument.partition("=")[2]
        for argument in arguments
        if argument.startswith(("--model=", "--model.class_path="))
    ]
    method = named[-1] if named else _child(settings.get("model"), "class_path")
    return method if isinstance(method, str) else ""


def refuse_beside_init_args(settings: Settings, file: Path, name: str = "") -> None:
    """Refuse settings of a class that are beside ``class_path`` and not in ``init_args``.

    Args:
        settings: settings merged so far.
        file: the file merged last.
        name: dotted name of ``settings``.

    Raises:
        InputError: names the setting and its place.
    """
    beside = settings.keys() - {"class_path", "init_args", "dict_kwargs"}
    if "class_path" in settings and beside:
        key = min(beside)
        raise InputError(
            f"{file}: {name}.{key} is beside class_path: write it as {name}.init_args.{key}"
        )
    for key, value in settings.items():
        if isinstance(value, dict):
            refuse_beside_init_args(value, file, f"{name}.{key}" if name else str(key))


def read(file: Path, upon: tuple[Path, ...] = ()) -> Settings:
    """Read one configuration file, merged with those that it names as its ``base``.

    Example: ``base: grpo/score`` at the top of a file takes all settings of that recipe; those of
    the file itself win.

    Args:
        file: file to read.
        upon: files whose ``base`` led here.

    Raises:
        InputError: as `merge_arguments`, and if files are based on each other.
    """
    refuse_special(file)
    if not file.is_file():
        raise InputError(f"there is no configuration file or recipe {file}.{_nearest(file)}")
    settings = _mapping(file)
    base = settings.pop("base", None)
    if base is None:
        return settings
    if not isinstance(base, str):
        raise InputError(f"{file}: base must be a recipe, such as grpo/score, or a path.")
    below = recipes.find(base)
    if below in (*upon, file):
        raise InputError(f"{file}: base {base} is based on this file.")
    return merge(read(below, (*upon, file)), settings)


def _nearest(file: Path) -> str:
    """Hint with files beside a missing one, or recipes, of similar names."""
    beside = [str(path) for path in sorted(file.parent.glob("*.yaml"))]
    by_stem = {name.rpartition("/")[2]: name for name in recipes.names()}
    wanted = file.with_suffix("").as_posix()
    near = difflib.get_close_matches(str(file), beside, 2)
    near += difflib.get_close_matches(wanted, [*by_stem.values()], 2)
    near += [by_stem[stem] for stem in difflib.get_close_matches(file.stem, by_stem, 1)]
    near = list(dict.fromkeys(near or beside[:5]))[:3]
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return f"{hint} `lit_biqa list recipes` names all."


def _mapping(file: Path) -> Settings:
    """Settings of one file."""
    settings = yaml_text.parse(_text(file), str(file))
    if settings is None:
        return {}
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        raise InputError(f"{file} holds no settings: it must be a mapping of names to values.")
    refuse_standard_library(settings)
    refuse_renamed(settings, str(file))
    named: Settings = with_new_places(settings)
    return named


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        content = opened.read(limits.YAML_BYTES + 1)
    if len(content) > limits.YAML_BYTES:
        raise InputError(f"{file} exceeds the limit of {limits.YAML_BYTES:,} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not YAML: it is no UTF-8 text.") from error


def merge(old: Settings, new: Settings) -> Settings:
    """Merge settings, with the new ones winning; a changed class starts afresh."""
    if "class_path" in old and _is_other(old["class_path"], new.get("class_path")):
        return new
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        merged[key] = merge(before, value) if both else value  # type: ignore[arg-type]
    return merged


def forget_other_class(settings: Settings, key: str, value: str | None = None) -> None:
    """Drop the settings of a class if the command line (``--key value``) names another."""
    *parents, last = key.removesuffix(".class_path").split(".")
    node: Any = settings
    for name in parents:
        node = _child(node, name)
    if isinstance(node, dict) and last not in node:
        node = node.get("init_args")
    before = _child(node, last)
    if isinstance(before, dict) and _is_other(before.get("class_path"), value):
        # Only the name: it may be no class, such as `auto` or `ddp` for a strategy.
        node[last] = value


def _child(node: Any, name: str) -> Any:
    if not isinstance(node, dict):
        return None
    return node[name] if name in node else _child(node.get("init_args"), name)


def _is_other(old: str | None, new: str | None) -> bool:
    if old is None:
        return False
    # A class may be named with or without its module; `x.yaml` and mappings name no class.
    if new is None or not new.replace(".", "").replace("_", "").isalnum() or new.endswith("yaml"):
        return False
    return old.rsplit(".", 1)[-1] != new.rsplit(".", 1)[-1]
