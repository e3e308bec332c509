r"""Write the weights of one model with a part of another.

    lit_biqa swap runs/score_koniq Qwen2.5-VL-7B-Instruct --part vision --out swapped
    lit_biqa swap A B --part vision bridge --out swapped
    lit_biqa test --config runs/score_koniq/config.yaml --ckpt_path none --run runs/swapped \
        --model.backbone.pretrained swapped

A and B are folders of weights, or run folders that hold weights/; a model of the hub is downloaded
first. The new folder is A with the parts of B: vision is the image tower; bridge is the merger,
abstractor or projection after it; language is the decoder. Both are of one family and size.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from lit_biqa.backbones.swap import swap, weights_of
from lit_biqa.backbones.tuning import Part
from lit_biqa.cli.errors import guard
from lit_biqa.types import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder; the exit status is 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa swap",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", type=Path, metavar="A", help="gives everything but the parts")
    parser.add_argument("donor", type=Path, metavar="B", help="gives the parts")
    parser.add_argument(
        "--part", nargs="+", choices=get_args(Part), required=True, help="parts to take from B"
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder of weights")
    options = parser.parse_args(arguments)
    return guard(lambda: _swap(options.base, options.donor, options.part, options.out))


def _swap(base: Path, donor: Path, parts: Sequence[Part], out: Path) -> None:
    if out.exists():
        raise InputError(f"{out} exists and is not replaced: name another folder with --out")
    if set(parts) == set(get_args(Part)):
        raise InputError(
            f"--part {' '.join(parts)}: that is all of {donor}: leave a part to {base}"
        )
    count, changed = swap(weights_of(base), weights_of(donor), parts, out)
    print(f"{out}: {base} with {' and '.join(parts)} of {donor}")
    print(f"{count} tensors of the part, {changed} of which differ")
