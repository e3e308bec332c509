"""Run each recipe of ``configs/reproduce`` at a small size on real images.

``python tools/reproduce/small.py --root data --out runs/small`` takes the commands in the head of
each recipe, with the settings of `overlay.small` laid over them: weights at random, two steps, a
few images of AGIQA-3K and LIVE-W in the place of all data sets. It shows that each command of
docs/reproduce.md runs to its end on real images and writes the conditions that its table compares.
No number of it is a finding. A recipe is run after the ones whose weights it starts from.

The folder has a run per recipe, the log of its commands, and the tables ``small.csv`` and
``small.md``. The status is the number of recipes that failed, at most 100.
"""

from __future__ import annotations

import argparse
import math
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import IO, Any

import inputs
import overlay
import yaml

from lit_biqa.cli.config_files import merge_files
from lit_biqa.evaluation.report import write_csv
from lit_biqa.evaluation.store import read_predictions
from lit_biqa.runs import recipes

_PREFIX = "reproduce/"
#: A training that no row of a table has, and that a recipe starts from.
_STAGES = {"describe": "sft/describe"}
_LIMIT = 900  # seconds of a command


@dataclass(frozen=True)
class Row:
    """Outcome of one recipe.

    Attributes:
        paper: paper whose table has it.
        recipe: its name.
        commands: ``fit`` or ``test``; ``swap, test`` where weights are swapped first.
        model: class of the method, and that of its backbone.
        images: images tested.
        conditions: names of the conditions in predictions.csv.
        numbers: predictions that are numbers, of all. Answers of 16 tokens have none.
        seconds: of its commands together.
        status: ``ok``, or the last line that the failed command printed.
    """

    paper: str
    recipe: str
    commands: str
    model: str
    images: int
    conditions: str
    numbers: str
    seconds: int
    status: str


def main() -> None:
    """Run the recipes that ``--only`` names, or all, and write both tables."""
    text, layout = __doc__ or "", argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=text, formatter_class=layout)
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="new folder to write to")
    parser.add_argument("--only", nargs="*", default=(), help="parts of names of recipes")
    args = parser.parse_args()
    root, out = args.root.resolve(), args.out.resolve()
    inputs.write(out / "inputs", root)
    rows = []
    for paper, name in in_order(args.only):
        rows.append(run(paper, name, out, root))
        write_tables(out, rows)
        print(f"{paper}/{rows[-1].recipe}: {rows[-1].status}, {rows[-1].seconds} s", flush=True)
    sys.exit(min(sum(row.status != "ok" for row in rows), 100))


