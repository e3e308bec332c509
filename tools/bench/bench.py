"""Measure speed against its limits, in one run, and print it as one table.

    python tools/bench/bench.py rali
    python tools/bench/bench.py rali --images FOLDER --csv rali.csv
    python tools/bench/bench.py sft
    python tools/bench/bench.py grpo
    python tools/bench/bench.py prefix
    python tools/bench/bench.py pretrained
    python tools/bench/bench.py sharding
    python tools/bench/bench.py startup
    python tools/bench/bench.py plan
    python tools/bench/bench.py export
    python tools/bench/bench.py export --scorer runs/first
    python tools/bench/bench.py report
    python tools/bench/bench.py serve --scorer runs/first

The exit status is 1 if a figure is beyond its limit. Other load on the machine shows in all
seconds and images per second; ratios are taken so that it shows in them least.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench_rows import COLUMNS, Row, drawn, machine

from lit_biqa.evaluation.report import write_csv
from lit_biqa.evaluation.tables import rendered
from lit_biqa.progress import track
from lit_biqa.types import InputError


def rali(given: argparse.Namespace) -> Iterator[Row]:
    """Rows of RALI."""
    from bench_rali import measure

    return measure(given.small, given.images)


def sft(given: argparse.Namespace) -> Iterator[Row]:
    """Rows of supervised fine-tuning."""
    from bench_sft import measure

    return measure(given.small)


def grpo(given: argparse.Namespace) -> Iterator[Row]:
    """Rows of group-relative policy optimisation."""
    from bench_grpo import measure

    return measure(given.small)


def prefix(given: argparse.Namespace) -> Iterator[Row]:
    """Rows of completions that share a prompt."""
    from bench_prefix import measure

    return measure(given.small)


def pretrained(given: argparse.Namespace) -> Iterator[Row]:
    """Rows of pretrained weights."""
    from bench_pretrained import measure

    return measure(given.small)


def sharding(given: argparse.Namespace) -> Iterator[Row]:
    """Rows of sharded training."""
    from bench_sharding import measure

    return measure(given.small)


def startup(given: argparse.Namespace) -> Iterator[Row]:
    """Rows of start-up."""
    from bench_startup import measure

    return measure(given.small)


def plan(given: argparse.Namespace) -> Iterator[Row]:
    """Rows of planned memory."""
    from bench_plan import measure

    return measure(given.small)


def export(given: argparse.Namespace) -> Iterator[Row]:
    """Rows of exported scorers."""
    from bench_export import measure

    return measure(given.small, given.scorer)


def report(given: argparse.Namespace) -> Iterator[Row]:
    """Rows of a report in a browser."""
    from bench_report import measure

    return measure(given.small)


def serve(given: argparse.Namespace) -> Iterator[Row]:
    """Rows of a server under load."""
    from bench_serve import measure

    return measure(given.small, given.scorer)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit status is 1 if a figure is beyond its limit, 2 for bad input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("rali", help="scoring, reading files, fitting the head")
    command.set_defaults(measure=rali)
    command.add_argument("--images", type=Path, help="folder of images to read; else made")
    tuning = commands.add_parser("sft", help="training against the Trainer, the two-pass test")
    tuning.set_defaults(measure=sft)
    policy = commands.add_parser("grpo", help="a step against TRL, answers against generate")
    policy.set_defaults(measure=grpo)
    grouped = commands.add_parser("prefix", help="a shared prompt against prefix-grouper, and none")
    grouped.set_defaults(measure=prefix)
    packaged = commands.add_parser("pretrained", help="pretrained weights: images, steps, TRL")
    packaged.set_defaults(measure=pretrained)
    shared = commands.add_parser("sharding", help="bytes that two processes exchange in a step")
    shared.set_defaults(measure=sharding)
    start = commands.add_parser("startup", help="commands against bare imports")
    start.set_defaults(measure=startup)
    planned = commands.add_parser("plan", help="planned memory against live tensors of fits")
    planned.set_defaults(measure=plan)
    elsewhere = commands.add_parser("export", help="scorers in torch and in onnxruntime")
    elsewhere.set_defaults(measure=export)
    elsewhere.add_argument("--scorer", type=Path, help="tested run: accuracy in place of speed")
    seen = commands.add_parser("report", help="a report of 10,000 images, opened in a browser")
    seen.set_defaults(measure=report)
    loaded = commands.add_parser("serve", help="a server asked by 32 clients at once")
    loaded.set_defaults(measure=serve)
    loaded.add_argument("--scorer", type=Path, help="scorer file or run; else of random weights")
    for each in commands.choices.values():
        each.add_argument("--small", action="store_true", help="very little, to see that it runs")
        each.add_argument("--csv", type=Path, help="file to write the table to")
    given = parser.parse_args(arguments)
    try:
        rows = list(track(given.measure(given), "measuring", unit="figures"))
        if given.csv:
            write_csv(given.csv, COLUMNS, [row.values() for row in rows])
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(rendered(drawn(rows, machine())))
    return int(any(row.verdict in ("over", "under") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
