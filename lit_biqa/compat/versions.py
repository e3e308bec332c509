"""Versions of installed packages, and checks of those whose internals this one uses."""

from __future__ import annotations

import re
from importlib.metadata import version

from lit_biqa.types import InputError

# First and last minor release that the tests have passed with, as in setup.cfg.
CHECKED = {
    "jsonargparse": ((4, 50), (4, 53)),
    "lightning": ((2, 6), (2, 6)),
    "peft": ((0, 18), (0, 21)),
    "transformers": ((5, 23), (5, 24)),
}


def installed(*packages: str) -> str:
    """Names and versions of packages, such as ``torch 2.13.0, peft 0.21.0``; imports nothing."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def check(library: str) -> tuple[int, int]:
    """Refuse a minor release that the tests have not run with; imports nothing.

    Args:
        library: a key of `CHECKED`.

    Returns:
        Major and minor version of the installed release.

    Raises:
        InputError: for an untested release, with the command that installs a tested one.
    """
    found, (first, last) = version(library), CHECKED[library]
    numbers = [int(number) for number in re.findall(r"\d+", found)[:2]]
    release = (numbers[0], numbers[1])
    if not first <= release <= last:
        newest = ".".join(map(str, last))
        raise InputError(
            f"{library} {found} is installed, but only releases {'.'.join(map(str, first))} to "
            f"{newest} were tested: pip install '{library}=={newest}.*'"
        )
    return release
