"""Markdown tables of what `gpu.py` has measured, from its files alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_rows import Row

from lit_biqa.io.json_text import parse_json
from lit_biqa.types import InputError


@dataclass(frozen=True)
class Layout:
    """One table.

    Attributes:
        title: of it.
        parts: the part of each column, by the column's heading.
    """

    title: str
    parts: dict[str, str]


LAYOUTS = (
    Layout("RALI with CLIP ViT-L/14 at 336 pixels, bfloat16", {"measured": "rali"}),
    Layout("A step of GRPO of Qwen2.5-VL with LoRA, bfloat16", {"3B": "grpo-3b", "7B": "grpo-7b"}),
    Layout("Fine-tuning of mPLUG-Owl2 7B with LoRA, bfloat16", {"measured": "owl2"}),
    Layout(
        "RALI beside a Qwen2.5-VL 7B that reasons (figure 6 of Reasoning as Representation)",
        {"measured": "efficiency"},
    ),
)


@dataclass(frozen=True)
class Measured:
    """A file of `gpu.py`.

    Attributes:
        rows: by what they are of.
        where: the device, versions and settings, in words.
    """

    rows: dict[str, Row]
    where: str


def tables(folder: Path) -> str:
    """All tables; a part that has no file in the folder is told as not measured.

    Raises:
        InputError: if there is no such folder, or a file is broken.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: name the one that --out named")
    return "\n\n".join(table(layout, folder) for layout in LAYOUTS)


def table(layout: Layout, folder: Path) -> str:
    """One table under its title and what it was measured with."""
    found = {part: read(folder, part) for part in layout.parts.values()}
    there = {part: measured for part, measured in found.items() if measured is not None}
    whats = list(dict.fromkeys(what for part in there.values() for what in part.rows))
    lines = [f"### {layout.title}", ""]
    lines += [f"`python tools/bench/gpu.py {part}`: {of.where}\n" for part, of in there.items()]
    lines += [line("what", *layout.parts, "limit"), "|---" * (len(layout.parts) + 2) + "|"]
    if not whats:
        lines += [line("all figures", *(absent(part) for part in found), "")]
    for what in whats:
        rows = {part: of.rows.get(what) for part, of in there.items()}
        cells = [cell(rows[part]) if part in rows else absent(part) for part in found]
        lines += [line(what, *cells, next(row.cells()[3] for row in rows.values() if row))]
    return "\n".join(lines)


def line(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def absent(part: str) -> str:
    """What stands for figures of a part that was not run."""
    return f"not measured: `python tools/bench/gpu.py {part}`"


def cell(row: Row | None) -> str:
    """A figure with its unit, and whether it is beyond its limit, or why there is none."""
    if row is None:
        return "not measured"
    if row.figure is None:
        return row.verdict
    digits = ",.0f" if abs(row.figure) >= 100 else ".3g"
    shown = f"{row.figure:{digits}} {row.unit}".rstrip()
    return f"{shown} ({row.verdict})" if row.verdict in ("over", "under") else shown


def read(folder: Path, part: str) -> Measured | None:
    """File of a part; ``None`` if it was not run.

    Raises:
        InputError: if it is broken.
    """
    file = folder / f"{part}.json"
    if not file.exists():
        return None
    told = parse_json(file.read_text(encoding="utf-8"), str(file))
    try:
        rows = [Row(**row) for row in told["rows"]]
        return Measured({row.what: row for row in rows}, where(told))
    except (KeyError, TypeError) as error:
        raise InputError(f"{file} is no file of gpu.py: {error!r}; measure it again") from error


def where(told: dict[str, Any]) -> str:
    """Device, versions and settings in words."""
    cuda = f"CUDA {told['cuda']}" if told["cuda"] else ""
    versions = (f"{name} {number}" for name, number in told["versions"].items() if number)
    host = f"{told['host_memory_gib']:.3g} GiB of host memory at most"
    settings = ", ".join(f"{name} {value}" for name, value in flat(told["settings"]).items())
    size = "small, which is no result: " if told["small"] else ""
    of = ", ".join(part for part in (told["device"], cuda, *versions, host) if part)
    return f"{size}{of}. Settings: {settings}."


def flat(settings: dict[str, Any], before: str = "") -> dict[str, str]:
    """Settings by their whole names; lists as text."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = (
                "/".join(map(str, value)) if isinstance(value, list) else f"{value}"
            )
    return found
