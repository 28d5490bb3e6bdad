"""The default text queries of each class table: several ways to say one class, as plain data.

Capitals and full stops belong to the strings: a text encoder sees them.
"""

from __future__ import annotations

from collections.abc import Mapping

from lexivox.data.classes import CITYSCAPES19, NUSCENES16, PANDASET9, label_map

ClassQueries = Mapping[str, tuple[str, ...]]
"""Class name of a table to what one asks for it."""

NUSCENES16_QUERIES: ClassQueries = {
    "barrier": (
        "Temporary road barrier to redirect traffic.", "concrete barrier", "metal barrier", "water barrier",
    ),
    "bicycle": ("Bicycle",),
    "bus": ("Bendy bus", "Rigid bus"),
    "car": (
        "Vehicle designed primarily for personal use.", "car", "vehicle", "sedan", "hatch-back", "wagon",
        "van", "mini-van", "SUV", "jeep",
    ),
    "construction_vehicle": ("Vehicle designed for construction.", "crane"),
    "motorcycle": ("motorcycle", "vespa", "scooter"),
    "pedestrian": ("Adult.", "Child.", "Construction worker", "Police officer."),
    "traffic_cone": ("traffic cone.",),
    "trailer": ("trailer", "truck trailer", "car trailer", "bike trailer"),
    "truck": (
        "Vehicle primarily designed to haul cargo.", "pick-up", "lorry", "truck", "semi-tractor",
    ),
    "driveable_surface": ("Paved surface that a car can drive.", "Unpaved surface that a car can drive."),
    "other_flat": ("traffic island", "delimiter", "rail track", "small stairs", "lake", "river"),
    "sidewalk": ("sidewalk", "pedestrian walkway", "bike path"),
    "terrain": ("grass", "rolling hill", "soil", "sand", "gravel"),
    "manmade": (
        "man-made structure", "building", "wall", "guard rail", "fence", "pole", "drainage", "hydrant",
        "flag", "banner", "street sign", "electric circuit box", "traffic light", "parking meter", "stairs",
    ),
    "vegetation": ("bushes", "bush", "plants", "plant", "potted plant", "tree", "trees"),
}  # fmt: skip
"""The 74 queries of POP-3D for the classes of nuScenes."""

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
