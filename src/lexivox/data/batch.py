"""Batches in the frame of a grid: what encoders and supervisions see, import it from :mod:`lexivox.data.types`."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from lexivox.data.motion import Motion
from lexivox.data.sample import Boxes, LidarSweep, Movable, VoxelLabels
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

FREE, OCCUPIED, IGNORED = 0, 1, 255
"""Values of an occupancy volume."""


@dataclass(frozen=True, slots=True)
class Cameras(Movable):
    """The cameras of a batch: images of one size, geometry relative to the grid's frame. C is 3, or 0: no pixels."""

    images: UInt8[Tensor, "B V C H W"] | Float[Tensor, "B V C H W"]
    image_from_cam: Float[Tensor, "B V 3 3"]
    cam_from_grid: RigidTransform
    names: tuple[str, ...]

    @property
    def image_hw(self) -> tuple[int, int]:
        return int(self.images.shape[-2]), int(self.images.shape[-1])

    @property
    def has_images(self) -> bool:
        return self.images.shape[2] > 0


@dataclass(frozen=True, slots=True)
class LanguageTargets(Movable):
    """Teacher features at LiDAR points, in the grid's frame; rows as in :class:`PointFeatures`.

    ``point`` is the row of each in the packed ``LidarSweep``; None for means of several.
    """

    xyz: Float[Tensor, "P 3"]
    batch: Int64[Tensor, "P"]
    feature: Float[Tensor, "P D"]
    weight: Float[Tensor, "P"]
    point: Int64[Tensor, "P"] | None = None


@dataclass(frozen=True, slots=True)
class LabelledPoints(Movable):
    """Truth at chosen places (voxel centres, LiDAR points), in the grid's frame. IGNORED = not known there."""

    xyz: Float[Tensor, "N 3"]
    batch: Int64[Tensor, "N"]
    label: Int64[Tensor, "N"]
    weight: Float[Tensor, "N"] | None = None


@dataclass(frozen=True, slots=True)
class Rays(Movable):
    """From a sensor to what it saw, in the grid's frame.

    Attributes:
        origins, directions: metres, and unit vectors.
        depth_m: from the origin to the return.
        batch: the sample of each ray.
        offset, time_s: the keyframe it was sensed at, and the seconds from the current one to it.
        label: class of the return, IGNORED where unknown.
        feature: what a teacher says about the return.
        weight: how much each ray counts in training.
    """

    origins: Float[Tensor, "R 3"]
    directions: Float[Tensor, "R 3"]
    depth_m: Float[Tensor, "R"]
    batch: Int64[Tensor, "R"]
    offset: Int64[Tensor, "R"]
    time_s: Float[Tensor, "R"]
    weight: Float[Tensor, "R"]
    label: Int64[Tensor, "R"] | None = None
    feature: Float[Tensor, "R D"] | None = None


@dataclass(frozen=True, slots=True)
class Moment(Movable):
    """What was sensed at one keyframe, in the grid's frame of the CURRENT one: the car moved, the world did not.

    Attributes:
        offset: in keyframes from the current one.
        time_s: seconds from the current keyframe to this one.
        is_present: False where the drive has no such keyframe. Those samples have no points and no boxes here, and
            the cameras of the current keyframe stand in for theirs.
        cameras: poses hold the car's motion; with pixels only where an encoder asked for this offset.
        lidar, lidar_origin: points, and where their rays start.
        point_label: class of every point (0 = ignore), None where no sample has labels.
        language: teacher features at points, None where no sample has them.
        boxes: of each sample, None where no sample has them.
        grid_from_own: of each sample, from the grid's frame as it was at that keyframe: how the car drove.
    """

    offset: int
    time_s: Float[Tensor, "B"]
    is_present: Bool[Tensor, "B"]
    cameras: Cameras
    lidar: LidarSweep
    lidar_origin: Float[Tensor, "B 3"]
    point_label: Int64[Tensor, "P"] | None = None
    language: LanguageTargets | None = None
    boxes: tuple[Boxes, ...] | None = None
    grid_from_own: RigidTransform | None = None


@dataclass(frozen=True, slots=True)
class Targets(Movable):
    """What a signal is trained towards. Each part is ``None`` when it did not ask for it.

    Before signals prepare, ``language`` and ``point_label`` are what was sensed.

    Attributes:
        occupancy: FREE, OCCUPIED or IGNORED at voxels, from LiDAR rays.
        language: teacher features at points.
        language_voxels: their means at the centres of the voxels that hold them.
        semantic: class at voxels (the table's free class included), from labels.
        semantic_points: class at LiDAR points, from labels.
        point_label: class of every point of ``Batch.lidar`` (0 = ignore), from labels.
        rays: of the current and the neighbouring keyframes.
        motion: of objects between the current and the neighbouring keyframes.
        ray_occupancy: FREE, OCCUPIED or IGNORED (no ray came by) at places along rays.
        ray_semantic, ray_language: class and teacher feature at returns of rays.
        dense: class at voxels (free included), from labels of voxels.
    """

    occupancy: LabelledPoints | None = None
    language: LanguageTargets | None = None
    language_voxels: LanguageTargets | None = None
    semantic: LabelledPoints | None = None
    semantic_points: LabelledPoints | None = None
    point_label: Int64[Tensor, "P"] | None = None
    rays: Rays | None = None
    motion: Motion | None = None
    ray_occupancy: LabelledPoints | None = None
    ray_semantic: LabelledPoints | None = None
    ray_language: LanguageTargets | None = None
    dense: LabelledPoints | None = None


@dataclass(frozen=True, slots=True)
class Batch(Movable):
    """Samples in ONE frame, ``grid.frame``. ``lidar_origin`` is where the rays of each sweep start.

    Attributes:
        around: neighbouring keyframes, ascending; those that at least one sample has.
        boxes: of each sample, in the grid's frame.
        voxel_labels: of each sample; all IGNORED where only others have them.
        signal_targets: of each training signal, in their order; two of a kind have two.
    """

    grid: VoxelGrid
    tokens: tuple[str, ...]
    cameras: Cameras
    lidar: LidarSweep
    lidar_origin: Float[Tensor, "B 3"]
    targets: Targets
    around: tuple[Moment, ...] = ()
    boxes: tuple[Boxes, ...] | None = None
    voxel_labels: tuple[VoxelLabels, ...] | None = None
    signal_targets: tuple[Targets, ...] = ()

    @property
    def size(self) -> int:
        return len(self.tokens)

    @property
    def now(self) -> Moment:
        """The current keyframe as one moment among the others."""
        time_s = self.lidar_origin.new_zeros(self.size)
        targets = (self.targets.point_label, self.targets.language, self.boxes)
        return Moment(0, time_s, time_s == 0, self.cameras, self.lidar, self.lidar_origin, *targets)

    def at(self, offset: int) -> Moment | None:
        """The moment of a keyframe; None where no sample has it."""
        return next((moment for moment in (self.now, *self.around) if moment.offset == offset), None)
