"""What things are called: fine concepts, nuScenes raw ids, and the 16 nuScenes classes."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from lexivox.data.classes import NUSCENES16, NUSCENES16_FROM_RAW, NUSCENES_RAW


class Concept(IntEnum):
    """The fine label space of pixels and points; :data:`CONCEPT_NAMES` holds the words."""

    VOID = 0
    ROAD = 1
    LANE_MARKING = 2
    KERB = 3
    SIDEWALK = 4
    GRASS = 5
    WALL = 6
    DOOR = 7
    WINDOW = 8
    TRUNK = 9
    CROWN = 10
    POLE = 11
    SIGN = 12
    CONE = 13
    BARRIER = 14
    CAR = 15
    CAR_WINDOW = 16
    TYRE = 17
    TRUCK = 18
    BUS = 19
    BICYCLE = 20
    MOTORCYCLE = 21
    PEDESTRIAN = 22
    SKY = 23


CONCEPT_NAMES: tuple[str, ...] = (
    "void", "road", "lane marking", "kerb", "sidewalk", "grass", "building wall", "door", "window",
    "tree trunk", "tree crown", "pole", "traffic sign", "traffic cone", "barrier", "car", "car window",
    "tyre", "truck", "bus", "bicycle", "motorcycle", "pedestrian", "sky",
)  # fmt: skip
"""Readable name of every concept, by id. The windows of lorries and buses count as car windows."""

_RAW_OF_CONCEPT = (
    "noise", "flat.driveable_surface", "flat.driveable_surface", "flat.sidewalk", "flat.sidewalk", "flat.terrain",
    "static.manmade", "static.manmade", "static.manmade", "static.vegetation", "static.vegetation", "static.manmade",
    "static.manmade", "movable_object.trafficcone", "movable_object.barrier", "vehicle.car", "vehicle.car",
    "vehicle.car", "vehicle.truck", "vehicle.bus.rigid", "vehicle.bicycle", "vehicle.motorcycle",
    "human.pedestrian.adult", "noise",
)  # fmt: skip
RAW_FROM_CONCEPT = np.array([NUSCENES_RAW.index_of(name) for name in _RAW_OF_CONCEPT], dtype=np.uint8)
"""nuScenes lidarseg id of every concept (parts of an actor take the id of the whole instead)."""

CLASS_FROM_RAW = np.array(NUSCENES16_FROM_RAW.table, dtype=np.uint8)
"""The sixteen classes (0 = noise) of the 32 raw lidarseg ids."""

RAW_NAMES = NUSCENES_RAW.names
FREE_LABEL = NUSCENES16.index_of("free")
"""Class number of a free voxel beside the classes 0..16."""
