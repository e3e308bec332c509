"""Versions of libraries whose internals the project uses, and the refusal of all others."""

from __future__ import annotations

import re
from importlib.metadata import version

from lit_biqa.types import InputError

# The first and the last minor release that the tests have passed with, as setup.cfg allows them.
CHECKED = {
    "jsonargparse": ((4, 50), (4, 53)),
    "lightning": ((2, 6), (2, 6)),
    "peft": ((0, 18), (0, 21)),
    "transformers": ((5, 23), (5, 24)),
}


def check(library: str) -> tuple[int, int]:
    """Refuse a minor release that nobody has tried; nothing is imported.

    Args:
        library: a name in `CHECKED`.

    Returns:
        Major and minor number of the installed release.

    Raises:
        InputError: for another release, with the command that installs a known one.
    """
    found, (first, last) = version(library), CHECKED[library]
    numbers = [int(number) for number in re.findall(r"\d+", found)[:2]]
    release = (numbers[0], numbers[1])
    if not first <= release <= last:
        known = ".".join(map(str, last))
        raise InputError(
            f"{library} {found} is installed, and releases from {'.'.join(map(str, first))} to "
            f"{known} alone were tested: pip install '{library}=={known}.*'"
        )
    return release
