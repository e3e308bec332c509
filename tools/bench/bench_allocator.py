"""Image features with freed memory kept for the next block, and with it given back to the system.

The allocator's settings hold for a whole process, so that each side is one of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from bench_meters import by_turns, over, timed
from bench_rows import Row

from lit_biqa.backbones.stage_tower import create_network, run_stages
from lit_biqa.backbones.timm_folder import read_settings
from lit_biqa.compat.glibc import keep_freed_memory

KEPT, GIVEN_BACK = "kept", "given back"


def measure(network: Path, side: int, images: int, turns: int) -> Iterator[Row]:
    """How much faster an image network of a folder in timm's form is with freed memory kept.

    Args:
        network: the folder.
        side: of the square images.
        images: read one after another in each turn.
        turns: of each side.
    """
    sides: list[Callable[[], float]] = [
        partial(in_process, how, network, side, images) for how in (GIVEN_BACK, KEPT)
    ]
    given_back, kept = by_turns(sides, turns)
    what = f"{network.name}, float32, images of {side} x {side} one by one: freed memory kept"
    yield Row(f"{what} over given back", over(given_back, kept), "")


def in_process(how: str, network: Path, side: int, images: int) -> float:
    """Seconds of processor time in a process of its own."""
    words = [sys.executable, __file__, how, str(network), str(side), str(images)]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return float(told.splitlines()[-1])


def main(how: str, network: str, side: str, images: str) -> None:
    """Print the seconds that the features of made-up images take."""
    if how == KEPT:
        keep_freed_memory()
    torch.set_num_threads(1)
    folder = Path(network)
    tower = create_network(read_settings(folder)["architecture"], network)
    pixels = torch.randn(1, 3, int(side), int(side))

    def read() -> None:
        for _ in range(int(images)):
            run_stages(tower, pixels, "float32")

    with torch.inference_mode():
        run_stages(tower, pixels, "float32")
        print(timed(read))


if __name__ == "__main__":
    main(*sys.argv[1:])
