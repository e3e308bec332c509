"""A report of many images: its size, and the time until Chromium has drawn it from disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lit_biqa  # noqa: F401  before lightning, as it mends torchvision

# isort: split

import numpy as np
from bench_rows import Row
from PIL import Image
from playwright.sync_api import sync_playwright

from lit_biqa.evaluation import report, store
from lit_biqa.html_report.run_report import write_report
from lit_biqa.types import Prediction

CHROMIUM = Path("/usr/bin/chromium")
_SIZE = (160, 120)  # pixels of the pictures
_FILES = 200  # different pictures; rows beyond them show one again
_LARGEST, _LONGEST = 30, 3.0  # MB and seconds of a report of 10,000 images


@dataclass(frozen=True)
class Opened:
    """Seconds from the order to open a page.

    Attributes:
        first: until its first chart is drawn.
        all: until all are.
    """

    first: float
    all: float


def measure(small: bool) -> Iterator[Row]:
    """Rows of a report's size and of its opening."""
    images = 100 if small else 10_000
    with tempfile.TemporaryDirectory() as name:
        run = tested(Path(name), images)
        began = time.perf_counter()
        file = write_report(run)
        drawn = time.perf_counter() - began
        size, seen = file.stat().st_size / 1e6, opened(file)
    yield Row(f"report of {images:,} images: drawing it", drawn, "s")
    yield Row(f"report of {images:,} images: size", size, "MB", _LARGEST)
    longest = None if small else _LONGEST
    yield Row(f"report of {images:,} images: first chart", seen.first, "s", longest)
    yield Row(f"report of {images:,} images: all charts", seen.all, "s")


def tested(folder: Path, images: int) -> Path:
    """Folder of a run that tested so many images."""
    random, run = np.random.default_rng(0), folder / "run"
    for number in range(min(_FILES, images)):
        # Smooth, as photographs are.
        noise = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        noise.resize(_SIZE, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    mos = random.uniform(1, 5, images)
    score = np.clip(mos + random.normal(0, 0.4, images), 1, 5)
    rows = [
        Prediction("koniq10k", "all@1", i, f"{i % _FILES}.png", *pair, group=f"phone {i % 12}")
        for i, pair in enumerate(zip(mos.tolist(), score.tolist(), strict=True))
    ]
    cells = [store.cells_of(row, "0" * 12) for row in rows]
    store.merge_predictions(run / "test" / "predictions.csv", cells, store.by_test)
    store.merge_results(run / "test" / "results.csv", report.evaluate(rows, 50, 0, "0" * 12))
    places = [(row.dataset, row.split, str(row.index), str(folder / row.name)) for row in rows]
    lines = [dict(zip(store.IMAGE_COLUMNS, place, strict=True)) for place in places]
    store.merge_images(run / "test" / "images.csv", lines)
    (run / "config.yaml").write_text("seed_everything: 0\nmodel: {class_path: a.B}\n")
    return run


def opened(file: Path) -> Opened:
    """Open a page in a new Chromium."""
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        began = time.perf_counter()
        page.goto(file.as_uri(), wait_until="commit")
        page.wait_for_selector("figure canvas", timeout=60_000)
        first = time.perf_counter() - began
        page.wait_for_selector("html[data-drawn]", timeout=60_000)
        everything = time.perf_counter() - began
        browser.close()
    return Opened(first, everything)
