"""Last lines of a command: files written, time taken, and next command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import filter as matching
from pathlib import Path

from lit_biqa.html_report import REPORT
from lit_biqa.progress import clock

_TESTED = {
    "test/results.csv": "correlations with MOS",
    "test/predictions.csv": "score of each tested image",
    "test/rouge.csv": "words in common with the texts of the data",
    "test/*.png": "scatter of each data set",
    REPORT: "all of it to look at, with the images; opens in a browser",
}
#: Files that each subcommand may write, in the order of printing.
WRITTEN = {
    "fit": {
        "scorer.safetensors": "the scorer: one file that scores images",
        "weights": "the trained model: a folder that another run can start from",
        "checkpoints/best.ckpt": "weights of the best validation",
        "checkpoints/last.ckpt": "last state of the training, to resume from",
        **_TESTED,
        "events.out.tfevents.*": "curves, for TensorBoard",
    },
    "validate": {},
    "test": _TESTED,
    "predict": {
        "predictions.csv": "score of each image",
        REPORT: "the same to look at, with the images; opens in a browser",
    },
}


@dataclass(frozen=True)
class Ending:
    """Outcome of a command.

    Attributes:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        run: run folder.
        seconds: wall time of the whole command.
        files: files in the folder, as paths below it.
        verdict: reason why nothing was learned; empty otherwise.
    """

    command: str
    run: Path
    seconds: float
    files: Sequence[str]
    verdict: str = ""

    @property
    def written(self) -> dict[str, str]:
        """Files of the command, or patterns of them, with their content in words."""
        told = WRITTEN[self.command].items()
        return {name: what for name, what in told if matching(self.files, name)}


def closing(ending: Ending) -> list[str]:
    """Lines to print at the end of a command.

    Example:
        >>> print(*closing(Ending("predict", Path("a"), 61, ["predictions.csv"])), sep=chr(10))
        predict took 1:01 in all and wrote to a:
          predictions.csv  score of each image
        Next:
          lit_biqa test --run a --data.test '[NAME]'  # `lit_biqa list datasets`
    """
    written, took = ending.written, f"{ending.command} took {clock(ending.seconds)} in all"
    lines = [f"{took} and wrote to {shown(ending.run)}:" if written else f"{took}."]
    width = max(map(len, written), default=0)
    lines += [f"  {name:<{width}}  {what}" for name, what in written.items()]
    lines += [ending.verdict] * bool(ending.verdict)
    return [*lines, "Next:", *(f"  {command}" for command in _next(ending))]


def shown(run: Path) -> str:
    """Folder as one types it: relative to the working directory if it is below."""
    here = Path.cwd()
    return shlex.quote(str(run.relative_to(here) if run.is_relative_to(here) else run))


def _next(ending: Ending) -> Iterator[str]:
    run, parent = shown(ending.run), shown(ending.run.parent)
    if ending.verdict:
        yield f"tensorboard --logdir {run}"
    elif ending.command == "test":
        yield f"lit_biqa compare {parent}/*"
    elif ending.command == "validate":
        yield f"lit_biqa test --run {run}"
    elif "weights" in ending.written and "test/results.csv" not in ending.written:
        start = f"--model.init_args.backbone.init_args.pretrained {run}/weights"
        yield f"lit_biqa fit --config RECIPE {start}"
    else:
        yield f"lit_biqa test --run {run} --data.test '[NAME]'  # `lit_biqa list datasets`"
    if "scorer.safetensors" in ending.written:
        yield f"lit_biqa score photos/ --scorer {run}"
    if ending.command == "fit" and not ending.verdict:
        yield f"tensorboard --logdir {parent}"


def files_in(run: Path) -> list[str]:
    """Files in a run folder and in its sub-folders, one level deep, as paths below it."""
    return [os.path.relpath(path, run) for level in ("*", "*/*") for path in run.glob(level)]
