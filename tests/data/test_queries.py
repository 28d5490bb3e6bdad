from __future__ import annotations

import numpy as np
import pytest
import torch

from lexivox.data import classes
from lexivox.data.classes import CITYSCAPES19, NUSCENES16, NUSCENES16_FROM_RAW, NUSCENES_RAW, PANDASET9
from lexivox.data.queries import (
    CITYSCAPES19_QUERIES,
    CLASS_QUERIES,
    NUSCENES16_EXTENDED_QUERIES,
    NUSCENES16_QUERIES,
    NUSCENES_RAW_QUERIES,
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


def test_the_102_queries_are_the_official_ones_in_their_order(golden):
    case = np.load(golden / "clip_text.npz", allow_pickle=False)
    ours = [(text, NUSCENES_RAW.index_of(name)) for name, texts in NUSCENES_RAW_QUERIES.items() for text in texts]
    assert [text for text, _ in ours] == case["prompts/query_names_in_order"].tolist()
    assert [number for _, number in ours] == case["prompts/raw_lidarseg_id_of_query"].tolist()
    mapped = NUSCENES16_FROM_RAW.apply(torch.tensor([number for _, number in ours]))
    assert mapped.tolist() == case["prompts/class16_of_query"].tolist()


def test_what_means_no_class_is_not_asked_for():
    raw = [text for texts in NUSCENES_RAW_QUERIES.values() for text in texts]
    kept = [text for texts in NUSCENES16_QUERIES.values() for text in texts]
    assert (len(raw), len(kept)) == (102, 74)
    removed = [name for name, texts in NUSCENES_RAW_QUERIES.items() if texts[0] not in kept]
    assert sum(len(NUSCENES_RAW_QUERIES[name]) for name in removed) == 28
    assert {"animal", "vehicle.emergency.police", "vehicle.ego", "noise"} <= set(removed)
    assert list(NUSCENES16_QUERIES) == list(NUSCENES16.evaluated_names)


def test_the_extended_set_adds_everyday_words():
    added = {
        name: set(texts) - set(NUSCENES16_QUERIES[name])
        for name, texts in NUSCENES16_EXTENDED_QUERIES.items()
        if len(texts) > len(NUSCENES16_QUERIES[name])
    }
    assert added == {"pedestrian": {"person"}, "traffic_cone": {"cone"}, "driveable_surface": {"road"}}
