"""What can be looked at: plain records of one keyframe's voxels and of a run, never a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, Real, UInt8

from lexivox.errors import ConfigError, ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.grounding.answer import Verdict
from lexivox.grounding.regions import Region

MAX_CLASSES = 256
LIDAR_HEIGHT_M = 1.84
"""Height of the roof LiDAR of nuScenes: where the ground lies in a ``"lidar"`` grid when nobody says."""


@dataclass(frozen=True, slots=True)
class ClassLayer:
    """A class for every voxel.

    Attributes:
        name: shown on the button, e.g. ``"classes"``.
        label: row of ``classes`` for every voxel.
        classes: names.
        palette: RGB of every class, 0..255.

    Raises:
        ShapeError: a label outside ``classes``, a palette of another length, more than 256 classes.
    """

    name: str
    label: Int[np.ndarray, "N"] | UInt8[np.ndarray, "N"]
    classes: tuple[str, ...]
    palette: UInt8[np.ndarray, "K 3"]

    def __post_init__(self) -> None:
        if not 0 < len(self.classes) <= MAX_CLASSES or len(self.palette) != len(self.classes):
            raise ShapeError(
                f"palette of layer {self.name!r} must hold a colour for each of 1 to {MAX_CLASSES} classes; "
                f"got {len(self.palette)} colours for {len(self.classes)} classes."
            )
        if self.label.size and not 0 <= self.label.min() <= self.label.max() < len(self.classes):
            raise ShapeError(
                f"labels of layer {self.name!r} must lie in 0..{len(self.classes) - 1}; "
                f"got {self.label.min()}..{self.label.max()}. Drop free and ignored voxels first."
            )

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True, slots=True)
class HeatLayer:
    """A score for every voxel, higher = fits the query better. NaN and -inf = no score, drawn as the lowest.

    Attributes:
        name: the query.
        regions: what was found, best first; drawn as boxes.
        verdict: whether it is here at all, ``None`` where nobody knows.
    """

    name: str
    score: Float[np.ndarray, "N"]
    regions: tuple[Region, ...] = ()
    verdict: Verdict | None = None

    def __len__(self) -> int:
        return len(self.score)


Layer = ClassLayer | HeatLayer


@dataclass(frozen=True, slots=True)
class VoxelSet:
    """Occupied voxels under a name, e.g. the truth, with their layers.

    Raises:
        ShapeError: a layer of another length.
    """

    name: str
    index: Int[np.ndarray, "N 3"]
    layers: tuple[Layer, ...] = ()

    def __post_init__(self) -> None:
        check_layers(self.index, self.layers)


@dataclass(frozen=True, slots=True)
class Pinhole:
    """How a camera looks at the grid; pixels are those of its image."""

    image_from_cam: Float[np.ndarray, "3 3"]
    cam_from_grid: RigidTransform


@dataclass(frozen=True, slots=True)
class NamedImage:
    """A camera image: bytes of a JPEG or PNG file, or RGB pixels. With a pinhole the map can be seen through it."""

    name: str
    data: bytes | UInt8[np.ndarray, "H W 3"]
    pinhole: Pinhole | None = None


@dataclass(frozen=True, slots=True)
class PointCloud:
    """Points in metres of the grid's frame; ``color`` is RGB 0..255, or ``None`` to colour by height."""

    xyz: Float[np.ndarray, "P 3"]
    color: UInt8[np.ndarray, "P 3"] | None = None


