"""RayIoU: do rays from where the car has been meet the same class at the same distance? (SparseOcc 2024)

Voxel IoU rewards thick walls, which hide behind the camera mask; a ray sees only the front of things.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.dense import apart
from lexivox.evaluate.metric import Metric, naming, takes_arrays
from lexivox.evaluate.scores import Scores
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.first_hit import first_hits

THRESHOLDS_M = (1.0, 2.0, 4.0)
MAX_ORIGINS = 8
MAX_OFFSET_M = 39.0
"""Origins farther than this along x or y of the ego frame are left out."""


@cache
def ray_directions() -> Float[Tensor, "R 3"]:
    """The 14,040 unit directions of the benchmark: 39 elevations from -45 to 12.5 degrees, 360 azimuths.

    The first ten elevations hit flat ground at 1, 2 ... 10 sensor heights; the rest go on in equal steps.
    """
    elevation = [-math.atan(1.0 / k) for k in range(1, 11)]
    step = elevation[-1] - elevation[-2]
    while elevation[-1] < 0.21:
        elevation.append(elevation[-1] + step)
    pitch, azimuth = torch.meshgrid(
        torch.tensor(elevation, dtype=torch.float64), torch.arange(360).double().deg2rad(), indexing="ij"
    )
    flat = pitch.cos()
    return torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), pitch.sin()], -1).flatten(0, 1)


def ray_origins(ego_from_lidar_of_all: Float[Tensor, "N 3"]) -> Float[Tensor, "O 3"]:
    """Up to eight places of the LiDAR over a drive, in the ego frame of the keyframe that is scored.

    Args:
        ego_from_lidar_of_all: LiDAR origin of every keyframe of the drive in that frame, metres, in order of time.
    """
    near = (ego_from_lidar_of_all[:, :2].abs() < MAX_OFFSET_M).all(1)
    origins = ego_from_lidar_of_all[near]
    if len(origins) <= MAX_ORIGINS:
        return origins
    chosen = torch.linspace(0, len(origins) - 1, MAX_ORIGINS, dtype=torch.float64).round().long()
    return origins[chosen]


class RayMetric(Metric):
    """What metrics of rays share: volumes on one grid, rays cast into prediction and truth alike.

    Args:
        classes: a table with a free class.
        grid: of the volumes.

    Raises:
        ConfigError: the table has no free class.
    """

    def __init__(self, classes: ClassTable, grid: VoxelGrid, directions: Float[Tensor, "R 3"] | None = None) -> None:
        super().__init__()
        if classes.free is None:
            raise ConfigError(f"classes of RayIoU must include free; got {classes.name}.")
        self.classes, self.grid = classes, grid
        self.free: int = classes.free
        self.directions = ray_directions() if directions is None else directions

    @property
    def identity(self) -> str:
        return f"{self.protocol} {self.grid} {len(self.directions)} rays"

    def cast(
        self,
        prediction: Shaped[Tensor, "*X_Y_Z"],
        target: Shaped[Tensor, "*_"],
        origins: Float[Tensor, "O 3"],
        who: str,
    ) -> CastRays:
        """The rays that meet something in the truth.

        Raises:
            ShapeError: a volume that is not of the grid's shape, or an origin outside the grid.
            DataError: classes that the table does not have, or no finite origin.
        """
        for what, volume in (("prediction", prediction), ("label", target)):
            self._check(what, volume, who)
        if not len(origins) or not bool(origins.isfinite().all()):
            raise DataError(
                f"ray origins of {who} must be at least one and finite; got {origins.tolist()}. "
                "Give the places of the LiDAR in the grid's frame."
            )
        start = self.grid.coordinate_from_xyz(origins.double())
        with naming(who):
            said, said_m = self._first(prediction, start)
            true, true_m = self._first(target, start)
        label = target.reshape(-1)[true].long()
        counted = label != self.free
        said, true = said[counted], true[counted]
        said_label = prediction.reshape(-1)[said].long()
        return CastRays(said, true, said_label, label[counted], (said_m - true_m).abs()[counted])

    def _first(self, volume: Tensor, start: Float[Tensor, "O 3"]) -> tuple[Int64[Tensor, "N"], Float64[Tensor, "N"]]:
        """Flat voxel that every ray meets and the distance in metres at which it is left."""
        size_m = torch.tensor(self.grid.voxel_size_m, dtype=torch.float64)
        towards = self.directions * (size_m[0] / size_m)
        # In voxels a direction has length 1 only where these are cubes.
        length = torch.ones(1, 1) if bool((size_m == size_m[0]).all()) else towards.norm(dim=1, keepdim=True)
        voxel, distance = first_hits(volume != self.free, start, towards / length)
        return voxel.reshape(-1), (distance * (size_m[0] / length[:, 0])).reshape(-1)

    def _check(self, what: str, volume: Tensor, token: str) -> None:
        if tuple(volume.shape) != self.grid.shape:
            raise ShapeError(
                f"the {what} of {token} must have the grid's shape {self.grid.shape}; got {tuple(volume.shape)}. "
                "Bring it to the grid of the benchmark."
            )
        if volume.is_floating_point() or int(volume.min()) < 0 or int(volume.max()) >= self.classes.num_classes:
            raise DataError(
                f"classes of the {what} of {token} must be whole numbers from 0 to {self.classes.num_classes - 1}, "
                f"those of {self.classes.name}; got {volume.dtype} from {volume.min():g} to {volume.max():g}."
            )


@dataclass(frozen=True, slots=True)
class CastRays:
    """Rays whose truth is something: flat voxel and class of prediction and truth, and how far these lie apart."""

    said_voxel: Int64[Tensor, "N"]
    true_voxel: Int64[Tensor, "N"]
    said_label: Int64[Tensor, "N"]
    true_label: Int64[Tensor, "N"]
    error_m: Float64[Tensor, "N"]


class RayIouScore(RayMetric):
    """Accumulates RayIoU at 1, 2 and 4 m over samples, in integers. Arguments as :class:`RayMetric`."""

    counters = ("hits", "targets", "predictions", "found")

    def __init__(self, classes: ClassTable, grid: VoxelGrid, directions: Float[Tensor, "R 3"] | None = None) -> None:
        super().__init__(classes, grid, directions)
        K = classes.num_classes
        self.hits: Int64[Tensor, "T K"] = torch.zeros(len(THRESHOLDS_M), K, dtype=torch.int64)
        self.targets: Int64[Tensor, "K"] = torch.zeros(K, dtype=torch.int64)
        self.predictions: Int64[Tensor, "K"] = torch.zeros(K, dtype=torch.int64)
        self.found: Int64[Tensor, "T"] = torch.zeros(len(THRESHOLDS_M), dtype=torch.int64)

    @property
    def protocol(self) -> str:
        return f"rayiou/{self.classes.name}"

    @property
    def total(self) -> int:
        return int(self.targets.sum())

    @takes_arrays
    def update(
        self,
        prediction: Shaped[Tensor, "*X_Y_Z"],
        target: Shaped[Tensor, "*_"],
        origins: Float[Tensor, "O 3"],
        *,
        token: str = "",
    ) -> None:
        """Counts one sample: volumes of classes, and ray origins in metres of the grid's frame.

        Raises:
            ShapeError: a volume that is not of the grid's shape, or an origin outside the grid.
            DataError: classes that the table does not have, no origin, or a sample that was counted before.
        """
        with self.counting(token):
            rays = self.cast(prediction, target, origins, token or "a sample")
            K = self.classes.num_classes
            self.targets += torch.bincount(rays.true_label, minlength=K)
            self.predictions += torch.bincount(rays.said_label, minlength=K)
            same, is_found = rays.said_label == rays.true_label, rays.said_label != self.free
            for row, threshold_m in enumerate(THRESHOLDS_M):
                near = rays.error_m < threshold_m
                self.hits[row] += torch.bincount(rays.true_label[same & near], minlength=K)
                self.found[row] += (is_found & near).sum()

    def iou(self) -> Float64[Tensor, "T K"]:
        """Per threshold and class; NaN where a class is neither true nor predicted."""
        union = self.targets + self.predictions - self.hits
        return torch.where(union > 0, self.hits / union.double(), torch.nan)

    def compute(self) -> Scores:
        """``rayiou`` is the mean over thresholds and classes without free, ``rayiou_1m`` ... those of one threshold.

        ``rayiou_dynamic`` and ``rayiou_static`` are the means over the classes that move by themselves and the others;
        ``rayiou_occupied`` asks only whether something is met at the right distance.
        """
        evaluated = list(self.classes.evaluated)
        iou = self.iou()[:, evaluated]
        values = {"rayiou": float(iou.nanmean()), **apart("rayiou", self.iou(), self.classes)}
        union = self.total + self.predictions.sum() - self.predictions[self.free] - self.found
        values["rayiou_occupied"] = float((self.found / union.double()).mean())
        values |= {f"rayiou_{t:g}m": float(row.nanmean()) for t, row in zip(THRESHOLDS_M, iou, strict=True)}
        names = self.classes.evaluated_names
        per_class = {
            f"rayiou_{t:g}m": dict(zip(names, row.tolist(), strict=True))
            for t, row in zip(THRESHOLDS_M, iou, strict=True)
        }
        return Scores(self.protocol, values, per_class, self.sample_counts(rays=self.total))


def lidar_origins_in_ego(
    global_from_ego: Sequence[Float64[Tensor, "4 4"]], ego_from_lidar: Sequence[Float64[Tensor, "4 4"]], reference: int
) -> Float64[Tensor, "N 3"]:
    """LiDAR origins of all keyframes of a drive in the ego frame of keyframe ``reference``, metres."""
    ego_from_global = torch.linalg.inv(global_from_ego[reference].double())
    places = torch.stack(list(global_from_ego)).double() @ torch.stack(list(ego_from_lidar)).double()
    return (ego_from_global @ places)[:, :3, 3]
