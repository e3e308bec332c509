"""Start-up: what commands take until they have done something small, beside a bare import.

Each side is a process of its own, and both run by turns, so that other load meets both. Wall time
counts: it is what a person waits for.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench_meters import by_turns, over
from bench_rows import Row
from PIL import Image

from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import write_scorer

ROOT = Path(__file__).resolve().parents[2]


def measure(small: bool) -> Iterator[Row]:
    """Rows of start-up.

    Args:
        small: one turn of each, to see that it runs.
    """
    turns = 1 if small else 9
    with tempfile.TemporaryDirectory() as made:
        photo, scorer = Path(made) / "photo.jpg", Path(made) / "scorer.safetensors"
        Image.effect_noise((512, 384), 60).save(photo)
        write_quickstart_like(scorer)
        score = command("score", str(photo), "--scorer", str(scorer))
        yield against("score one picture over import torch", score, "import torch", turns, 2)
    recipe = str(ROOT / "configs" / "quickstart.yaml")
    wrong = command("fit", "--config", recipe, "--data.batch_sise", "8", status=2)
    what = "fit with a wrong setting over import lightning.pytorch.cli"
    # lit_biqa alone imports nothing; it mends a torchvision that does not fit its torch.
    yield against(what, wrong, "import lit_biqa, lightning.pytorch.cli", turns, 1.15)
    seconds = [command("--help")() for _ in range(turns)]
    yield Row("--help", statistics.median(seconds), "s")


def against(what: str, work: Callable[[], float], code: str, turns: int, limit: float) -> Row:
    """The median ratio of a command to a bare import, after one run of each that fills caches."""
    sides: list[Callable[[], float]] = [work, partial(run, [sys.executable, "-c", code], 0)]
    by_turns(sides, 1)
    return Row(what, over(*by_turns(sides, turns)), "", limit)


def command(*arguments: str, status: int = 0) -> Callable[[], float]:
    """Wall time of a command of lit_biqa, to be called."""
    return partial(run, [sys.executable, "-m", "lit_biqa", *arguments], status)


def run(words: Sequence[str], status: int) -> float:
    """Seconds that a process took.

    Raises:
        RuntimeError: if it ended with another status; shows what it printed.
    """
    began = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    seconds = time.perf_counter() - began
    if done.returncode != status:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return seconds


def write_quickstart_like(path: Path) -> None:
    """A scorer as large as the quickstart's, with random weights."""
    encoder = TinyClip(dim=64, size=128)
    encoder.load()
    head = PrototypeHead(encoder.dim, HeadSettings(pca=32, prototypes=100, buckets=80))
    write_scorer(path, encoder.image_tower.state_dict(), head, encoder.settings())
