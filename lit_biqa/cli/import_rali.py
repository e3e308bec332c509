"""Make a scorer of RALI's released files: ckpt.pt, pca.pkl and the folder best/.

    lit_biqa import-rali checkpoints/RALI --out runs/rali_published
    lit_biqa score photos/ --scorer runs/rali_published

Of pca.pkl only arrays are read; nothing else is unpickled.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lit_biqa.cli.errors import guard
from lit_biqa.scoring.published_rali import import_rali
from lit_biqa.scoring.scorer_file import SCORER
from lit_biqa.types import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the scorer; the exit status is 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa import-rali",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="holds ckpt.pt, pca.pkl and best/")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the scorer")
    parser.add_argument(
        "--mean", type=Path, help=".npy file with the PCA's mean_, read in place of pca.pkl"
    )
    options = parser.parse_args(arguments)
    return guard(lambda: _import(options.folder, options.out / SCORER, options.mean))


def _import(folder: Path, out: Path, mean: Path | None) -> None:
    if out.exists():
        raise InputError(f"{out} exists and is not replaced: name another folder with --out")
    import_rali(folder, out, mean)
    print(f"scorer: {out}")
