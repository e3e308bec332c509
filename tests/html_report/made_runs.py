"""Folders of tested runs, made without a model: plain colours as images, and scores at will."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from lit_biqa.evaluation import report, store
from lit_biqa.types import Prediction

CHROMIUM = Path("/usr/bin/chromium")
COLOURS = ((200, 30, 30), (30, 160, 30), (30, 30, 200), (200, 160, 20))
WEIGHTS = "0123456789ab"


def write_images(folder: Path, names: Sequence[str], size: tuple[int, int] = (64, 48)) -> None:
    """An image of one colour for each name, colours in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", size, COLOURS[number % len(COLOURS)]).save(folder / name, "PNG")


def write_run(run: Path, rows: Sequence[Prediction], images: Path | None = None) -> Path:
    """Files of a test: `results.csv`, `predictions.csv`, and `images.csv` if there are images."""
    cells = [store.cells_of(row, WEIGHTS) for row in rows]
    store.merge_predictions(run / "test" / "predictions.csv", cells, store.by_test)
    store.merge_results(run / "test" / "results.csv", report.evaluate(rows, 50, 0, WEIGHTS))
    if images is not None:
        places = {(row.dataset, row.split, str(row.index)): images / row.name for row in rows}
        lines = [
            dict(zip(store.IMAGE_COLUMNS, (*key, str(path)), strict=True))
            for key, path in places.items()
        ]
        store.merge_images(run / "test" / "images.csv", lines)
    (run / "config.yaml").write_text("seed_everything: 0\nmodel: {class_path: a.B}\n")
    return run


@contextmanager
def chromium() -> Iterator[Browser]:
    """An installed Chromium; the test is skipped where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(page: Page, file: Path) -> list[str]:
    """Open a report from disk, wait until it is drawn, and collect what it complains of."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if _leaves(request.url) else None)
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-drawn]")
    return said


def _leaves(url: str) -> bool:
    return not url.startswith(("file:", "data:"))
