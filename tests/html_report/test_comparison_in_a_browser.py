"""The report of a comparison in a real browser: pairs under the pointer, filters, both texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from made_runs import chromium, opened, write_images, write_run
from playwright.sync_api import Page
from test_browser import choose, points

from lit_biqa.cli import compare
from lit_biqa.types import TextPrediction

NAMES = [f"<b>{number}.png" for number in range(8)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Three runs; `second` is far from `first` on image 5, `third` on image 2."""
    folder = tmp_path_factory.mktemp("compared")
    write_images(folder / "images", NAMES)
    first = [
        TextPrediction("csiq", "all@1", i, name, 1.5 + 0.4 * i, 1.4 + 0.4 * i, text=f"first {i}")
        for i, name in enumerate(NAMES)
    ]
    others = {"first": (-1, 0.0), "second": (5, -2.0), "third": (2, 1.5)}
    for name, (index, apart) in others.items():
        rows = [
            replace(row, score=row.score + apart * (row.index == index), text=f"{name} {row.index}")
            for row in first
        ]
        write_run(folder / name, rows, folder / "images")
    assert compare.main([*(str(folder / name) for name in others), "--resamples", "50"]) == 0
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(60_000)
        assert opened(page, folder / "report.html") == []
        yield page


def test_the_largest_disagreement_is_first_with_both_texts(page: Page) -> None:
    choose(page, "run", "second")
    shown = page.locator(".example:visible").first
    assert NAMES[5] in shown.inner_text()
    assert "first: 3.40" in shown.inner_text() and "second: 1.40" in shown.inner_text()
    text = shown.text_content() or ""
    assert "first 5" in text and "second 5" in text
    choose(page, "run", "third")
    assert NAMES[2] in page.locator(".example:visible").first.inner_text()


def test_the_filter_of_runs_chooses_points(page: Page) -> None:
    choose(page, "run", "")
    assert len(points(page, "disagreement")) == 2 * len(NAMES)
    choose(page, "run", "second")
    assert len(points(page, "disagreement")) == len(NAMES)


def test_the_pointer_shows_the_image_of_the_pair(page: Page) -> None:
    choose(page, "run", "second")
    page.locator("#chart-disagreement").scroll_into_view_if_needed()
    (point,) = [each for each in points(page, "disagreement") if each["name"] == NAMES[5]]
    page.mouse.move(float(str(point["x"])), float(str(point["y"])))
    page.wait_for_selector(f"#vg-tooltip-element.visible:has-text('{NAMES[5]}')")
    assert page.locator("#vg-tooltip-element img").count() == 1


def test_it_fits_a_narrow_screen(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 400
