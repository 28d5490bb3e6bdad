"""The tiny experiment as a fixture."""

from __future__ import annotations

import pytest
from tiny_training import tiny_model, tiny_steps


@pytest.fixture
def make():
    return tiny_model, tiny_steps
