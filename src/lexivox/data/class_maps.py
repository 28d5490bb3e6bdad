"""Every map between the class tables, and the way from one table to another; maps are written by name, not by number.

>>> from lexivox.data.class_maps import map_between
>>> from lexivox.data.benchmark_classes import OPENOCCUPANCY, SEMANTICKITTI
>>> map_between(SEMANTICKITTI, OPENOCCUPANCY).unmapped
('other-vehicle', 'bicyclist', 'motorcyclist', 'other-ground')
"""

from __future__ import annotations

from lexivox.data.benchmark_classes import (
    NUSCENES10,
    NUSCENES16_FROM_NUSCENES10,
    NUSCENES16_FROM_OCC3D,
    NUSCENES16_FROM_OPENOCCUPANCY,
    NUSCENES16_FROM_SURROUNDOCC,
    NUSCENES16_POINTS,
    NUSCENES16_POINTS_FROM_RAW,
    OCC3D_FROM_NUSCENES16,
    OPENOCCUPANCY_FROM_NUSCENES16,
    SEMANTICKITTI,
    SEMANTICKITTI_FROM_RAW,
    SEMANTICKITTI_MAP,
    SEMANTICKITTI_TO_RAW,
    SEMANTICKITTI_VOXELS,
    SURROUNDOCC_FROM_NUSCENES16,
)
from lexivox.data.classes import (
    CITYSCAPES19,
    NUSCENES16,
    NUSCENES16_FROM_RAW,
    PANDASET9_FROM_RAW,
    PANDASET_RAW,
    ClassTable,
    LabelMap,
    label_map,
)
from lexivox.data.queries import PANDASET9_FROM_CITYSCAPES
from lexivox.errors import ConfigError

_KITTI = {name: [name] for name in SEMANTICKITTI.evaluated_names}
_SIXTEEN = {name: [name] for name in NUSCENES16.evaluated_names}

NUSCENES16_FROM_SEMANTICKITTI = label_map(
    SEMANTICKITTI,
    NUSCENES16,
    {
        "car": ["car"],
        "bicycle": ["bicycle"],
        "motorcycle": ["motorcycle"],
        "truck": ["truck"],
        "pedestrian": ["person"],
        "driveable_surface": ["road", "parking"],
        "sidewalk": ["sidewalk"],
        "terrain": ["terrain"],
        "manmade": ["building", "fence", "pole", "traffic-sign"],
        "vegetation": ["vegetation", "trunk"],
    },
)
"""Who rides is part of the bicycle in nuScenes and a class of its own here; "other" classes mix several."""

NUSCENES16_FROM_CITYSCAPES = label_map(
    CITYSCAPES19,
    NUSCENES16,
    {
        "bicycle": ["bicycle"],
        "bus": ["bus"],
        "car": ["car"],
        "motorcycle": ["motorcycle"],
        "pedestrian": ["person"],
        "truck": ["truck"],
        "driveable_surface": ["road"],
        "sidewalk": ["sidewalk"],
        "terrain": ["terrain"],
        "manmade": ["building", "wall", "fence", "pole", "traffic light", "traffic sign"],
        "vegetation": ["vegetation"],
    },
)

NUSCENES16_FROM_PANDASET = label_map(
    PANDASET_RAW,
    NUSCENES16,
    {
        "barrier": ["Road Barriers", "Temporary Construction Barriers"],
        "bicycle": ["Bicycle"],
        "bus": ["Bus"],
        "car": ["Car"],
        "construction_vehicle": ["Other Vehicle - Construction Vehicle"],
        "motorcycle": ["Motorcycle", "Motorized Scooter"],
        "pedestrian": ["Pedestrian", "Pedestrian with Object"],
        "traffic_cone": ["Cones", "Pylons"],
        "trailer": ["Towed Object"],
        "truck": ["Pickup Truck", "Medium-sized Truck", "Semi-truck"],
        "driveable_surface": ["Road", "Lane Line Marking", "Stop Line Marking", "Other Road Marking", "Driveway"],
        "sidewalk": ["Sidewalk"],
        "terrain": ["Ground"],
        "manmade": ["Building", "Signs", "Construction Signs", "Other Static Object"],
        "vegetation": ["Vegetation"],
    },
)
"""Pick-ups are trucks in nuScenes as well; things on rails, animals and emergency vehicles have no class there."""

NUSCENES10_FROM_NUSCENES16 = label_map(NUSCENES16, NUSCENES10, {name: [name] for name in NUSCENES10.names})
NUSCENES16_FROM_POINTS = label_map(NUSCENES16_POINTS, NUSCENES16, _SIXTEEN)
POINTS_FROM_NUSCENES16 = label_map(NUSCENES16, NUSCENES16_POINTS, _SIXTEEN)
SEMANTICKITTI_FROM_VOXELS = label_map(SEMANTICKITTI_VOXELS, SEMANTICKITTI, _KITTI)
VOXELS_FROM_SEMANTICKITTI = label_map(SEMANTICKITTI, SEMANTICKITTI_VOXELS, _KITTI)
MAP_FROM_SEMANTICKITTI = label_map(SEMANTICKITTI, SEMANTICKITTI_MAP, _KITTI)
MAP_FROM_VOXELS = label_map(SEMANTICKITTI_VOXELS, SEMANTICKITTI_MAP, {**_KITTI, "free": ["free"]})
VOXELS_FROM_MAP = label_map(SEMANTICKITTI_MAP, SEMANTICKITTI_VOXELS, {**_KITTI, "free": ["free"]})

LABEL_MAPS = (
    NUSCENES16_FROM_RAW, NUSCENES16_POINTS_FROM_RAW, NUSCENES16_FROM_POINTS, POINTS_FROM_NUSCENES16,
    NUSCENES16_FROM_NUSCENES10, NUSCENES10_FROM_NUSCENES16, NUSCENES16_FROM_OCC3D, OCC3D_FROM_NUSCENES16,
    NUSCENES16_FROM_OPENOCCUPANCY, OPENOCCUPANCY_FROM_NUSCENES16, NUSCENES16_FROM_SURROUNDOCC,
    SURROUNDOCC_FROM_NUSCENES16, SEMANTICKITTI_FROM_RAW, SEMANTICKITTI_TO_RAW, SEMANTICKITTI_FROM_VOXELS,
    VOXELS_FROM_SEMANTICKITTI, MAP_FROM_SEMANTICKITTI, MAP_FROM_VOXELS, VOXELS_FROM_MAP, PANDASET9_FROM_RAW,
    PANDASET9_FROM_CITYSCAPES, NUSCENES16_FROM_SEMANTICKITTI, NUSCENES16_FROM_CITYSCAPES, NUSCENES16_FROM_PANDASET,
)  # fmt: skip


def map_between(source: ClassTable, target: ClassTable) -> LabelMap:
    """The map of fewest steps; what has no class in ``target`` stands in its ``unmapped``.

    Raises:
        ConfigError: no way leads there.
    """
    reached = {source.name: LabelMap(source, source, tuple(range(source.num_classes)))}
    newest = [source.name]
    while newest and target.name not in reached:
        steps = [(name, step) for name in newest for step in LABEL_MAPS if step.source.name == name]
        newest = []
        for name, step in steps:
            if step.target.name not in reached:
                reached[step.target.name] = reached[name].then(step)
                newest.append(step.target.name)
    if target.name not in reached:
        raise ConfigError(
            f"classes of {source.name} must be mapped to {target.name} by some map; got none. "
            f"It leads to {', '.join(name for name in reached if name != source.name) or 'nothing'}; "
            "write one with label_map()."
        )
    return reached[target.name]
