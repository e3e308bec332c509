"""Write a scorer as a program of another runtime: onnxruntime, or torch without this package.

    lit_biqa export runs/first --to onnx --out scorer.onnx
    lit_biqa export runs/first --to torch --out scorer.pt2
    lit_biqa export runs/first --to onnx --out scorer.onnx --input images
    lit_biqa export runs/first --to onnx --out small.onnx --weights int8

Scores are compared with the scorer's before the file is kept. A JSON file beside it, such as
scorer.onnx.json, says what goes in and what comes out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lit_biqa.cli.errors import guard
from lit_biqa.export.writing import check_target, description_of, export_scorer
from lit_biqa.scoring.scorer import load_scorer


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; the exit status is 2 for bad input."""
    options = _parser().parse_args(arguments)
    return guard(lambda: _export(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lit_biqa export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scorer", type=Path, help="scorer file, or the folder of its run")
    parser.add_argument("--to", choices=("onnx", "torch"), required=True, help="kind of program")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="new file")
    parser.add_argument(
        "--input",
        choices=("pixels", "images"),
        default="pixels",
        help="pixels: float32, transformed as the JSON file says (default); "
        "images: uint8 of any size, which the program itself scales and crops",
    )
    parser.add_argument(
        "--weights",
        choices=("float32", "int8"),
        default="float32",
        help="int8: a smaller file, and scores that differ slightly (onnx alone)",
    )
    return parser


def _export(options: argparse.Namespace) -> None:
    check_target(options.out, options.to, options.weights)
    scorer = load_scorer(options.scorer)
    description = export_scorer(scorer, options.out, options.to, options.input, options.weights)
    size = options.out.stat().st_size / 1e6
    print(f"program: {options.out}, {size:.1f} MB")
    print(f"description: {description_of(options.out)}")
    print(f"largest difference from the scorer: {description['largest_difference']:.2g}")
