"""Every class table of the benchmarks written out by hand: number, name, colour; every map between them is total."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lexivox.data.benchmark_classes import (
    CLASS_TABLES,
    NUSCENES10,
    NUSCENES16_FROM_OCC3D,
    NUSCENES16_POINTS,
    OCC3D,
    OPENOCCUPANCY,
    SEMANTICKITTI,
    SEMANTICKITTI_CODES,
    SEMANTICKITTI_FROM_RAW,
    SEMANTICKITTI_MAP,
    SEMANTICKITTI_RAW,
    SEMANTICKITTI_TO_RAW,
    SEMANTICKITTI_VOXELS,
    SURROUNDOCC,
)
from lexivox.data.class_maps import LABEL_MAPS, map_between
from lexivox.data.classes import CITYSCAPES19, NUSCENES16, NUSCENES_RAW, PANDASET9, PANDASET_RAW
from lexivox.errors import ConfigError

# 1 to 16 in nuScenes-lidarseg, Occ3D, OpenOccupancy and SurroundOcc (specs pop3d 1.7, occflownet 1.1, occfusion 2.1).
SIXTEEN = {
    1: ("barrier", (255, 120, 50)), 2: ("bicycle", (255, 192, 203)), 3: ("bus", (255, 255, 0)),
    4: ("car", (0, 150, 245)), 5: ("construction_vehicle", (0, 255, 255)), 6: ("motorcycle", (255, 127, 0)),
    7: ("pedestrian", (255, 0, 0)), 8: ("traffic_cone", (255, 240, 150)), 9: ("trailer", (135, 60, 0)),
    10: ("truck", (160, 32, 240)), 11: ("driveable_surface", (255, 0, 255)), 12: ("other_flat", (139, 137, 137)),
    13: ("sidewalk", (75, 0, 75)), 14: ("terrain", (150, 240, 80)), 15: ("manmade", (230, 230, 250)),
    16: ("vegetation", (0, 175, 0)),
}  # fmt: skip

# code on disk: name, class of the twenty, colour as (blue, green, red) of semantic-kitti-api (spec ovpanoptic 6.6).
KITTI = {
    0: ("unlabeled", 0, (0, 0, 0)), 1: ("outlier", 0, (0, 0, 255)), 10: ("car", 1, (245, 150, 100)),
    11: ("bicycle", 2, (245, 230, 100)), 13: ("bus", 5, (250, 80, 100)), 15: ("motorcycle", 3, (150, 60, 30)),
    16: ("on-rails", 5, (255, 0, 0)), 18: ("truck", 4, (180, 30, 80)), 20: ("other-vehicle", 5, (255, 0, 0)),
    30: ("person", 6, (30, 30, 255)), 31: ("bicyclist", 7, (200, 40, 255)), 32: ("motorcyclist", 8, (90, 30, 150)),
    40: ("road", 9, (255, 0, 255)), 44: ("parking", 10, (255, 150, 255)), 48: ("sidewalk", 11, (75, 0, 75)),
    49: ("other-ground", 12, (75, 0, 175)), 50: ("building", 13, (0, 200, 255)), 51: ("fence", 14, (50, 120, 255)),
    52: ("other-structure", 0, (0, 150, 255)), 60: ("lane-marking", 9, (170, 255, 150)),
    70: ("vegetation", 15, (0, 175, 0)), 71: ("trunk", 16, (0, 60, 135)), 72: ("terrain", 17, (80, 240, 150)),
    80: ("pole", 18, (150, 240, 255)), 81: ("traffic-sign", 19, (0, 0, 255)), 99: ("other-object", 0, (255, 255, 50)),
    252: ("moving-car", 1, (245, 150, 100)), 253: ("moving-bicyclist", 7, (200, 40, 255)),
    254: ("moving-person", 6, (30, 30, 255)), 255: ("moving-motorcyclist", 8, (90, 30, 150)),
    256: ("moving-on-rails", 5, (255, 0, 0)), 257: ("moving-bus", 5, (250, 80, 100)),
    258: ("moving-truck", 4, (180, 30, 80)), 259: ("moving-other-vehicle", 5, (255, 0, 0)),
}  # fmt: skip
KITTI_TO_RAW = {
    0: 0, 1: 10, 2: 11, 3: 15, 4: 18, 5: 20, 6: 30, 7: 31, 8: 32, 9: 40, 10: 44, 11: 48, 12: 49, 13: 50, 14: 51,
    15: 70, 16: 71, 17: 72, 18: 80, 19: 81,
}  # fmt: skip

CITYSCAPES = (
    ("road", (128, 64, 128)), ("sidewalk", (244, 35, 232)), ("building", (70, 70, 70)), ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)), ("pole", (153, 153, 153)), ("traffic light", (250, 170, 30)),
    ("traffic sign", (220, 220, 0)), ("vegetation", (107, 142, 35)), ("terrain", (152, 251, 152)),
    ("sky", (70, 130, 180)), ("person", (220, 20, 60)), ("rider", (255, 0, 0)), ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)), ("bus", (0, 60, 100)), ("train", (0, 80, 100)), ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("table", "free", "ignore", "others"),
    [
        (NUSCENES16, 17, 0, {0: "noise", 17: "free"}),
        (NUSCENES16_POINTS, None, 0, {0: "noise"}),
        (OCC3D, 17, 255, {0: "others", 17: "free"}),
        (OPENOCCUPANCY, 0, 255, {0: "free"}),
        (SURROUNDOCC, 0, 255, {0: "free"}),
    ],
)
def test_the_sixteen_classes_of_nuscenes(table, free, ignore, others):
    assert dict(enumerate(table.names)) == {**{i: name for i, (name, _) in SIXTEEN.items()}, **others}
    assert [table.palette[i] for i in SIXTEEN] == [color for _, color in SIXTEEN.values()]
    assert (table.free, table.ignore) == (free, ignore)
    assert sorted(table.things) == list(range(1, 11))
    scored = list(SIXTEEN) if table is not OCC3D else [0, *SIXTEEN]
    assert list(table.evaluated) == scored


def test_the_ten_classes_of_detection():
    assert NUSCENES10.names == (
        "car", "truck", "construction_vehicle", "bus", "trailer", "barrier", "motorcycle", "bicycle", "pedestrian",
        "traffic_cone",
    )  # fmt: skip
    colors = dict(SIXTEEN.values())
    assert all(colors[name] == color for name, color in zip(NUSCENES10.names, NUSCENES10.palette, strict=True))


def test_semantickitti_as_labelled():
    assert SEMANTICKITTI_CODES.codes == tuple(KITTI)
    assert SEMANTICKITTI_RAW.names == tuple(name for name, _, _ in KITTI.values())
    assert SEMANTICKITTI_RAW.palette == tuple((r, g, b) for _, _, (b, g, r) in KITTI.values())
    codes = torch.tensor(list(KITTI))
    raw = SEMANTICKITTI_CODES.decode(codes)
    assert raw.tolist() == list(range(34))
    assert SEMANTICKITTI_CODES.encode(raw).tolist() == codes.tolist()
    assert SEMANTICKITTI_FROM_RAW.apply(raw).tolist() == [number for _, number, _ in KITTI.values()]
    assert SEMANTICKITTI_FROM_RAW.unmapped == ("outlier", "other-structure", "other-object")


def test_semantickitti_as_scored():
    by_code = {code: name for code, (name, _, _) in KITTI.items()}
    names = tuple(by_code[code] for code in KITTI_TO_RAW.values())
    colors = tuple(tuple(reversed(KITTI[code][2])) for code in KITTI_TO_RAW.values())
    assert SEMANTICKITTI.names == names
    assert SEMANTICKITTI_VOXELS.names == ("free", *names[1:])
    assert SEMANTICKITTI_MAP.names == (*names, "free")
    for table in (SEMANTICKITTI, SEMANTICKITTI_VOXELS, SEMANTICKITTI_MAP):
        assert table.palette[1:20] == colors[1:]
        assert sorted(table.things) == list(range(1, 9))
        assert list(table.evaluated) == list(range(1, 20))
    assert [(t.free, t.ignore) for t in (SEMANTICKITTI, SEMANTICKITTI_VOXELS, SEMANTICKITTI_MAP)] == [
        (None, 0), (0, 255), (20, 0),
    ]  # fmt: skip
    written = SEMANTICKITTI_CODES.encode(SEMANTICKITTI_TO_RAW.apply(torch.arange(20)))
    assert dict(enumerate(written.tolist())) == KITTI_TO_RAW


def test_cityscapes_by_training_number():
    assert tuple(zip(CITYSCAPES19.names, CITYSCAPES19.palette, strict=True)) == CITYSCAPES
    assert (CITYSCAPES19.free, CITYSCAPES19.ignore) == (None, 255)


def test_raw_nuscenes_colours():
    """Of nuscenes-devkit 1.2.0, a few by hand; the names stand in test_classes."""
    some = {0: (0, 0, 0), 2: (0, 0, 230), 9: (112, 128, 144), 17: (255, 158, 0), 24: (0, 207, 191), 31: (255, 240, 245)}
    assert {number: NUSCENES_RAW.palette[number] for number in some} == some


def test_tables_are_found_by_name():
    assert all(CLASS_TABLES[table.name] is table for table in (OCC3D, OPENOCCUPANCY, SURROUNDOCC, SEMANTICKITTI_RAW))


@pytest.mark.parametrize("label_map", LABEL_MAPS, ids=lambda m: f"{m.source.name}-{m.target.name}")
def test_maps_are_total_and_name_what_they_lose(label_map):
    mapped = label_map.apply(torch.arange(label_map.source.num_classes))
    lost = (mapped == label_map.target.ignore) & (torch.arange(len(mapped)) != label_map.source.ignore)
    assert label_map.unmapped == tuple(np.array(label_map.source.names)[lost.numpy()])
    kept = mapped[mapped != label_map.target.ignore]
    assert bool((kept < label_map.target.num_classes).all())
    if label_map.source.free is not None and label_map.target.free is not None:
        assert int(mapped[label_map.source.free]) == label_map.target.free
    same = set(label_map.source.evaluated_names) & set(label_map.target.evaluated_names)
    for name in same:  # a class of both names is one class
        assert int(mapped[label_map.source.index_of(name)]) == label_map.target.index_of(name)


def test_ways_there_and_back():
    tables = (NUSCENES16, OCC3D, OPENOCCUPANCY, SURROUNDOCC)
    for one in tables:
        for other in tables:
            there, back = map_between(one, other), map_between(other, one)
            again = there.then(back).apply(torch.arange(one.num_classes))
            kept = [i for i, name in enumerate(one.names) if name in other.names and i != one.ignore]
            assert again[kept].tolist() == kept
    assert map_between(OCC3D, OPENOCCUPANCY).unmapped == ("others",)
    assert map_between(OCC3D, NUSCENES10).unmapped[0] == "others"
    assert map_between(NUSCENES_RAW, SURROUNDOCC).apply(torch.tensor([17, 24, 31])).tolist() == [4, 11, 255]
    assert map_between(PANDASET_RAW, OCC3D).table[PANDASET_RAW.index_of("Car")] == OCC3D.index_of("car")
    assert map_between(CITYSCAPES19, NUSCENES16).unmapped == ("sky", "rider", "train")
    with pytest.raises(ConfigError, match=r"classes of pandaset9 must be mapped to occ3d by some map; got none"):
        map_between(PANDASET9, OCC3D)
    with pytest.raises(ConfigError, match="a map to follow must start from nuscenes16; got openoccupancy"):
        NUSCENES16_FROM_OCC3D.then(map_between(OPENOCCUPANCY, OCC3D))
