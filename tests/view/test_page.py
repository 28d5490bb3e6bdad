"""The page in a real browser: what a user sees and does."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streets import LETTER, SMALL, StreetApp, letter_scene, read_letter, run_report

from lexivox.view.html import write_report
from lexivox.view.scene import RunReport, VoxelScene
from lexivox.view.server import make_server

pytestmark = pytest.mark.browser
Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens an address in a fresh window; fails when the page logs an error or asks another machine."""
    windows, problems = [], []

    def opened(address: str, size: tuple[int, int] = (920, 560), setup: str = "", **options: Any) -> Any:
        window = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        windows.append(window)
        page = window.new_page()
        page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: problems.append(r.url) if not r.url.startswith((address, "data:")) else None)
        if setup:
            page.add_init_script(setup)
        page.goto(address)
        page.locator("#count:not(:empty)").wait_for()
        settle(page)
        return page

    yield opened
    for window in windows:
        window.close()
    # The software renderer warns of its slowness; the browser logs a refused query, which the page shows.
    assert [p for p in problems if "GPU stall" not in p and "status of 400" not in p] == []


def settle(page: Any) -> None:
    """Wait until the page has drawn what it was told."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def canvas(page: Any) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB")).astype(int)


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Share of pixels that differ clearly."""
    return float((np.abs(before - after).max(axis=-1) > 24).mean())


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(run_report(2, SMALL), tmp_path_factory.mktemp("page") / "report.html").as_uri()


def test_opens_from_a_file_and_turns(open_page: Open, address: str) -> None:
    page = open_page(address)
    before = canvas(page)
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 200
    box = page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 160, y + 20, steps=4)
    page.mouse.up()
    settle(page)
    turned = canvas(page)
    assert change(before, turned) > 0.2
    page.mouse.wheel(0, -300)
    settle(page)
    assert change(turned, canvas(page)) > 0.2
    page.click("text=Behind")
    page.mouse.move(2, 2)
    settle(page)
    assert change(before, canvas(page)) < 0.06  # the hint has gone


def test_layers_classes_truth_and_cut_change_the_picture(open_page: Open, address: str) -> None:
    page = open_page(address)
    pictures = [canvas(page)]

    def then(act: Callable[[], Any], least: float) -> None:
        act()
        settle(page)
        pictures.append(canvas(page))
        assert change(*pictures[-2:]) > least

    then(lambda: page.click("#layers >> text=a parked car"), 0.2)
    assert page.locator("#hits li").count() == 8
    then(lambda: page.locator("#top").fill("40"), 0.02)
    then(lambda: page.click("#query-table >> text=a parked tree"), 0.02)
    then(lambda: page.click("#layers >> text=classes"), 0.1)
    then(lambda: page.click("#legend >> text=building"), 0.05)
    assert re.fullmatch(r"[\d,]+ of [\d,]+ voxels", page.inner_text("#count"))
    then(lambda: page.click("#sets >> text=Truth"), 0.001)
    then(lambda: page.click("text=show all"), 0.05)
    then(lambda: page.locator("#cut").fill("4"), 0.05)
    then(lambda: page.select_option("#frames select", index=1), 0.02)


