"""Fixtures of the viewer: a street to look at and a browser to look with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from streets import run_report, street_scene

from lexivox.view.scene import RunReport, VoxelScene


@pytest.fixture(scope="session")
def scene() -> VoxelScene:
    return street_scene()


@pytest.fixture(scope="session")
def report() -> RunReport:
    return run_report()


def chromium_path() -> str | None:
    named = os.environ.get("LEXIVOX_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium that renders WebGL2 in software."""
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium; set LEXIVOX_CHROMIUM to one")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=flags)
        yield chromium
        chromium.close()
