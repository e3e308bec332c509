"""Reports in a real browser: no error, the right image under the pointer, filters, odd names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from made_runs import COLOURS, chromium, opened, write_images, write_run
from playwright.sync_api import Page

from lit_biqa.html_report.run_report import write_report
from lit_biqa.types import Prediction, TextPrediction

EVIL = '<script>document.title="run"<'  # a file name cannot hold the slash of a closing tag
NAMES = ["red.png", "green.png", "blue.png", EVIL, "e.png", "f.png"]
SAID = "A <b>photo</b>.<think></script><img src=x onerror=alert(1)></think><answer>3.5</answer>"


def rows() -> list[Prediction]:
    """Two data sets; one was also read from texts. Scores spread so that points lie apart."""
    csiq = [
        TextPrediction("csiq", "all@1", i, name, 1.5 + 0.6 * i, 1.2 + 0.6 * i, text=SAID)
        for i, name in enumerate(NAMES)
    ]
    csiq = [replace(row, group=f"g{row.index % 2}<i>") for row in csiq]
    texts = [replace(row, condition="text", score=row.score - 0.1, leak=True) for row in csiq]
    spaq = [Prediction("spaq", "all@1", i, f"s{i}.png", 2 + i, 4 - i / 2) for i in range(3)]
    failed = Prediction("spaq", "all@1", 3, "s3.png", 2.0, float("nan"), status="unreadable: s3")
    return [*csiq, *texts, *spaq, failed]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("reported")
    write_images(folder / "images", NAMES)
    run = write_run(folder / "run", rows(), folder / "images")
    file = write_report(run)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(60_000)
        said = opened(page, file)
        assert said == []
        yield page


def choose(page: Page, column: str, value: str) -> None:
    page.select_option(f"[data-filter={column}]", value)
    chosen = page.evaluate("[...document.querySelectorAll('[data-filter]')].map(e => e.value)")
    page.wait_for_selector(f"html[data-filtered={json.dumps('|'.join(chosen))}]")


def points(page: Page, chart: str = "scatter") -> list[dict[str, object]]:
    """Where the circles of a chart lie on the screen, with their rows."""
    found: list[dict[str, object]] = page.evaluate(
        """chart => {
            const place = document.getElementById(`chart-${chart}`), found = [];
            const visit = (item, x, y) => {
                if (item.marktype === "symbol") for (const each of item.items)
                    if (each.datum.name)
                        found.push({name: each.datum.name, x: x + each.x, y: y + each.y});
                for (const each of item.items ?? []) if (each.items) visit(each,
                    x + (each.marktype ? 0 : each.x ?? 0), y + (each.marktype ? 0 : each.y ?? 0));
            };
            const view = place.vegaView, [left, top] = view.origin(), padding = view.padding();
            const box = place.querySelector("canvas").getBoundingClientRect();
            visit(view.scenegraph().root, box.x + left + padding.left, box.y + top + padding.top);
            return found;
        }""",
        chart,
    )
    return found


def test_the_pointer_shows_the_image_of_the_point(page: Page) -> None:
    choose(page, "dataset", "csiq all@1")
    choose(page, "condition", "image")
    for number, name in enumerate(NAMES[:3]):
        page.locator("#chart-scatter").scroll_into_view_if_needed()
        (point,) = [each for each in points(page) if each["name"] == name]
        page.mouse.move(float(str(point["x"])), float(str(point["y"])))
        page.wait_for_selector(f"#vg-tooltip-element.visible:has-text('{name}')")
        seen = page.evaluate(
            """async () => {
                const image = document.querySelector("#vg-tooltip-element img");
                await image.decode();
                const canvas = document.createElement("canvas");
                canvas.getContext("2d").drawImage(image, 0, 0);
                return [...canvas.getContext("2d").getImageData(20, 20, 1, 1).data];
            }"""
        )
        assert seen[:3] == pytest.approx(COLOURS[number], abs=12)
        page.mouse.move(0, 0)


def test_filters_choose_points_and_examples(page: Page) -> None:
    choose(page, "group", "")
    choose(page, "condition", "")
    choose(page, "dataset", "")
    assert len(points(page)) == 6 + 6 + 3
    choose(page, "condition", "text")
    assert {each["name"] for each in points(page)} == set(NAMES)
    choose(page, "condition", "image")
    choose(page, "dataset", "spaq all@1")
    assert {each["name"] for each in points(page)} == {"s0.png", "s1.png", "s2.png"}
    shown = page.locator(".example:visible .name").all_inner_texts()
    assert shown
    assert all("spaq" in text for text in shown)
    choose(page, "dataset", "csiq all@1")
    choose(page, "group", "g1<i>")
    assert {each["name"] for each in points(page)} == set(NAMES[1::2])
    assert len(points(page, "gap")) == 3
    choose(page, "group", "")


def test_names_and_texts_do_nothing(page: Page) -> None:
    choose(page, "dataset", "")
    assert page.title() == "run"
    assert page.locator(f"text={EVIL}").count() > 0
    assert page.locator("b", has_text="photo").count() == 0
    assert page.evaluate("document.scripts.length") == page.evaluate(
        "document.querySelectorAll('body > script').length"
    )
    # Not even a script that came in as markup would run.
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), "
        "{textContent: 'document.title = 1'}))"
    )
    assert page.title() == "run"


def test_dark_narrow_and_printed(page: Page) -> None:
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    page.wait_for_selector("html[data-drawn=dark]")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 400
