"""Folders of pretrained weights: of a package, converted once into the cache, or of one's own."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from pathlib import Path

from lit_biqa.backbones.pretrained.packages import (
    PACKAGES,
    WeightsPackage,
    licence_text,
    package_named,
    verify,
)
from lit_biqa.io.cache import CACHE, cache_root
from lit_biqa.io.digests import DIGESTS, digests_of_files
from lit_biqa.io.files import draft
from lit_biqa.types import InputError

PREFIX = "package:"
# Part of the name of a copy: raise it when `convert` writes something else.
_FORM = 1

log = logging.getLogger(__name__)


def resolve(source: str) -> str:
    """Folder or hub name behind a setting that names weights.

    Example:
        >>> resolve("package:lite0")
        '/.../.cache/lit_biqa/lite0-1-579344248a93'
        >>> resolve("google/siglip-base-patch16-224")
        'google/siglip-base-patch16-224'

    Args:
        source: ``package:NAME`` for a package of `PACKAGES`, an existing folder or file, or a name
            that a hub can resolve.

    Returns:
        A path for the first two; the name itself for the third.

    Raises:
        InputError: if the package is not installed or damaged, or a path does not exist.
    """
    from lit_biqa.backbones.places import check_there

    if source.startswith(PREFIX):
        return str(weights_folder(source.removeprefix(PREFIX)))
    if source in [package.name for package in PACKAGES] and not Path(source).exists():
        raise InputError(f"{source} is neither a folder nor on a hub: write {PREFIX}{source}.")
    check_there(source)
    return source


def weights_folder(name: str) -> Path:
    """Folder with the checked weights of a package, as timm or transformers reads it.

    The first call for a package that needs it converts the weights into the cache; later ones
    compare the copy with its digests. A copy serves without the package too.

    Args:
        name: short name in `PACKAGES`: ``lite0`` (a folder of timm), ``minilm`` and ``smollm2``
            (folders of transformers).

    Raises:
        InputError: if the package is unknown, missing or damaged, the copy is damaged, or it
            cannot be made.
    """
    package = package_named(name)
    if not package.converted:
        return verify(package)
    copy = copy_of(package)
    if not copy.exists():
        return convert(package)
    check_copy(package)
    return copy


def copy_of(package: WeightsPackage) -> Path:
    """Path of the converted copy, whether it was made or not; names the file it is made of."""
    return cache_root() / f"{package.name}-{_FORM}-{package.files[0].sha256[:12]}"


def check_copy(package: WeightsPackage) -> None:
    """Compare all files of a converted copy with the digests it was written with.

    Raises:
        InputError: if a file is absent or differs.
    """
    copy = copy_of(package)
    try:
        expected = json.loads((copy / DIGESTS).read_text(encoding="utf-8"))
        present = digests_of_files(copy / name for name in expected)
        faulty = [name for name in expected if present[name] != expected[name]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        faulty = [f"{type(error).__name__}: {error}"]
    if faulty:
        raise InputError(
            f"{copy} is damaged ({', '.join(faulty)}): make it anew with "
            f"`lit_biqa weights --convert {package.name}`."
        )


def convert(package: WeightsPackage) -> Path:
    """Convert the weights of a package into the cache, whole or not at all.

    Returns:
        The copy; where another process was faster, that one's.

    Raises:
        InputError: if the package is missing or damaged, a package that conversion needs is
            missing, or the cache cannot be written.
    """
    folder = verify(package)
    check_needs(package)
    from lit_biqa.backbones.pretrained import converters

    copy = copy_of(package)
    log.info("converting the weights %s into %s", package.name, copy)
    fill = {"lite0": converters.lite0, "smollm2": converters.smollm2}[package.name]
    try:
        with draft(copy) as part:
            fill(folder / package.files[0].name, part)
            (part / "LICENSE").write_text(licence_text(package), encoding="utf-8")
            digests = digests_of_files(part.iterdir())
            (part / DIGESTS).write_text(json.dumps(digests, indent=1), encoding="utf-8")
            _move(part, copy)
    except OSError as error:
        raise InputError(
            f"{copy} cannot be written: {error.strerror or error}. Make room, or name a folder for "
            f"converted weights in {CACHE}."
        ) from error
    return copy


def check_needs(package: WeightsPackage) -> None:
    """See that the packages that conversion needs are installed.

    Raises:
        InputError: if one is missing; tells the command that installs it.
    """
    for module in package.needs:
        if importlib.util.find_spec(module) is None:
            raise InputError(
                f"the weights {package.name} cannot be converted without the package {module}: "
                "pip install 'lit_biqa[pretrained]'"
            )


def convert_anew(package: WeightsPackage) -> Path:
    """`convert`, in place of a copy that may be damaged."""
    shutil.rmtree(copy_of(package), ignore_errors=True)
    return convert(package)


def _move(part: Path, copy: Path) -> None:
    """Rename a finished folder; one that another process finished first stays."""
    try:
        part.replace(copy)
    except OSError:
        if not (copy / DIGESTS).is_file():
            raise
