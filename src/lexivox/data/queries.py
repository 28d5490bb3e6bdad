"""The default text queries of each class table: several ways to say one class, as plain data.

Capitals and full stops belong to the strings: a text encoder sees them.
"""

from __future__ import annotations

from collections.abc import Mapping

from lexivox.data.classes import (
    CITYSCAPES19,
    NUSCENES16,
    NUSCENES16_FROM_RAW,
    NUSCENES_RAW,
    PANDASET9,
    label_map,
)

ClassQueries = Mapping[str, tuple[str, ...]]
"""Class name of a table to what one asks for it."""

NUSCENES_RAW_QUERIES: ClassQueries = {
    "noise": (
        "Any lidar return that does not correspond to a physical object, such as dust, vapor, noise, fog, raindrops, "
        "smoke and reflections.",
    ),
    "animal": ("animal", "cat", "dog", "rat", "deer", "bird"),
    "human.pedestrian.adult": ("Adult.",),
    "human.pedestrian.child": ("Child.",),
    "human.pedestrian.construction_worker": ("Construction worker",),
    "human.pedestrian.personal_mobility": ("skateboard", "segway"),
    "human.pedestrian.police_officer": ("Police officer.",),
    "human.pedestrian.stroller": ("Stroller",),
    "human.pedestrian.wheelchair": ("Wheelchair",),
    "movable_object.barrier": (
        "Temporary road barrier to redirect traffic.", "concrete barrier", "metal barrier", "water barrier",
    ),
    "movable_object.debris": (
        "Movable object that is left on the driveable surface.", "tree branch", "full trash bag",
    ),
    "movable_object.pushable_pullable": (
        "Object that a pedestrian may push or pull.", "dolley", "wheel barrow", "garbage-bin", "shopping cart",
    ),
    "movable_object.trafficcone": ("traffic cone.",),
    "static_object.bicycle_rack": ("Area or device intended to park or secure the bicycles in a row.",),
    "vehicle.bicycle": ("Bicycle",),
    "vehicle.bus.bendy": ("Bendy bus",),
    "vehicle.bus.rigid": ("Rigid bus",),
    "vehicle.car": (
        "Vehicle designed primarily for personal use.", "car", "vehicle", "sedan", "hatch-back", "wagon",
        "van", "mini-van", "SUV", "jeep",
    ),
    "vehicle.construction": ("Vehicle designed for construction.", "crane"),
    "vehicle.emergency.ambulance": ("ambulance", "ambulance vehicle"),
    "vehicle.emergency.police": ("police vehicle", "police car", "police bicycle", "police motorcycle"),
    "vehicle.motorcycle": ("motorcycle", "vespa", "scooter"),
    "vehicle.trailer": ("trailer", "truck trailer", "car trailer", "bike trailer"),
    "vehicle.truck": (
        "Vehicle primarily designed to haul cargo.", "pick-up", "lorry", "truck", "semi-tractor",
    ),
    "flat.driveable_surface": ("Paved surface that a car can drive.", "Unpaved surface that a car can drive."),
    "flat.other": ("traffic island", "delimiter", "rail track", "small stairs", "lake", "river"),
    "flat.sidewalk": ("sidewalk", "pedestrian walkway", "bike path"),
    "flat.terrain": ("grass", "rolling hill", "soil", "sand", "gravel"),
    "static.manmade": (
        "man-made structure", "building", "wall", "guard rail", "fence", "pole", "drainage", "hydrant",
        "flag", "banner", "street sign", "electric circuit box", "traffic light", "parking meter", "stairs",
    ),
    "static.other": (
        "Points in the background that are not distinguishable, or objects that do not match any of the above labels.",
    ),
    "static.vegetation": ("bushes", "bush", "plants", "plant", "potted plant", "tree", "trees"),
    "vehicle.ego": (
        "The vehicle on which the cameras, radar and lidar are mounted, that is sometimes visible at the bottom of "
        "the image.",
    ),
}  # fmt: skip
"""The 102 queries of POP-3D for the raw classes of nuScenes-lidarseg, in their order (spec pop3d 5.6)."""

_EXTRA = {
    "human.pedestrian.adult": ("person",),
    "movable_object.trafficcone": ("cone",),
    "static_object.bicycle_rack": ("bicycle rack",),
    "flat.driveable_surface": ("road",),
}


def evaluated_queries(raw: ClassQueries) -> ClassQueries:
    """Queries of the sixteen classes from those of the raw ones; what means no class is not asked for."""
    classes: dict[str, tuple[str, ...]] = dict.fromkeys(NUSCENES16.evaluated_names, ())
    for name, queries in raw.items():
        number = NUSCENES16_FROM_RAW.table[NUSCENES_RAW.index_of(name)]
        if number != NUSCENES16.ignore:
            classes[NUSCENES16.names[number]] += queries
    return classes


NUSCENES16_QUERIES: ClassQueries = evaluated_queries(NUSCENES_RAW_QUERIES)
"""The 74 queries of POP-3D for the classes of nuScenes: the 102 without the 28 whose class is not evaluated."""

NUSCENES16_EXTENDED_QUERIES: ClassQueries = evaluated_queries(
    {name: queries + _EXTRA.get(name, ()) for name, queries in NUSCENES_RAW_QUERIES.items()}
)
"""With everyday words for three classes. The published results use the plain ones."""

CITYSCAPES19_QUERIES: ClassQueries = {name: (name,) for name in CITYSCAPES19.names}

PANDASET9_QUERIES: ClassQueries = {
    "road": ("road",),
    "sidewalk": ("sidewalk",),
    "building": ("building",),
    "vegetation": ("vegetation", "terrain"),
    "car": ("car",),
    "truck": ("truck", "bus", "train"),
    "pedestrian": ("person", "rider"),
    "two_wheeler": ("motorcycle", "bicycle"),
    "static_object": ("wall", "fence", "pole", "traffic light", "traffic sign"),
}
"""PandaSet's nine classes in the words of Cityscapes. Sky is left out: no LiDAR point lies on it."""

PANDASET9_FROM_CITYSCAPES = label_map(CITYSCAPES19, PANDASET9, PANDASET9_QUERIES)

CLASS_QUERIES: Mapping[str, ClassQueries] = {
    NUSCENES16.name: NUSCENES16_QUERIES,
    CITYSCAPES19.name: CITYSCAPES19_QUERIES,
    PANDASET9.name: PANDASET9_QUERIES,
}
"""``ClassTable.name`` to the queries of its evaluated classes, in their order."""
