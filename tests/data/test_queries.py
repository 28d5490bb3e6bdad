from __future__ import annotations

import pytest

from lexivox.data import classes
from lexivox.data.classes import CITYSCAPES19, NUSCENES16, PANDASET9
from lexivox.data.queries import (
    CITYSCAPES19_QUERIES,
    CLASS_QUERIES,
    NUSCENES16_QUERIES,
    PANDASET9_FROM_CITYSCAPES,
    PANDASET9_QUERIES,
)


@pytest.mark.parametrize("table", [NUSCENES16, CITYSCAPES19, PANDASET9], ids=lambda table: table.name)
def test_every_evaluated_class_is_asked_for_once_and_nothing_else(table: classes.ClassTable):
    queries = CLASS_QUERIES[table.name]
    assert list(queries) == list(table.evaluated_names)
    texts = [text for group in queries.values() for text in group]
    assert len(set(texts)) == len(texts)
    assert all(group for group in queries.values())


def test_nuscenes_has_the_published_counts():
    counts = [len(group) for group in NUSCENES16_QUERIES.values()]
    assert counts == [4, 1, 2, 10, 2, 3, 4, 1, 4, 5, 2, 6, 3, 5, 15, 7]
    assert sum(counts) == 74


def test_pandaset_asks_for_all_of_cityscapes_but_the_sky():
    asked = {text for group in PANDASET9_QUERIES.values() for text in group}
    assert set(CITYSCAPES19_QUERIES) - asked == {"sky"}
    assert PANDASET9_FROM_CITYSCAPES.table[CITYSCAPES19.index_of("sky")] == PANDASET9.ignore
    assert set(PANDASET9_FROM_CITYSCAPES.table) == {PANDASET9.ignore, *PANDASET9.evaluated}
