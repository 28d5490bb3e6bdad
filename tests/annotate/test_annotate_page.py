"""The annotator in a real browser: draw a box, see points, remove one, save, read the files back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lexivox.annotate.site import AnnotateSite
from lexivox.annotate.store import AnnotationStore
from lexivox.data.retrieval import read_retrieval
from lexivox.view.local import LocalServer

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser, dataset, tmp_path) -> Iterator[Any]:
    problems: list[str] = []
    with LocalServer(AnnotateSite(dataset, AnnotationStore(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        window = browser.new_context(viewport={"width": 1280, "height": 800})
        page = window.new_page()
        page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: problems.append(r.url) if not r.url.startswith((server.url, "data:")) else None)
        page.goto(server.url)
        page.locator("#strip button[aria-pressed=true]").wait_for()
        yield page
        window.close()
        server.shutdown()
    assert [text for text in problems if "GPU stall" not in text] == []


def at(page: Any, u: float, v: float) -> tuple[float, float]:
    """Where a pixel of the 100x80 image lies on the screen, while the whole image is shown."""
    box = page.locator("#photo").bounding_box()
    scale = min(box["width"] / 100, box["height"] / 80)
    left, top = box["x"] + (box["width"] - 100 * scale) / 2, box["y"] + (box["height"] - 80 * scale) / 2
    return left + u * scale, top + v * scale


def draw_box(page: Any, u0: float, v0: float, u1: float, v1: float) -> None:
    page.mouse.move(*at(page, u0, v0))
    page.mouse.down()
    page.mouse.move(*at(page, u1, v1), steps=4)
    page.mouse.up()


def lit(page: Any, count: int) -> None:
    page.locator("#count", has_text=str(count)).wait_for()
    assert page.inner_text("#count") == str(count)


def test_draw_remove_undo_save_and_go_on(page, tmp_path):
    draw_box(page, 45, 38, 52, 42)
    lit(page, 8)
    assert page.inner_text("#about-mask") == "8 of 14 points in the mask · cluster 1 of 2 · mask: the box itself"
    page.keyboard.press("c")
    lit(page, 6)  # the wall behind
    page.keyboard.press("c")
    lit(page, 8)
    page.keyboard.press("r")
    page.mouse.click(*at(page, 47, 39.5))  # y = 0.3, z = 0.05: row 7
    lit(page, 7)
    page.keyboard.press("z")
    lit(page, 8)
    page.keyboard.press("y")
    lit(page, 7)
    assert page.inner_text("#strip b") == "7"
    page.fill("#query", "fire <b>hydrant</b>")
    page.click("text=test")
    page.keyboard.press("q")
    page.keyboard.press("Enter")
    page.locator("#made li").wait_for()
    assert page.inner_text("#made li span") == "fire <b>hydrant</b>"
    lit(page, 0)
    (read,) = read_retrieval(tmp_path, "eval")
    assert (read.token, read.split, read.query) == ("k0", "test", "fire <b>hydrant</b>")
    assert read.mask.nonzero()[:, 0].tolist() == list(range(7))
    page.reload()
    page.click("#made li button")
    lit(page, 7)
    assert page.inner_text("#save") == "Save again"


def test_lasso_drafts_and_keyframes(page, tmp_path):
    page.keyboard.press("a")
    x, y = at(page, 20, 40)
    page.mouse.move(x - 20, y - 20)
    page.mouse.down()
    for step in ((20, -20), (20, 20), (-20, 20)):
        page.mouse.move(x + step[0], y + step[1], steps=3)
    page.mouse.up()
    lit(page, 1)
    page.keyboard.press("ArrowRight")
    page.locator("#frame").wait_for()
    lit(page, 0)
    assert page.evaluate("location.hash") == "#2"
    page.keyboard.press("ArrowLeft")
    lit(page, 1)  # what was not saved waited
    page.keyboard.press("x")
    lit(page, 0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.evaluate("document.documentElement.scrollHeight") <= 800
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()


def test_points_are_chosen_in_the_3d_view_too(page):
    page.keyboard.press("a")
    page.click("text=Above")
    box = page.locator("#cloud").bounding_box()
    page.mouse.move(box["x"] + 4, box["y"] + box["height"] - 4)
    page.mouse.down()
    for x, y in ((4, 4), (box["width"] - 4, 4), (box["width"] - 4, box["height"] - 4)):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    page.mouse.up()
    lit(page, 16)
    page.keyboard.press("z")
    lit(page, 0)
