"""Class tables of the benchmarks and the maps between them: the only place that writes class numbers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from lexivox.errors import ConfigError, DataError

RGB = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The classes of one benchmark; a class's number is its place in ``names``.

    Attributes:
        name: of the benchmark, as written in reports.
        names: one for each class, all different.
        free: the class that means "nothing is here", ``None`` where the labels are of points, not of space.
        ignore: the class that no metric counts. May lie outside ``names`` (255 in Cityscapes).
        things: classes with countable instances.
        palette: a colour for each class, 0..255.

    Raises:
        ConfigError: names repeat, colours and names differ in number, or a number names no class.
    """

    name: str
    names: tuple[str, ...]
    free: int | None
    ignore: int
    things: frozenset[int]
    palette: tuple[RGB, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ConfigError(f"names of {self.name} must all differ; got {self.names}.")
        if len(self.palette) != len(self.names):
            raise ConfigError(f"palette of {self.name} must hold {len(self.names)} colours; got {len(self.palette)}.")
        known = range(len(self.names))
        if (self.free is not None and self.free not in known) or any(i not in known for i in self.things):
            raise ConfigError(
                f"free and things of {self.name} must be below {len(self.names)}; "
                f"got {self.free} and {sorted(self.things)}."
            )

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def evaluated(self) -> tuple[int, ...]:
        """Classes that a semantic score averages over: all but ``ignore`` and ``free``."""
        return tuple(i for i in range(self.num_classes) if i not in (self.ignore, self.free))

    @property
    def evaluated_names(self) -> tuple[str, ...]:
        return tuple(self.names[i] for i in self.evaluated)

    def index_of(self, name: str) -> int:
        """The number of a class.

        Raises:
            ConfigError: no class has this name; the message says which come close.
        """
        if name in self.names:
            return self.names.index(name)
        close = difflib.get_close_matches(name.lower(), self.names, n=3, cutoff=0.5)
        advice = f"Did you mean {' or '.join(close)}?" if close else f"Choose from {', '.join(self.names)}."
        raise ConfigError(f"class must be one of {self.name}; got {name!r}. {advice}")

    def colors(self, device: torch.device | str = "cpu") -> UInt8[Tensor, "K 3"]:
        return torch.tensor(self.palette, dtype=torch.uint8, device=device)


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Renames classes: class ``i`` of ``source`` becomes ``table[i]`` of ``target``.

    Raises:
        ConfigError: the table does not fit the two class tables.
    """

    source: ClassTable
    target: ClassTable
    table: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.table) != self.source.num_classes:
            raise ConfigError(
                f"a map from {self.source.name} must hold {self.source.num_classes} numbers; got {len(self.table)}."
            )
        allowed = {*range(self.target.num_classes), self.target.ignore}
        if not allowed.issuperset(self.table):
            raise ConfigError(f"a map to {self.target.name} must name its classes; got {self.table}.")

    def apply(self, label: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
        """Labels of ``source`` as labels of ``target``.

        Raises:
            DataError: a label is no class of ``source``.
        """
        if label.numel() and (label.min() < 0 or label.max() >= len(self.table)):
            raise DataError(
                f"labels must be classes of {self.source.name}, 0 to {len(self.table) - 1}; "
                f"got {int(label.min())} to {int(label.max())}."
            )
        return torch.tensor(self.table, device=label.device)[label]

    @property
    def unmapped(self) -> tuple[str, ...]:
        """The classes that have no class in ``target`` and are ignored there, though they are not ignored here."""
        return tuple(
            name
            for number, (name, to) in enumerate(zip(self.source.names, self.table, strict=True))
            if to == self.target.ignore and number != self.source.ignore
        )

    def then(self, other: LabelMap) -> LabelMap:
        """This map and another one after it. What either ignores stays ignored.

        Raises:
            ConfigError: the other one does not start where this one ends.
        """
        if other.source != self.target:
            raise ConfigError(f"a map to follow must start from {self.target.name}; got {other.source.name}.")
        further = dict(enumerate(other.table))
        table = tuple(other.target.ignore if to == self.target.ignore else further[to] for to in self.table)
        return LabelMap(self.source, other.target, table)


def label_map(source: ClassTable, target: ClassTable, groups: Mapping[str, Sequence[str]]) -> LabelMap:
    """A map written as ``{target class: source classes}``; classes left out become ``target.ignore``."""
    table = [target.ignore] * source.num_classes
    for name, members in groups.items():
        for member in members:
            table[source.index_of(member)] = target.index_of(name)
    return LabelMap(source, target, tuple(table))


NUSCENES16 = ClassTable(
    name="nuscenes16",
    names=(
        "noise", "barrier", "bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian",
        "traffic_cone", "trailer", "truck", "driveable_surface", "other_flat", "sidewalk", "terrain",
        "manmade", "vegetation", "free",
    ),
    free=17,
    ignore=0,
    things=frozenset(range(1, 11)),
    palette=(
        (0, 0, 0), (255, 120, 50), (255, 192, 203), (255, 255, 0), (0, 150, 245), (0, 255, 255),
        (255, 127, 0), (255, 0, 0), (255, 240, 150), (135, 60, 0), (160, 32, 240), (255, 0, 255),
        (139, 137, 137), (75, 0, 75), (150, 240, 80), (230, 230, 250), (0, 175, 0), (255, 255, 255),
    ),
)  # fmt: skip
"""The sixteen classes of nuScenes-lidarseg with free space, numbered as in POP-3D."""

_NUSCENES16_TABLE = (
    0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0,
)  # fmt: skip

NUSCENES_RAW = ClassTable(
    name="nuscenes_raw",
    names=(
        "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child",
        "human.pedestrian.construction_worker", "human.pedestrian.personal_mobility",
        "human.pedestrian.police_officer", "human.pedestrian.stroller", "human.pedestrian.wheelchair",
        "movable_object.barrier", "movable_object.debris", "movable_object.pushable_pullable",
        "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle", "vehicle.bus.bendy",
        "vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance",
        "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck",
        "flat.driveable_surface", "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade",
        "static.other", "static.vegetation", "vehicle.ego",
    ),
    free=None,
    ignore=0,
    things=frozenset(range(1, 24)),
    palette=(
        (0, 0, 0), (70, 130, 180), (0, 0, 230), (135, 206, 235), (100, 149, 237), (219, 112, 147), (0, 0, 128),
        (240, 128, 128), (138, 43, 226), (112, 128, 144), (210, 105, 30), (105, 105, 105), (47, 79, 79),
        (188, 143, 143), (220, 20, 60), (255, 127, 80), (255, 69, 0), (255, 158, 0), (233, 150, 70), (255, 83, 0),
        (255, 215, 0), (255, 61, 99), (255, 140, 0), (255, 99, 71), (0, 207, 191), (175, 0, 75), (75, 0, 75),
        (112, 180, 60), (222, 184, 135), (255, 228, 196), (0, 175, 0), (255, 240, 245),
    ),
)  # fmt: skip
"""nuScenes-lidarseg as stored on disk, in the colours of nuscenes-devkit 1.2.0."""

NUSCENES16_FROM_RAW = LabelMap(NUSCENES_RAW, NUSCENES16, _NUSCENES16_TABLE)

CITYSCAPES19 = ClassTable(
    name="cityscapes19",
    names=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle",
        "bicycle",
    ),
    free=None,
    ignore=255,
    things=frozenset(range(11, 19)),
    palette=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip
"""The nineteen evaluation classes of Cityscapes in the order of their training numbers."""

PANDASET9 = ClassTable(
    name="pandaset9",
    names=(
        "ignored", "road", "sidewalk", "building", "vegetation", "car", "truck", "pedestrian",
        "two_wheeler", "static_object", "free",
    ),
    free=10,
    ignore=0,
    things=frozenset({5, 6, 7, 8}),
    palette=(
        (0, 0, 0), (128, 64, 128), (244, 35, 232), (230, 200, 160), (60, 160, 50), (0, 110, 240),
        (150, 60, 220), (220, 20, 60), (255, 150, 0), (250, 220, 60), (255, 255, 255),
    ),
)  # fmt: skip
"""PandaSet for a teacher that knows Cityscapes: what both label, under the definitions of Cityscapes."""

PANDASET_RAW = ClassTable(
    name="pandaset_raw",
    names=(
        "Unlabelled", "Smoke", "Exhaust", "Spray or rain", "Reflection", "Vegetation", "Ground", "Road",
        "Lane Line Marking", "Stop Line Marking", "Other Road Marking", "Sidewalk", "Driveway", "Car",
        "Pickup Truck", "Medium-sized Truck", "Semi-truck", "Towed Object", "Motorcycle",
        "Other Vehicle - Construction Vehicle", "Other Vehicle - Uncommon", "Other Vehicle - Pedicab",
        "Emergency Vehicle", "Bus", "Personal Mobility Device", "Motorized Scooter", "Bicycle", "Train",
        "Trolley", "Tram / Subway", "Pedestrian", "Pedestrian with Object", "Animals - Bird",
        "Animals - Other", "Pylons", "Road Barriers", "Signs", "Cones", "Construction Signs",
        "Temporary Construction Barriers", "Rolling Containers", "Building", "Other Static Object",
    ),
    free=None,
    ignore=0,
    things=frozenset(range(13, 41)),
    # Multiples of numbers without a common factor: 43 colours that differ, without a list to keep.
    palette=((0, 0, 0), *((67 * i % 256, 131 * i % 256, 199 * i % 256) for i in range(1, 43))),
)  # fmt: skip
"""PandaSet semantics as stored on disk, 1 to 42. "Reflection" holds the returns of the own car.

No palette of them is published; ours is derived.
"""

PANDASET9_FROM_RAW = label_map(
    PANDASET_RAW,
    PANDASET9,
    {
        "road": ["Road", "Lane Line Marking", "Stop Line Marking", "Other Road Marking"],
        "sidewalk": ["Sidewalk", "Driveway"],
        "building": ["Building"],
        "vegetation": ["Vegetation"],
        "car": ["Car"],
        # Cityscapes calls a pick-up a truck: its loading area is apart from the cabin.
        "truck": [
            "Pickup Truck", "Medium-sized Truck", "Semi-truck", "Towed Object", "Bus", "Train", "Trolley",
            "Tram / Subway", "Other Vehicle - Construction Vehicle",
        ],
        "pedestrian": ["Pedestrian", "Pedestrian with Object"],
        "two_wheeler": ["Motorcycle", "Motorized Scooter", "Bicycle", "Personal Mobility Device"],
        "static_object": [
            "Pylons", "Road Barriers", "Signs", "Cones", "Construction Signs",
            "Temporary Construction Barriers", "Rolling Containers", "Other Static Object",
        ],
    },
)  # fmt: skip
