"""Class tables of the occupancy and LiDAR benchmarks, with their raw codes: the second page of class numbers.

The tables of the data sets that lexivox trains on stand in :mod:`lexivox.data.classes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from lexivox.data.classes import NUSCENES16, NUSCENES16_FROM_RAW, NUSCENES_RAW, ClassTable, LabelMap, label_map
from lexivox.errors import ConfigError, DataError

_SIXTEEN, _SIXTEEN_COLORS = NUSCENES16.names[1:17], NUSCENES16.palette[1:17]
_WHITE = (255, 255, 255)

OCC3D = ClassTable(
    name="occ3d",
    names=("others", *_SIXTEEN, "free"),
    free=17,
    ignore=255,
    things=frozenset(range(1, 11)),
    palette=((120, 120, 120), *_SIXTEEN_COLORS, _WHITE),
)
"""Occ3D-nuScenes, numbered as in ``labels.npz``. "others" is a class of its own and is scored."""

OPENOCCUPANCY = ClassTable(
    name="openoccupancy",
    names=("free", *_SIXTEEN),
    free=0,
    ignore=255,
    things=frozenset(range(1, 11)),
    palette=(_WHITE, *_SIXTEEN_COLORS),
)
"""nuScenes-Occupancy of OpenOccupancy once loaded: 0 in a *file* is noise and becomes ``ignore`` (255)."""

SURROUNDOCC = ClassTable(
    name="surroundocc",
    names=("free", *_SIXTEEN),
    free=0,
    ignore=255,
    things=frozenset(range(1, 11)),
    palette=(_WHITE, *_SIXTEEN_COLORS),
)
"""SurroundOcc once loaded; voxels that a file does not list are free."""

NUSCENES10 = ClassTable(
    name="nuscenes10",
    names=(
        "car", "truck", "construction_vehicle", "bus", "trailer", "barrier", "motorcycle", "bicycle",
        "pedestrian", "traffic_cone",
    ),
    free=None,
    ignore=255,
    things=frozenset(range(10)),
    palette=tuple(
        NUSCENES16.palette[NUSCENES16.index_of(name)]
        for name in (
            "car", "truck", "construction_vehicle", "bus", "trailer", "barrier", "motorcycle", "bicycle",
            "pedestrian", "traffic_cone",
        )
    ),
)  # fmt: skip
"""The ten classes of the nuScenes detection task, in the order of its results."""

NUSCENES16_POINTS = ClassTable(
    name="nuscenes16_points",
    names=NUSCENES16.names[:17],
    free=None,
    ignore=NUSCENES16.ignore,
    things=NUSCENES16.things,
    palette=NUSCENES16.palette[:17],
)
"""The sixteen classes of the nuScenes lidarseg and panoptic challenges, for points; 0 is not scored."""

NUSCENES16_POINTS_FROM_RAW = LabelMap(NUSCENES_RAW, NUSCENES16_POINTS, NUSCENES16_FROM_RAW.table)

SEMANTICKITTI = ClassTable(
    name="semantickitti",
    names=(
        "unlabeled", "car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist",
        "motorcyclist", "road", "parking", "sidewalk", "other-ground", "building", "fence", "vegetation",
        "trunk", "terrain", "pole", "traffic-sign",
    ),
    free=None,
    ignore=0,
    things=frozenset(range(1, 9)),
    palette=(
        (0, 0, 0), (100, 150, 245), (100, 230, 245), (30, 60, 150), (80, 30, 180), (0, 0, 255),
        (255, 30, 30), (255, 40, 200), (150, 30, 90), (255, 0, 255), (255, 150, 255), (75, 0, 75),
        (175, 0, 75), (255, 200, 0), (255, 120, 50), (0, 175, 0), (135, 60, 0), (150, 240, 80),
        (255, 240, 150), (255, 0, 0),
    ),
)  # fmt: skip
"""The nineteen classes of SemanticKITTI for points; 0 is not scored."""

SEMANTICKITTI_MAP = ClassTable(
    name="semantickitti_map",
    names=(*SEMANTICKITTI.names, "free"),
    free=20,
    ignore=0,
    things=SEMANTICKITTI.things,
    palette=(*SEMANTICKITTI.palette, _WHITE),
)
"""The same numbers with free space, for maps that are scored against labelled points."""

SEMANTICKITTI_VOXELS = ClassTable(
    name="semantickitti_voxels",
    names=("free", *SEMANTICKITTI.names[1:]),
    free=0,
    ignore=255,
    things=SEMANTICKITTI.things,
    palette=(_WHITE, *SEMANTICKITTI.palette[1:]),
)
"""SemanticKITTI scene completion: 0 means free in a volume, and what has no class is ignored."""

SEMANTICKITTI_RAW = ClassTable(
    name="semantickitti_raw",
    names=(
        "unlabeled", "outlier", "car", "bicycle", "bus", "motorcycle", "on-rails", "truck", "other-vehicle",
        "person", "bicyclist", "motorcyclist", "road", "parking", "sidewalk", "other-ground", "building",
        "fence", "other-structure", "lane-marking", "vegetation", "trunk", "terrain", "pole",
        "traffic-sign", "other-object", "moving-car", "moving-bicyclist", "moving-person",
        "moving-motorcyclist", "moving-on-rails", "moving-bus", "moving-truck", "moving-other-vehicle",
    ),
    free=None,
    ignore=0,
    things=frozenset({*range(2, 12), *range(26, 34)}),
    palette=(
        (0, 0, 0), (255, 0, 0), (100, 150, 245), (100, 230, 245), (100, 80, 250), (30, 60, 150),
        (0, 0, 255), (80, 30, 180), (0, 0, 255), (255, 30, 30), (255, 40, 200), (150, 30, 90),
        (255, 0, 255), (255, 150, 255), (75, 0, 75), (175, 0, 75), (255, 200, 0), (255, 120, 50),
        (255, 150, 0), (150, 255, 170), (0, 175, 0), (135, 60, 0), (150, 240, 80), (255, 240, 150),
        (255, 0, 0), (50, 255, 255), (100, 150, 245), (255, 40, 200), (255, 30, 30), (150, 30, 90),
        (0, 0, 255), (100, 80, 250), (80, 30, 180), (0, 0, 255),
    ),
)  # fmt: skip
"""SemanticKITTI as labelled, thirty-four classes; :data:`SEMANTICKITTI_CODES` holds their numbers on disk."""


@dataclass(frozen=True, slots=True)
class RawCodes:
    """The numbers that a format writes for the classes of a table whose numbers have gaps.

    Raises:
        ConfigError: not one code per class, or a code twice.
    """

    table: ClassTable
    codes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(set(self.codes)) != self.table.num_classes:
            raise ConfigError(
                f"codes of {self.table.name} must be {self.table.num_classes} and differ; got {self.codes}."
            )

    def decode(self, code: Int64[Tensor, "*shape"], path: str | Path = "") -> Int64[Tensor, "*shape"]:
        """Codes on disk to classes of the table.

        Args:
            path: of the file, for the error.

        Raises:
            DataError: a code that no class has.
        """
        lookup = torch.full((max(self.codes) + 1,), -1)
        lookup[list(self.codes)] = torch.arange(len(self.codes))
        strange = (code < 0) | (code >= len(lookup))
        label = lookup[code.clamp(0, len(lookup) - 1)]
        strange |= label < 0
        if bool(strange.any()):
            raise DataError(
                f"labels must be codes of {self.table.name}; got {code[strange].unique().tolist()[:5]}. "
                f"Check that the file belongs to this data set{f': {path}' if path else '.'}"
            )
        return label

    def encode(self, label: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
        """Classes of the table to codes on disk.

        Raises:
            DataError: a number that is no class of the table.
        """
        if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < len(self.codes):
            raise DataError(
                f"classes to write must be 0 to {len(self.codes) - 1}, those of {self.table.name}; "
                f"got {int(label.min())} to {int(label.max())}. Map them first."
            )
        return torch.tensor(self.codes)[label]


SEMANTICKITTI_CODES = RawCodes(
    SEMANTICKITTI_RAW,
    (
        0, 1, 10, 11, 13, 15, 16, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 52, 60, 70, 71, 72, 80, 81, 99,
        252, 253, 254, 255, 256, 257, 258, 259,
    ),
)  # fmt: skip

SEMANTICKITTI_FROM_RAW = LabelMap(
    SEMANTICKITTI_RAW,
    SEMANTICKITTI,
    (0, 0, 1, 2, 5, 3, 5, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0, 9, 15, 16, 17, 18, 19, 0, 1, 7, 6, 8, 5, 5, 4, 5),
)

SEMANTICKITTI_TO_RAW = label_map(
    SEMANTICKITTI, SEMANTICKITTI_RAW, {name: [name] for name in SEMANTICKITTI.names if name != "unlabeled"}
)
"""The raw class that a submission writes for each of the nineteen (spec ovpanoptic 6.6)."""

_SAME_SIXTEEN = {name: [name] for name in _SIXTEEN}

OCC3D_FROM_NUSCENES16 = label_map(NUSCENES16, OCC3D, {**_SAME_SIXTEEN, "free": ["free"]})
"""Noise becomes ``ignore``: which of it Occ3D calls "others" only the raw classes tell."""

NUSCENES16_FROM_OCC3D = label_map(OCC3D, NUSCENES16, {**_SAME_SIXTEEN, "free": ["free"], "noise": ["others"]})
OPENOCCUPANCY_FROM_NUSCENES16 = label_map(NUSCENES16, OPENOCCUPANCY, {**_SAME_SIXTEEN, "free": ["free"]})
NUSCENES16_FROM_OPENOCCUPANCY = label_map(OPENOCCUPANCY, NUSCENES16, {**_SAME_SIXTEEN, "free": ["free"]})
SURROUNDOCC_FROM_NUSCENES16 = label_map(NUSCENES16, SURROUNDOCC, {**_SAME_SIXTEEN, "free": ["free"]})
NUSCENES16_FROM_SURROUNDOCC = label_map(SURROUNDOCC, NUSCENES16, {**_SAME_SIXTEEN, "free": ["free"]})
NUSCENES16_FROM_NUSCENES10 = label_map(NUSCENES10, NUSCENES16, {name: [name] for name in NUSCENES10.names})

NOVEL_CLASSES = {
    "nuscenes-12-4": ("bus", "pedestrian", "motorcycle", "vegetation"),
    "nuscenes-11-5": ("bicycle", "car", "construction_vehicle", "terrain", "manmade"),
    "semantickitti-14-5": ("bicycle", "truck", "sidewalk", "building", "trunk"),
}
"""Classes that open-vocabulary panoptic segmentation is not told of, by base and novel ones (spec ovpanoptic 3).

Neither benchmark has an official split; parts of these are recollected from figures, so every report prints them.
"""

CLASS_TABLES = {
    table.name: table
    for table in (
        NUSCENES16, NUSCENES16_POINTS, NUSCENES10, OCC3D, OPENOCCUPANCY, SURROUNDOCC, SEMANTICKITTI, SEMANTICKITTI_MAP,
        SEMANTICKITTI_VOXELS, SEMANTICKITTI_RAW,
    )
}  # fmt: skip
