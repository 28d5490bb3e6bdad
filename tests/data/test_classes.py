from __future__ import annotations

import json

import pytest
import torch

from lexivox.data import classes
from lexivox.data.classes import (
    CITYSCAPES19,
    NUSCENES16,
    NUSCENES16_FROM_RAW,
    NUSCENES_RAW,
    PANDASET9,
    PANDASET9_FROM_RAW,
    PANDASET_RAW,
    ClassTable,
    LabelMap,
    label_map,
)
from lexivox.errors import ConfigError, DataError

TABLES = [NUSCENES16, NUSCENES_RAW, CITYSCAPES19, PANDASET9, PANDASET_RAW]


@pytest.mark.parametrize(("table", "count"), list(zip(TABLES, [18, 32, 19, 11, 43], strict=True)))
def test_tables_have_the_published_number_of_classes_and_distinct_colours(table: ClassTable, count: int):
    assert table.num_classes == count
    assert table.colors().shape == (count, 3)
    assert table is NUSCENES_RAW or len(set(table.palette)) == count


def test_evaluated_leaves_out_ignored_and_free():
    assert NUSCENES16.evaluated == tuple(range(1, 17))
    assert PANDASET9.evaluated == tuple(range(1, 10))
    assert CITYSCAPES19.evaluated == tuple(range(19))
    assert NUSCENES16.evaluated_names[0] == "barrier"


def test_raw_names_land_in_the_class_of_the_published_table():
    published = {  # class: raw numbers, POP-3D label map
        1: [9], 2: [14], 3: [15, 16], 4: [17], 5: [18], 6: [21], 7: [2, 3, 4, 6], 8: [12], 9: [22], 10: [23],
        11: [24], 12: [25], 13: [26], 14: [27], 15: [28], 16: [30],
        0: [0, 1, 5, 7, 8, 10, 11, 13, 19, 20, 29, 31],
    }  # fmt: skip
    mapped = NUSCENES16_FROM_RAW.apply(torch.arange(32))
    assert {i: mapped.eq(i).nonzero().flatten().tolist() for i in published} == published
    assert NUSCENES_RAW.index_of("flat.driveable_surface") == 24
    assert NUSCENES_RAW.index_of("vehicle.truck") == 23


def test_pandaset_names_are_those_on_disk(realdata):
    path = realdata / "pandaset/002/annotations/semseg/classes.json"
    on_disk = json.loads(path.read_text())
    assert {str(i): name for i, name in enumerate(PANDASET_RAW.names) if i} == on_disk


def test_pandaset_returns_of_the_own_car_and_weather_are_ignored():
    raw = torch.tensor([0, 1, 2, 3, 4])
    assert PANDASET9_FROM_RAW.apply(raw).eq(PANDASET9.ignore).all()
    assert set(PANDASET9_FROM_RAW.table) == {0, *PANDASET9.evaluated}


def test_unknown_class_names_the_close_ones():
    with pytest.raises(ConfigError, match=r"class must be one of nuscenes16; got 'side walk'. .*sidewalk"):
        NUSCENES16.index_of("side walk")
    with pytest.raises(ConfigError, match="Choose from ignored, road"):
        PANDASET9.index_of("qqqq")


def test_apply_keeps_shape_and_refuses_unknown_labels():
    assert NUSCENES16_FROM_RAW.apply(torch.tensor([[17, 24]])).tolist() == [[4, 11]]
    assert NUSCENES16_FROM_RAW.apply(torch.zeros(0, dtype=torch.int64)).shape == (0,)
    with pytest.raises(DataError, match="0 to 31; got 3 to 40"):
        NUSCENES16_FROM_RAW.apply(torch.tensor([40, 3]))
    with pytest.raises(DataError, match="got -1"):
        NUSCENES16_FROM_RAW.apply(torch.tensor([-1]))


def test_tables_that_contradict_themselves_are_refused():
    red = (255, 0, 0)
    with pytest.raises(ConfigError, match="must all differ"):
        ClassTable("twins", ("a", "a"), None, 0, frozenset(), (red, red))
    with pytest.raises(ConfigError, match="must hold 1 colours; got 2"):
        ClassTable("bright", ("a",), None, 0, frozenset(), (red, red))
    with pytest.raises(ConfigError, match="must be below 1"):
        ClassTable("far", ("a",), 3, 0, frozenset(), (red,))
    with pytest.raises(ConfigError, match="must hold 32 numbers; got 1"):
        LabelMap(NUSCENES_RAW, NUSCENES16, (0,))
    with pytest.raises(ConfigError, match="must name its classes"):
        LabelMap(PANDASET9, CITYSCAPES19, (99,) * 11)


def test_label_map_sends_what_is_not_named_to_ignore():
    made = label_map(CITYSCAPES19, NUSCENES16, {"car": ["car"], "vegetation": ["vegetation"]})
    assert made.table.count(0) == 17
    assert made.table[13] == NUSCENES16.index_of("car")


def test_every_map_of_the_module_joins_two_of_its_tables():
    maps = [value for value in vars(classes).values() if isinstance(value, LabelMap)]
    assert len(maps) == 2
    assert all(m.source in TABLES and m.target in TABLES for m in maps)