@dataclass(frozen=True, slots=True)
class VoxelScene:
    """One keyframe to look at.

    Attributes:
        grid: where the voxels lie; its frame says which way is forward (ego: +x, lidar: +y).
        index: occupied voxels.
        layers: ways to colour them; the first is shown first.
        images: camera images, in any order.
        truth: a second set of voxels to compare with.
        points: a point cloud to lay over the voxels.
        title: e.g. drive and time.
        ground_z_m: height of the ground in the grid's frame; by default 0 in ego, -1.84 in lidar grids.

    Raises:
        ShapeError: an index outside the grid, or a layer of another length.
    """

    grid: VoxelGrid
    index: Int[np.ndarray, "N 3"]
    layers: tuple[Layer, ...] = ()
    images: tuple[NamedImage, ...] = ()
    truth: VoxelSet | None = None
    points: PointCloud | None = None
    title: str = ""
    ground_z_m: float | None = None

    def __post_init__(self) -> None:
        check_layers(self.index, self.layers)
        check_inside(self.grid, self.index)
        if self.truth is not None:
            check_inside(self.grid, self.truth.index)

    @property
    def ground_m(self) -> float:
        if self.ground_z_m is not None:
            return self.ground_z_m
        return 0.0 if self.grid.frame == "ego" else -LIDAR_HEIGHT_M

    def voxels(self, truth: bool = False) -> VoxelSet:
        """The predicted voxels, or the truth.

        Raises:
            ConfigError: the truth of a scene without one.
        """
        if not truth:
            return VoxelSet("prediction", self.index, self.layers)
        if self.truth is None:
            raise ConfigError("truth must be given to be shown; got a scene without one.")
        return self.truth


def layer_named(voxels: VoxelSet, name: str | None) -> Layer | None:
    """The layer called ``name``; the first for ``None``; ``None`` when there are no layers at all.

    Raises:
        ConfigError: no layer of that name.
    """
    if name is None:
        return voxels.layers[0] if voxels.layers else None
    for layer in voxels.layers:
        if layer.name == name:
            return layer
    known = ", ".join(repr(layer.name) for layer in voxels.layers) or "none"
    raise ConfigError(f"layer must be one of the {voxels.name}'s; got {name!r}. It has: {known}.")


def check_layers(index: np.ndarray, layers: tuple[Layer, ...]) -> None:
    if index.ndim != 2 or index.shape[1] != 3:
        raise ShapeError(f"index of voxels must have the shape (N, 3); got {index.shape}.")
    for layer in layers:
        if len(layer) != len(index):
            raise ShapeError(
                f"layer {layer.name!r} must hold a value per voxel; got {len(layer)} for {len(index)} voxels."
            )


def check_inside(grid: VoxelGrid, index: np.ndarray) -> None:
    if len(index) and ((index < 0).any() or (index >= np.asarray(grid.shape)).any()):
        low, high = index.min(axis=0).tolist(), index.max(axis=0).tolist()
        raise ShapeError(f"index of voxels must lie in the grid of {grid.shape}; got {low} to {high}.")


# ------------------------------------------------------------------------------------------- a run as a whole


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores in rows and columns. ``None`` = not measured, shown as a dash; floats are shown with 3 digits.

    Raises:
        ShapeError: a row of another length than the columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | int | str | None, ...]]
    note: str = ""

    def __post_init__(self) -> None:
        for name, cells in self.rows.items():
            if len(cells) != len(self.columns):
                rule = f"row {name!r} of table {self.title!r} must have {len(self.columns)} cells"
                raise ShapeError(f"{rule}; got {len(cells)}.")


@dataclass(frozen=True, slots=True)
class QueryResult:
    """How well one text query was answered: average precision against a random ranking, both in 0..1.

    ``layer`` is the heat layer of the scenes that shows it.
    """

    text: str
    average_precision: float | None
    random_precision: float | None
    layer: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A logged quantity over training steps."""

    name: str
    steps: Real[np.ndarray, "S"]
    values: Float[np.ndarray, "S"]


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything of a run that a person wants to see on one page.

    ``pictures`` are shown below each other under their names, ``charts`` are SVG documents.
    """

    title: str
    scenes: tuple[VoxelScene, ...] = ()
    tables: tuple[ScoreTable, ...] = ()
    queries: tuple[QueryResult, ...] = ()
    curves: tuple[Curve, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    charts: tuple[str, ...] = ()
    pictures: tuple[NamedImage, ...] = ()
