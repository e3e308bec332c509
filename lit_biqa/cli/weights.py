"""Show pretrained weights that packages carry: installed, checked, where, or how to get them.

    lit_biqa weights
    lit_biqa weights --convert lite0 smollm2

Settings name them as package:lite0, package:minilm and package:smollm2, see docs/weights.md. The
exit status is 1 if installed files or a converted copy are damaged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lit_biqa.backbones.pretrained.folders import (
    check_copy,
    check_needs,
    convert_anew,
    copy_of,
)
from lit_biqa.backbones.pretrained.packages import (
    PACKAGES,
    WeightsPackage,
    installed_version,
    locate,
    package_named,
    verify,
)
from lit_biqa.types import InputError

WIDTH = 150  # of the table if the output is no terminal


@dataclass(frozen=True)
class Finding:
    """State of one package of weights.

    Attributes:
        package: the row of the table of packages.
        version: the installed release; empty where none is installed.
        digest: result of comparing the installed files with their sha256.
        place: where the folder that models read lies, or what is to be done for one.
        damaged: installed files or the converted copy are not as they should be.
    """

    package: WeightsPackage
    version: str
    digest: str
    place: str
    damaged: bool = False


def examine(package: WeightsPackage) -> Finding:
    """Look at the installed files of a package and at its converted copy; all of them are read."""
    copied = package.converted and copy_of(package).exists()
    version = installed_version(package) if locate(package) else ""
    try:
        if copied:
            check_copy(package)
        if not version:
            used = f"a copy lies in {copy_of(package)}; again: " if copied else ""
            return Finding(package, version, "-", f"{used}{package.install}")
        folder = verify(package)
    except InputError as error:
        return Finding(package, version, "damaged", str(error), damaged=True)
    if not package.converted or copied:
        return Finding(package, version, "verified", str(copy_of(package) if copied else folder))
    try:
        check_needs(package)
    except InputError as error:
        return Finding(package, version, "verified", str(error))
    advice = f"converted at first use, or by `lit_biqa weights --convert {package.name}`"
    return Finding(package, version, "verified", advice)


def table(findings: Sequence[Finding]) -> Table:
    """All findings in one table, without their places: paths are for copying."""
    drawn = Table(
        Column("name", no_wrap=True),
        "weights",
        Column("MB", justify="right"),
        "licence",
        "package",
        "installed",
        "sha256",
    )
    for finding in findings:
        package = finding.package
        cells = (
            package.name,
            package.summary,
            f"{package.size / 1e6:.1f}",
            package.licence,
            package.distribution,
            finding.version or "missing",
            finding.digest,
        )
        drawn.add_row(*map(Text, cells))
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or convert weights; the exit status is 1 for damage, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(package.name for package in PACKAGES if package.converted)
    parser.add_argument(
        "--convert", nargs="+", default=[], metavar="NAME", help=f"make copies anew: {names}"
    )
    given = parser.parse_args(arguments)
    try:
        for package in map(package_named, given.convert):
            folder = convert_anew(package) if package.converted else verify(package)
            print(f"{package.name}: {folder}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.convert:
        return 0
    findings = [examine(package) for package in PACKAGES]
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table(findings))
    for finding in findings:
        print(f"package:{finding.package.name:<8} {finding.place}")
    return int(any(finding.damaged for finding in findings))
