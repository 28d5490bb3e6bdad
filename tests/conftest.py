"""Fixtures of the whole suite: shape checks on, real recordings and golden cases found or visibly skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

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
