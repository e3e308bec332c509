"""Versions of libraries whose internals the project uses, and the refusal of all others."""

from __future__ import annotations

from importlib.metadata import version

from lit_biqa.types import InputError

# Minor releases that the test suite has passed with; setup.cfg allows these and no others.
CHECKED = {
    "transformers": ("5.23", "5.24"),
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
    found, known = version(library), CHECKED[library]
    major, minor = found.split(".")[:2]
    if f"{major}.{minor}" not in known:
        raise InputError(
            f"{library} {found} is installed, and this project was checked with "
            f"{', '.join(known)} only: pip install '{library}=={known[-1]}.*'"
        )
    return int(major), int(minor)
