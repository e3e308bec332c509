"""Measure real sizes on one GPU of 80 GB, with random weights, in parts of under ten minutes.

    python tools/bench/gpu.py rali --out gpu
    python tools/bench/gpu.py grpo-3b --out gpu
    python tools/bench/gpu.py grpo-7b --out gpu
    python tools/bench/gpu.py owl2 --out gpu
    python tools/bench/gpu.py efficiency --out gpu
    python tools/bench/gpu.py all --out gpu
    python tools/bench/gpu.py tables gpu

A part writes FOLDER/PART.json: rows, settings, the device and versions. ``all`` runs the parts that
have no such file yet, a process each. ``tables`` needs these files alone, and prints Markdown as in
docs/results.md. ``--small`` runs the same code at tiny sizes on the CPU. The exit status is 1 if a
figure is beyond its limit, and 2 without a CUDA device or for bad input. Weights of ``grpo-7b``
take 17 GB in the folder for temporary files (TMPDIR) while TRL reads them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import torch
from bench_meters import most_resident
from bench_rows import Row, drawn, machine
from gpu_tables import tables

from lit_biqa.evaluation.tables import rendered
from lit_biqa.io.files import replacing
from lit_biqa.progress import track
from lit_biqa.types import InputError

WITHOUT_CUDA = (
    "no CUDA device is here: run this where there is one, or with --small to see that it runs"
)
MINUTES = 10
LIBRARIES = ("torch", "transformers", "lightning", "peft", "trl")


class Plan(Protocol):
    """Sizes of a part, a dataclass."""

    def measure(self, device: torch.device, folder: Path) -> Iterator[Row]:
        """All rows, one by one.

        Args:
            device: that does the work.
            folder: where images, words and weights may be written.
        """


def rali(small: bool) -> Plan:
    """RALI with ViT-L/14 at 336 pixels."""
    import gpu_rali

    return gpu_rali.SMALL if small else gpu_rali.PLAN


def grpo_3b(small: bool) -> Plan:
    """GRPO of a Qwen2.5-VL 3B beside TRL's."""
    import gpu_grpo

    return gpu_grpo.SMALL if small else gpu_grpo.PLAN_3B


def grpo_7b(small: bool) -> Plan:
    """GRPO of a Qwen2.5-VL 7B beside TRL's."""
    import gpu_grpo

    return gpu_grpo.SMALL if small else gpu_grpo.PLAN_7B


def owl2(small: bool) -> Plan:
    """Supervised fine-tuning of mPLUG-Owl2 7B."""
    import gpu_owl2

    return gpu_owl2.SMALL if small else gpu_owl2.PLAN


def efficiency(small: bool) -> Plan:
    """RALI beside a Qwen2.5-VL 7B that reasons."""
    import gpu_efficiency

    return gpu_efficiency.SMALL if small else gpu_efficiency.PLAN


PARTS: dict[str, Callable[[bool], Plan]] = {
    "rali": rali,
    "grpo-3b": grpo_3b,
    "grpo-7b": grpo_7b,
    "owl2": owl2,
    "efficiency": efficiency,
}


def run_part(name: str, out: Path, small: bool, overwrite: bool) -> int:
    """Measure a part and write its file, whole or not at all.

    Returns:
        1 if a figure is beyond its limit.

    Raises:
        InputError: without a CUDA device, unless small, or if the file is there already.
    """
    if not small and not torch.cuda.is_available():
        raise InputError(WITHOUT_CUDA)
    file = out / f"{name}.json"
    if file.exists() and not overwrite:
        raise InputError(f"{file} is there already: give another --out, or --overwrite")
    out.mkdir(parents=True, exist_ok=True)
    plan, device = PARTS[name](small), torch.device("cpu" if small else "cuda")
    rows, seconds = measured(plan, device)
    rows.append(Row("whole part", seconds, "s", None if small else 60 * MINUTES))
    told = record(name, plan, small, rows)
    with replacing(file) as part:
        part.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print(rendered(drawn(rows, machine())))
    return int(any(row.verdict in ("over", "under") for row in rows))


def measured(plan: Plan, device: torch.device) -> tuple[list[Row], float]:
    """Rows of a plan, and seconds of all of it."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as made:
        rows = list(track(plan.measure(device, Path(made)), "measuring", unit="figures"))
    return rows, time.perf_counter() - start


def record(name: str, plan: Plan, small: bool, rows: Sequence[Row]) -> dict[str, Any]:
    """All that a file says."""
    settings: Any = plan
    return {
        "part": name,
        "small": small,
        "device": "CPU" if small else torch.cuda.get_device_name(),
        "cuda": None if small else torch.version.cuda,
        "versions": {library: installed(library) for library in LIBRARIES},
        "host_memory_gib": most_resident() / 2**30,
        "settings": dataclasses.asdict(settings),
        "rows": [dataclasses.asdict(row) for row in rows],
    }


def installed(library: str) -> str | None:
    """Version of a library; ``None`` if it is not there."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def run_all(out: Path, small: bool, overwrite: bool) -> int:
    """Run the parts that have no file yet, or all of them, a process each.

    Returns:
        The highest status of any.

    Raises:
        InputError: without a CUDA device, unless small.
    """
    if not small and not torch.cuda.is_available():
        raise InputError(WITHOUT_CUDA)
    options = ["--out", str(out), *["--small"] * small, *["--overwrite"] * overwrite]
    wanted = [name for name in PARTS if overwrite or not (out / f"{name}.json").exists()]
    status = 0
    for name in wanted:
        print(f"{name}:", flush=True)
        status = max(status, subprocess.run([sys.executable, __file__, name, *options]).returncode)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is as above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, plan in PARTS.items():
        commands.add_parser(name, help=plan.__doc__)
    commands.add_parser("all", help="all parts that have no file yet, a process each")
    for each in commands.choices.values():
        each.add_argument("--out", type=Path, required=True, help="folder of the files")
        each.add_argument("--small", action="store_true", help="tiny sizes on the CPU")
        each.add_argument("--overwrite", action="store_true", help="measure again")
    printed = commands.add_parser("tables", help="Markdown of the files")
    printed.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.command == "tables":
            print(tables(given.folder))
            return 0
        if given.command == "all":
            return run_all(given.out, given.small, given.overwrite)
        return run_part(given.command, given.out, given.small, given.overwrite)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    # TRL would share its rows among all devices that it sees.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    sys.exit(main())