def in_order(wanted: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Paper and name of each recipe whose name holds any of these, after those it starts from."""
    found: list[tuple[str, str]] = []
    for name in recipes.names():
        if name.startswith(_PREFIX) and (not wanted or any(part in name for part in wanted)):
            _add(name.split("/")[1], name, found)
    return found


def _add(paper: str, name: str, found: list[tuple[str, str]]) -> None:
    if (paper, name) in found:
        return
    for run in re.findall(r"\bruns/(\w+)", f"{_pretrained(name)} {_told(name, 'swap')}"):
        _add(paper, _STAGES.get(run, f"{_PREFIX}{paper}/{run}"), found)
    found.append((paper, name))


def _settings(name: str) -> dict[str, Any]:
    return merge_files([recipes.find(name)], [])


def _pretrained(name: str) -> str:
    backbone = _settings(name)["model"].get("init_args", {}).get("backbone", {})
    return str(backbone.get("init_args", {}).get("pretrained", ""))


def _told(name: str, *verbs: str) -> list[list[str]]:
    """Arguments of a recipe's head's commands of these verbs, such as ``swap``."""
    lines = recipes.read(name).header.replace("\\\n", " ").splitlines()
    split = (line.split() for line in lines)
    return [
        shlex.split(line)[1:]
        for line, words in zip(lines, split, strict=True)
        if words[:1] == ["lit_biqa"] and words[1] in verbs
    ]


def run(paper: str, name: str, out: Path, root: Path) -> Row:
    """Run the commands of a recipe in the folder of its paper."""
    folder, short = out / paper, name.rpartition("/")[2]
    folder.mkdir(exist_ok=True)
    qwen = folder / "Qwen2.5-VL-7B-Instruct"
    if not qwen.exists():
        qwen.symlink_to(out / "inputs" / "qwen_to_swap")
    laid_over = overlay.small(_settings(name), out / "inputs", root)
    over = folder / f"{short}.yaml"
    over.write_text(yaml.safe_dump(laid_over))
    commands = [*_told(name, "swap"), _command(name, over)]
    begun, status = time.monotonic(), "ok"
    with (folder / f"{short}.log").open("w") as log:
        for command in commands:
            status = run_command(command, folder, log) if status == "ok" else status
    seconds = round(time.monotonic() - begun)
    verbs = ", ".join(command[0] for command in commands)
    tested = _tested(folder / "runs" / short / "test" / "predictions.csv")
    return Row(paper, short, verbs, _model(laid_over["model"]), *tested, seconds, status)


def _command(name: str, over: Path) -> list[str]:
    """The command of a recipe's head that makes its run, with settings laid over the recipe."""
    told = next(words for words in _told(name, "fit", "test") if name in words)
    start = ["--ckpt_path", "none"] if "--ckpt_path" in told else []
    target = f"runs/{name.rpartition('/')[2]}"
    return [told[0], "--config", name, "--config", str(over), *start, "--run", target]


def run_command(arguments: Sequence[str], folder: Path, log: IO[str]) -> str:
    """``ok``, or why the command failed."""
    log.write(f"$ lit_biqa {shlex.join(arguments)}\n")
    log.flush()
    command = [sys.executable, "-m", "lit_biqa", *arguments]
    try:
        subprocess.run(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, timeout=_LIMIT, check=True
        )
    except subprocess.TimeoutExpired:
        return f"longer than {_LIMIT} s"
    except subprocess.CalledProcessError as error:
        lines = Path(log.name).read_text().strip().splitlines()
        return f"status {error.returncode}: {lines[-1]}"
    return "ok"


def _model(model: dict[str, Any]) -> str:
    init = model.get("init_args", {})
    inner = init.get("backbone") or init.get("encoder") or {}
    named = [each["class_path"].rpartition(".")[2] for each in (model, inner) if each]
    return ", ".join(named)


def _tested(predictions: Path) -> tuple[int, str, str]:
    """Images, conditions, and how many predictions are numbers, of a file of predictions."""
    if not predictions.exists():
        return 0, "", ""
    rows = read_predictions(predictions)
    images = {(row["dataset"], row["name"]) for row in rows}
    conditions = dict.fromkeys(row["condition"] for row in rows)
    numbers = sum(math.isfinite(float(row["score"])) for row in rows)
    return len(images), ", ".join(conditions), f"{numbers} of {len(rows)}"


def write_tables(out: Path, rows: Sequence[Row]) -> None:
    """Write ``small.csv``, a line per recipe, and ``small.md``, a line per kind of run."""
    names = [field.name for field in fields(Row)]
    write_csv(out / "small.csv", names, [astuple(row) for row in rows])
    lines = [
        "| recipes | commands | classes | images | conditions | seconds each |",
        "|" + 6 * "---|",
    ]
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = (row.paper, row.commands, row.model, row.conditions, row.status)
        alike.setdefault(key, []).append(row)
    (out / "small.md").write_text("\n".join([*lines, *map(_line, alike.values())]) + "\n")


def _line(rows: Sequence[Row]) -> str:
    """Line of recipes that differ in nothing but their names, images and seconds."""
    first = rows[0]
    named = ", ".join(f"`{row.recipe}`" for row in rows)
    cells = [f"{first.paper}: {named}", first.commands, first.model]
    cells += [_range([row.images for row in rows]), first.conditions or "none"]
    cells += [_range([row.seconds for row in rows])]
    if first.status != "ok":
        cells[-1] += f" (failed: {first.status})"
    return f"| {' | '.join(cells)} |"


def _range(numbers: Sequence[int]) -> str:
    """``[7, 9, 8]`` -> ``7 to 9``."""
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"


if __name__ == "__main__":
    main()
