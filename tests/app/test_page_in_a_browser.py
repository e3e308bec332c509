"""The page in a browser: pictures are dropped, scored, distorted, sorted and downloaded."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_pages import picture_bytes, tiny_scorer

CHROMIUM = shutil.which("chromium")

pytest.importorskip("gradio", reason="the page needs the extra serve")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

PATIENCE = 120_000  # milliseconds; on a busy machine a sound page has taken a minute


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a scorer, a folder ``temporary`` for the server, and pictures."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "temporary").mkdir()
    tiny_scorer(folder)
    (folder / "one.png").write_bytes(picture_bytes(0))
    (folder / "broken.jpg").write_bytes(picture_bytes(0)[:200])
    (folder / "many").mkdir()
    for number in range(50):
        (folder / "many" / f"{number:02}.png").write_bytes(picture_bytes(number))
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Address of a server in a process of its own."""
    command = [sys.executable, "-m", "lit_biqa", "serve", "--scorer", str(folder), "--port", "0"]
    environment = os.environ | {"TMPDIR": str(folder / "temporary")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield line.partition(": ")[2].split()[0]
        process.terminate()
        assert process.wait(60) == 143
    assert list((folder / "temporary").iterdir()) == []


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    """The page, which has asked no other server."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(PATIENCE)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#pictures input[type=file]", state="attached")
        yield page
        assert failures == []
        own = (address, "data:", "blob:")
        assert [url for url in asked if not url.startswith(own)] == []
        browser.close()


def drop(page: Any, said: str, *files: Path) -> str:
    """Drop files on the page, and wait for its line; returns all of its lines."""
    page.set_input_files("#pictures input[type=file]", [str(file) for file in files])
    page.wait_for_selector(f"#said p:has-text('{said}')")
    return str(page.inner_text("#said"))


def kept(folder: Path) -> list[Path]:
    return [path for path in (folder / "temporary").rglob("*") if path.is_file()]


def test_one_picture_is_scored_and_distorted(page: Any, folder: Path) -> None:
    from lit_biqa.scoring.scorer import load_scorer

    drop(page, "1 of 1 scored", folder / "one.png")
    alone = load_scorer(folder)(folder / "one.png").item()
    assert page.inner_text("#details .score") == f"{alone:.2f}"
    assert page.locator("#details table tr").count() == 6  # five prototypes and the heading
    page.wait_for_selector(".variants figure:visible")
    shown = page.locator(".variants figure:visible")
    assert shown.count() == 1
    assert "undistorted" in shown.inner_text()
    page.fill("#level input[type=number]", "4")
    page.keyboard.press("Tab")
    page.wait_for_selector(".variants figure[data-level='4']:visible")
    assert "blur, level 4" in shown.inner_text()
    page.locator("#distortions label", has_text="JPEG").click()
    page.wait_for_selector(".variants figure[data-kind='jpeg'][data-level='4']:visible")
    assert shown.count() == 1
    assert kept(folder) == []


def test_a_broken_picture_has_its_line(page: Any, folder: Path) -> None:
    said = drop(page, "1 of 2 scored", folder / "broken.jpg", folder / "one.png")
    assert "not scored: broken.jpg: " in said
    assert not page.locator("#distortions").is_visible()
    assert kept(folder) == []


def test_a_folder_is_scored_sorted_and_downloaded(page: Any, folder: Path) -> None:
    page.set_input_files("input[webkitdirectory]", str(folder / "many"))
    page.wait_for_selector("#said p:has-text('50 of 50 scored')")
    assert kept(folder) == []
    with page.expect_download() as download:
        page.click("#download")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(), newline="")))
    assert [Path(row["picture"]).name for row in rows] == [f"{n:02}.png" for n in range(50)]
    page.hover("[data-testid='header-1']")
    page.locator("[data-testid='header-1'] button").click()
    page.get_by_role("menuitem", name="Sort ascending").click()
    lowest = min(row["score"] for row in rows)
    first = page.locator("#table [role=row][aria-rowindex='2'] [data-col='1']")
    playwright.expect(first).to_have_text(lowest, timeout=PATIENCE)


def test_no_file_of_the_server_is_shown(page: Any) -> None:
    """Pictures are parts of the page: it asks for none that the server would have to keep."""
    paths = page.evaluate(
        "() => performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert [path for path in paths if "file=" in path] == []
