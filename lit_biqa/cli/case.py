"""Put one image through several models, side by side.

    lit_biqa case photo.jpg --models runs/score runs/rali published/q_insight --out cases/photo
    lit_biqa case photo.jpg --models runs/score --reference notes.txt --mos 2.4 --out cases/photo

A model is a run folder, a scorer file, or a configuration (file or recipe name) whose weights are
those of its settings. A model that writes is asked by its first readout that sees the image, or by
the one of --condition. The folder gets case.md with the image, case.csv and case.png.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from lit_biqa.analysis.case import Case, answered, batch_of, case_figure, level_word, write_cases
from lit_biqa.analysis.figures import save
from lit_biqa.cli.errors import guard
from lit_biqa.cli.restore import restored_reader
from lit_biqa.scoring.inputs import open_picture
from lit_biqa.scoring.scorer import load_scorer, usable_device
from lit_biqa.scoring.scorer_file import SCORER
from lit_biqa.types import InputError, check_range


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the case; the exit status is 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa case",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("image", type=Path)
    add("--models", nargs="+", required=True, metavar="MODEL", help="runs, scorers, configurations")
    add("--condition", help="readout to ask, of every model that has it; default: the first")
    add("--reference", nargs="+", default=[], help="texts about the image, or files with one")
    add("--mos", type=float, default=math.nan, help="mean opinion score on [1, 5], to show")
    add("--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(arguments)
    return guard(lambda: _case(options))


def _case(options: argparse.Namespace) -> None:
    if (options.out / "case.csv").exists():
        raise InputError(f"{options.out} holds a case and is not replaced: name another --out")
    check_range("--mos", options.mos if math.isfinite(options.mos) else None, 1, 5)
    image = open_picture(options.image)
    references = [_text(given) for given in options.reference]
    cases = []
    for name in options.models:
        if (file := _scorer(name)) is not None:
            cases.append(_scored(name, file, image))
        else:
            cases.append(_asked(name, options, image, references))
    known = f", MOS {options.mos:.2f}" if math.isfinite(options.mos) else ""
    title = f"{options.image.name}{known}"
    write_cases(options.out, image, title, cases, references)
    save(case_figure(image, title, cases), options.out / "case.png")
    for case in cases:
        print(f"{case.model}: {case.headline}")
    print(f"written to {options.out}")


def _text(given: str) -> str:
    """A reference: the text itself, or the content of a file."""
    try:
        is_file = Path(given).is_file()
    except OSError:  # longer than a name may be
        is_file = False
    try:
        return Path(given).read_text(encoding="utf-8").strip() if is_file else given
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--reference {given}: no text can be read: {error}") from error


def _scorer(name: str) -> Path | None:
    """Scorer file of a model; ``None`` for a model that writes."""
    path = Path(name)
    if path.suffix == ".safetensors":
        return path
    return path / SCORER if (path / SCORER).is_file() else None


def _scored(name: str, file: Path, image: Image.Image) -> Case:
    score = float(load_scorer(file, None)(image))
    return Case(Path(name).name, "image", score, level_word(score))


def _asked(
    name: str, options: argparse.Namespace, image: Image.Image, references: Sequence[str]
) -> Case:
    model, readout, condition = restored_reader(name, options.condition)
    model.to(usable_device(None))
    batch = batch_of(model.image_transform(image), options.image, options.mos)
    with torch.no_grad():
        return answered(Path(name).name, model, readout, condition, batch, references)
