"""Fixtures of the viewer: streets to look at."""

from __future__ import annotations

import pytest
from streets import run_report, street_scene

from lexivox.view.scene import RunReport, VoxelScene


@pytest.fixture(scope="session")
def scene() -> VoxelScene:
    return street_scene()


@pytest.fixture(scope="session")
def report() -> RunReport:
    return run_report()