def test_a_voxel_says_what_it_is(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.click("text=Above")
    settle(page)
    box = page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.42
    page.mouse.move(x, y)
    assert page.inner_text("#tip").startswith("road")
    assert re.search(r"[\d.-]+, [\d.-]+, 0.0 m \(ego\) · voxel \d+, \d+, 2", page.inner_text("#tip"))
    page.mouse.click(x, y)
    assert page.inner_text("#pinned").startswith("road")
    page.keyboard.press("Escape")
    assert page.locator("#pinned").is_hidden()


def test_scores_queries_and_curves_are_shown(open_page: Open, address: str) -> None:
    page = open_page(address)
    assert "0.268" in page.inner_text("#tables")
    assert "14.9×" in page.inner_text("#query-table")
    assert page.locator(".curve svg").count() == 3
    assert page.locator("#images img").count() == 6
    assert page.locator("#images span").all_inner_texts()[:3] == [
        "CAM_FRONT_LEFT",
        "CAM_FRONT",
        "CAM_FRONT_RIGHT",
    ]
    page.locator("#images button").first.click()
    assert page.locator("#zoom").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_sideways_scroll(open_page: Open, address: str, scheme: str) -> None:
    page = open_page(address, (390, 844), color_scheme=scheme, has_touch=True)
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    assert (canvas(page)[2, 195].mean() > 128) == (scheme == "light")


@pytest.mark.parametrize("fallback", [False, True])
def test_letter_is_not_mirrored(open_page: Open, tmp_path: Path, fallback: bool) -> None:
    scenes = (letter_scene("ego"), letter_scene("lidar"))
    path = write_report(RunReport("letters", scenes=scenes), tmp_path / "letters.html")
    page = open_page(path.as_uri(), setup=NO_WEBGL2 if fallback else "")
    page.click("text=Above")
    for frame in (0, 1):
        page.select_option("#frames select", index=frame)
        page.add_style_tag(content=".over, .hint, .notice, .gizmo { display: none !important; }")
        page.mouse.move(2, 2)
        settle(page)
        assert read_letter(canvas(page)) == LETTER


NO_WEBGL2 = """const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind === "webgl2" ? null : get.call(this, kind, ...rest);
};"""


def test_without_webgl2_the_map_is_painted(open_page: Open, address: str) -> None:
    page = open_page(address, setup=NO_WEBGL2)
    assert "no WebGL2" in page.inner_text("#notice")
    before = canvas(page)
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 50
    page.locator("#canvas").focus()
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert change(before, canvas(page)) > 0.1


def test_a_report_without_scenes_or_layers_opens(browser: Any, tmp_path: Path) -> None:
    path = write_report(RunReport("empty", notes=("nothing yet",)), tmp_path / "empty.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.locator(".map").is_hidden()
    assert page.inner_text("#notes") == "nothing yet"
    page.close()


def test_scenes_without_voxels_layers_or_images_are_shown(open_page: Open, tmp_path: Path) -> None:
    letter = letter_scene("ego")
    scenes = (VoxelScene(letter.grid, letter.index), VoxelScene(letter.grid, letter.index[:0]))
    page = open_page(write_report(RunReport("bare", scenes=scenes), tmp_path / "bare.html").as_uri())
    assert page.inner_text("#count") == "14 voxels"
    assert page.locator("#cameras").is_hidden()
    page.select_option("#frames select", index=1)
    page.locator("#count:text-is('0 voxels')").wait_for()
    page.mouse.move(300, 300)
    assert page.locator("#tip").is_hidden()


def test_a_typed_query_recolours_the_map_at_once(open_page: Open) -> None:
    with make_server(StreetApp(), title="toy") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            page = open_page(server.url)
            waits = []
            for text in ("car", "vegetation, pole", "building"):
                before = canvas(page)
                page.fill("#text", text)
                page.keyboard.press("Enter")
                page.locator(f"#layers button[aria-pressed=true]:text-is('{text}')").wait_for()
                settle(page)
                assert change(before, canvas(page)) > 0.01
                waits.append(int(re.search(r"(\d+) ms", page.inner_text("#answer"))[1]))  # type: ignore[index]
            assert min(waits) < 300
            page.locator("#hits button").first.click()
            assert page.inner_text("#pinned").startswith("building · 1.000")
            assert re.match(r"Here, in \d+ places?\n0\.4 % of things", page.inner_text("#verdict"))
            assert "voxels" in page.inner_text("#hits li:first-child")
            before = canvas(page)
            page.uncheck("#boxes")
            settle(page)
            assert change(before, canvas(page)) > 0.0005
            page.fill("#text", "nothing")
            page.keyboard.press("Enter")
            page.locator("#layers button[aria-pressed=true]:text-is('nothing')").wait_for()
            assert page.inner_text("#verdict").startswith("Not here\n60 % of things")
            assert page.inner_text("#hits-title") == "Closest, though not here"
            assert page.locator("#boxes-row").is_hidden()
            page.fill("#text", "unicorn")
            page.keyboard.press("Enter")
            page.locator("#answer.bad").wait_for()
            assert page.inner_text("#answer") == "query must be a class of this toy; got 'unicorn'. Try 'car'."
        finally:
            server.shutdown()
            thread.join()
