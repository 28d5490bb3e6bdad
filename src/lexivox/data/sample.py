"""Keyframes in the frames of their sensors: what readers give, import it from :mod:`lexivox.data.types`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

T = TypeVar("T")


class Movable:
    """Moves every tensor of a frozen dataclass to a device or dtype-preserving target."""

    __slots__ = ()

    def to(self: T, device: torch.device | str) -> T:
        moved = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Tensor | RigidTransform | Movable):
                moved[field.name] = value.to(device)
            elif isinstance(value, tuple) and value and isinstance(value[0], Movable):
                moved[field.name] = tuple(item.to(device) for item in value)
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True)
class CameraView(Movable):
    """One camera image of a keyframe.

    Attributes:
        name: e.g. ``"CAM_FRONT"``.
        image: RGB, 0..255; floats only after an augmentation that does not clip. C = 3, or 0 where nobody asked for
            the pixels: such an image has a size but no memory.
        image_from_cam: intrinsics in pixels; the first pixel's centre is at 0.5.
        ego_from_cam: camera at *its own* exposure to ego at the *keyframe's* time: the motion of the car between
            the two is already inside.
        timestamp_ns: exposure.
    """

    name: str
    image: UInt8[Tensor, "C H W"] | Float[Tensor, "C H W"]
    image_from_cam: Float[Tensor, "3 3"]
    ego_from_cam: RigidTransform
    timestamp_ns: int

    @property
    def image_hw(self) -> tuple[int, int]:
        return int(self.image.shape[-2]), int(self.image.shape[-1])

    @property
    def has_image(self) -> bool:
        return self.image.shape[0] > 0


@dataclass(frozen=True, slots=True)
class LidarSweep(Movable):
    """A point cloud. In a ``Sample`` it is in the sensor's own frame (origin = where the rays start).

    In a ``Batch`` it is in the grid's frame and ``batch`` says to which sample each point belongs.
    """

    xyz: Float[Tensor, "P 3"]
    intensity: Float[Tensor, "P"]
    ring: Int64[Tensor, "P"]
    batch: Int64[Tensor, "P"]

    @property
    def num_points(self) -> int:
        return int(self.xyz.shape[0])


@dataclass(frozen=True, slots=True)
class Boxes(Movable):
    """Labelled cuboids, in the ego frame of a ``Sample`` or the grid's frame of a ``Batch``.

    ``size_m`` is length, width, height along the box's own x, y, z; ``velocity`` in m/s, NaN where unknown; ``track``
    is one number per object for the whole drive.
    """

    center: Float[Tensor, "N 3"]
    size_m: Float[Tensor, "N 3"]
    yaw_rad: Float[Tensor, "N"]
    velocity: Float[Tensor, "N 2"]
    label: Int64[Tensor, "N"]
    track: Int64[Tensor, "N"]


@dataclass(frozen=True, slots=True)
class PointLabels(Movable):
    """Per-point truth of a sweep: class in the data set's ``ClassTable`` (0 = ignore) and instance (0 = none)."""

    label: Int64[Tensor, "P"]
    instance: Int64[Tensor, "P"]


@dataclass(frozen=True, slots=True)
class VoxelLabels(Movable):
    """Complete truth on a grid, as a simulator knows it: class of every voxel and its motion.

    Attributes:
        grid: where the volume lies.
        label: class of each voxel, ``free_label`` where nothing is.
        flow: metres per second along x, y of the grid frame; 0 where nothing moves.
        free_label: the class number that means free.
        seen_by_lidar, seen_by_camera: True where a ray of the sensor reached the voxel; None where nobody says.
    """

    grid: VoxelGrid
    label: Int64[Tensor, "X Y Z"]
    flow: Float[Tensor, "X Y Z 2"]
    free_label: int
    seen_by_lidar: Bool[Tensor, "X Y Z"] | None = None
    seen_by_camera: Bool[Tensor, "X Y Z"] | None = None


@dataclass(frozen=True, slots=True)
class PointFeatures(Movable):
    """What a frozen teacher says about some points of a sweep.

    Attributes:
        index: rows of ``Sample.lidar`` that at least one view sees; each once, or once for every view.
        feature: the teacher's feature there, as a unit vector or as it is.
        weight: how much each point counts in training; mean 1.
    """

    index: Int64[Tensor, "N"]
    feature: Float[Tensor, "N D"]
    weight: Float[Tensor, "N"]


@dataclass(frozen=True, slots=True)
class Sample(Movable):
    """One keyframe, in sensor frames. Ego: x forward, y left, z up, on the ground under the rear axle.

    ``global_from_ego`` and ``timestamp_ns`` are those of the LiDAR sweep. Labels are ``None`` where the data set
    has none or where they were not asked for.
    """

    token: str
    drive: str
    timestamp_ns: int
    views: tuple[CameraView, ...]
    lidar: LidarSweep
    ego_from_lidar: RigidTransform
    global_from_ego: RigidTransform
    point_labels: PointLabels | None = None
    boxes: Boxes | None = None
    voxel_labels: VoxelLabels | None = None
    point_features: PointFeatures | None = None


@dataclass(frozen=True, slots=True)
class Clip(Movable):
    """Keyframes of one drive around a current one; a plain ``Sample`` is a clip of one.

    Attributes:
        current: the keyframe that everything is asked about.
        offsets: of the others, in keyframes, ascending, never 0; only those that the drive has.
        others: their samples. Views have no pixels where nobody asked for them (``CameraView.has_image``).
    """

    current: Sample
    offsets: tuple[int, ...] = ()
    others: tuple[Sample, ...] = ()


@runtime_checkable
class SampleDataset(Protocol):
    """What a reader offers: keyframes by number, in order of drive and time, read when asked for."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> object: ...  # lexivox.data.classes.ClassTable
    @property
    def tokens(self) -> Sequence[str]: ...
    @property
    def drives(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
    def __iter__(self) -> Iterator[Sample]: ...
