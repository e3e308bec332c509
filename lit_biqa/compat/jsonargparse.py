"""Internals of jsonargparse: its messages about wrong settings, shortened to one line."""

from __future__ import annotations

import re

from jsonargparse import (
    ArgumentError,
    Namespace,
    get_loader,
    set_loader,
    set_parsing_settings,
)

from lit_biqa.compat.versions import check

__all__ = [
    "ArgumentError",
    "Namespace",
    "allow_subclasses",
    "classes_in",
    "get_loader",
    "one_line",
    "set_loader",
]

check("jsonargparse")

# Lines about the parser's own workings.
_NOISE = re.compile(
    r"Does not validate against any of|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>|"
    r"Expected a path but"
)
_PLAINER = {
    r'Parser key "([^"]+)":': r"\1:",
    r"Problem with given class_path[ =]'([^']+)':": r"\1:",
    r"Expected a dot import path string: (\S+)": r"there is no class '\1'",
    r"Expected a <class '(\w+)'>": r"expected \1",
    r"(expected \w+) there is no class '([^']*)'": r"\1. Got value: \2",
    r"Expected a typing\.Literal\[([^]]*)\]": r"expected one of \1",
    r"Type typing\.Callable\[.*?\] expects a function or a callable class: ": "",
    r"Group '(\w+)' does not accept option '(\w+)'": r"Option '\1.\2' is not accepted",
    r"(is not accepted)\. Got value: Namespace\(.*\)": r"\1",
    r"(\S+): Unable to load config '([^']*)'(?: \1: Unable to load config \"[^\"]*\")?": (
        r"\1: '\2' is no settings of it: give some, or leave it out"
    ),
}


def allow_subclasses(*bases: type) -> None:
    """Let settings name subclasses of these dataclasses, which jsonargparse refuses by default."""
    set_parsing_settings(subclasses_enabled=list(bases))


def one_line(complaint: str) -> str:
    """Message about a wrong setting in one line, without details of the parser."""
    lines = [line.strip().removeprefix("- ") for line in complaint.splitlines()]
    message = " ".join(line for line in lines if line and not _NOISE.search(line)).rstrip(".")
    for pattern, plain in _PLAINER.items():
        message = re.sub(pattern, plain, message)
    return message


def classes_in(complaint: str) -> list[str]:
    """Class paths that a message names."""
    return re.findall(r"class_path[ =]'([\w.]+)'", complaint)
