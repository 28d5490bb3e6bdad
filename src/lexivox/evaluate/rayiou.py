"""RayIoU: do rays from where the car has been meet the same class at the same distance? (SparseOcc 2024)

Voxel IoU rewards thick walls, which hide behind the camera mask; a ray sees only the front of things.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Float32, Float64, Int64, Shaped
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.dense import apart
from lexivox.evaluate.metric import Metric, takes_arrays
from lexivox.evaluate.scores import Scores
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.first_hit import first_hits

THRESHOLDS_M = (1.0, 2.0, 4.0)
MAX_ORIGINS = 8
MAX_OFFSET_M = 39.0
"""Origins farther than this along x or y of the ego frame are left out."""


@cache
def ray_directions() -> Float[Tensor, "R 3"]:
    """The 14,040 unit directions of the benchmark, float32: 39 elevations from -45 to 12.5 degrees, 360 azimuths.

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
    return torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), pitch.sin()], -1).flatten(0, 1).float()


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
        self.directions = ray_directions() if directions is None else directions.float()

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
            ShapeError: a volume that is not of the grid's shape, or an origin beside the grid.
            DataError: classes that the table does not have, or no finite origin.
        """
        for what, volume in (("prediction", prediction), ("label", target)):
            self._check(what, volume, who)
        if not len(origins) or not bool(origins.isfinite().all()):
            raise DataError(
                f"ray origins of {who} must be at least one and finite; got {origins.tolist()}. "
                "Give the places of the LiDAR in the grid's frame."
            )
        self._require_above_or_below(origins, who)
        rays = self._rays(origins.double())
        said, said_m = self._first(prediction, rays)
        true, true_m = self._first(target, rays)
        label = target.reshape(-1)[true].long()
        counted = label != self.free
        said, true = said[counted], true[counted]
        said_label = prediction.reshape(-1)[said].long()
        return CastRays(said, true, said_label, label[counted], (said_m - true_m).abs()[counted].double())

    def _rays(self, origins: Float64[Tensor, "O 3"]) -> _Rays:
        """In voxels, rounded where the published tool rounds: both ends of a ray of one metre are float32 there."""
        lower, size = (torch.tensor(v).double() for v in (self.grid.lower_m, self.grid.voxel_size_m))
        start = ((origins - lower) / size).float().double()
        end = ((origins[:, None] + self.directions.double() - lower) / size).float().double()
        towards = end - start[:, None]
        x, y, z = towards.unbind(-1)
        length = (x * x + y * y + z * z).sqrt()
        is_cube = bool((size == size[0]).all())
        metre = size[0].expand_as(length) if is_cube else 1.0 / length
        return _Rays(start, towards / length[..., None], metre.float())

    def _first(self, volume: Tensor, rays: _Rays) -> tuple[Int64[Tensor, "N"], Float32[Tensor, "N"]]:
        """Flat voxel that every ray meets and the distance in metres at which it is left.

        A ray that never enters the grid reads voxel 0 at minus one voxel, as the published tool leaves it.
        """
        voxel, distance = first_hits(volume != self.free, rays.start, rays.towards)
        return voxel.clamp_min(0).reshape(-1), (distance.float() * rays.metre).reshape(-1)

    def _require_above_or_below(self, origins: Float[Tensor, "O 3"], who: str) -> None:
        """On a slope the LiDAR of another keyframe may well be above or below the grid, but hardly beside it."""
        place = self.grid.coordinate_from_xyz(origins.double())[:, :2]
        if not bool(((place >= 0) & (place < place.new_tensor(self.grid.shape[:2]))).all()):
            raise ShapeError(
                f"ray origins of {who} must lie inside the grid along x and y; got {origins.tolist()[:3]}. "
                "Leave out those beyond its border (ray_origins does)."
            )

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
class _Rays:
    """Starts and unit directions in voxels, and the metres of a voxel along each ray."""

    start: Float64[Tensor, "O 3"]
    towards: Float64[Tensor, "O R 3"]
    metre: Float32[Tensor, "O R"]


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
            ShapeError: a volume that is not of the grid's shape, or an origin beside the grid.
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
    lidar = torch.stack(list(ego_from_lidar)).double()
    places = torch.stack(list(global_from_ego)).double() @ lidar
    in_lidar = (torch.linalg.inv(places[reference]) @ places)[:, :3, 3].float().double()  # as the published tool rounds
    in_lidar[reference] = 0.0
    return in_lidar @ lidar[reference, :3, :3].T + lidar[reference, :3, 3]
