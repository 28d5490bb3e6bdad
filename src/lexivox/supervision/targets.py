"""Label-free targets of a keyframe: what a frozen teacher says about the LiDAR points that cameras see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.types import PointFeatures, Sample
from lexivox.errors import DataError
from lexivox.geometry.camera import is_visible, pixels_from_cam
from lexivox.geometry.voxelize import scatter_mean
from lexivox.ops.resample import fit_within, sample_resized
from lexivox.teachers.base import ImageTeacher, PointTeacher

MIN_DEPTH_M = 1.0
"""Nearer returns are the own car (spec pop3d 1.6)."""

CHAIN_FIT_HW = (1024, 2048)
"""The published extraction enlarged images to fit this (spec pop3d 5.4)."""


@dataclass(frozen=True, slots=True)
class TeacherReading:
    """How a teacher's maps become features of LiDAR points. The defaults are ours, the second values published.

    Attributes:
        views: ``"mean"`` gives a point the mean over the cameras that see it; ``"each"`` one row per camera, so that
            a point in two images counts twice, with two targets (spec 4.3). The mean is less noisy and fairer.
        pixels: ``"bilinear"`` reads at the exact place; ``"nearest"`` at the rounded pixel of a map enlarged to the
            image, and leaves out the last row and column (spec 1.6). Rounding costs up to half a pixel.
            ``"chained"`` also enlarges the map first to what MaskCLIP+ saw and then to the image, as published (spec
            5.4); that changes next to nothing and costs more.
        unit: make features unit vectors, so that every point weighs the same whatever the teacher's contrast. The
            published loss compares raw features (spec 4.3).
    """

    views: Literal["mean", "each"] = "mean"
    pixels: Literal["bilinear", "nearest", "chained"] = "bilinear"
    unit: bool = True


def project_lidar(sample: Sample) -> tuple[Float[Tensor, "V P 2"], Bool[Tensor, "V P"]]:
    """Pixels of every LiDAR point in every view, and True where the view sees it (float64 chain)."""
    xyz = sample.lidar.xyz.double()
    if not sample.views:
        return torch.zeros(0, len(xyz), 2), torch.zeros(0, len(xyz), dtype=torch.bool)
    uv, visible = [], []
    for view in sample.views:
        xyz_cam = (view.ego_from_cam.inverse() @ sample.ego_from_lidar).apply(xyz)
        pixels, depth_m = pixels_from_cam(xyz_cam, view.image_from_cam.double())
        uv.append(pixels)
        visible.append(is_visible(pixels, depth_m, view.image_hw, MIN_DEPTH_M))
    return torch.stack(uv).float(), torch.stack(visible)


def teacher_point_features(
    sample: Sample, teacher: ImageTeacher, reading: TeacherReading | None = None
) -> PointFeatures:
    """The teacher's features at the LiDAR points that cameras see; rows in order of the sweep, or camera by camera.

    Raises:
        DataError: a feature is missing or not finite.
    """
    if isinstance(teacher, PointTeacher):
        return teacher.point_features(sample)
    return point_features(sample, teacher_maps(sample, teacher), reading or TeacherReading(), teacher.dim)


@torch.no_grad()
def teacher_maps(sample: Sample, teacher: ImageTeacher) -> Iterator[Float[Tensor, "1 D h w"]]:
    """The teacher's features of every view, one after the other.

    Raises:
        DataError: they are not finite, or not as wide as the teacher says.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for view in sample.views:
        maps = teacher.features(view.image[None].to(device)).float().cpu()
        if maps.shape[1] != teacher.dim or not bool(maps.isfinite().all()):
            got = f"{maps.shape[1]} channels" if maps.shape[1] != teacher.dim else "others"
            raise DataError(
                f"teacher's features must be {teacher.dim} finite numbers; got {got} in sample {sample.token}, "
                f"camera {view.name}. Check its weights and the image."
            )
        yield maps


def point_features(
    sample: Sample, maps: Iterable[Float[Tensor, "1 D h w"]], reading: TeacherReading, dim: int
) -> PointFeatures:
    """Features at the LiDAR points that cameras see, from one map per view."""
    rows, features = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, dim)]
    for view, own, pixels, seen in zip(sample.views, maps, *project_lidar(sample), strict=True):
        if reading.pixels != "bilinear":
            seen = seen & (pixels < pixels.new_tensor(view.image_hw[::-1]) - 1).all(dim=-1)
            pixels = pixels.round() + 0.5  # the published pixel i has its centre at i
        rows.append(seen.nonzero()[:, 0])
        read = _at_chained if reading.pixels == "chained" else _at_pixels
        feature = read(own, pixels[rows[-1]], view.image_hw)
        features.append(F.normalize(feature, dim=-1) if reading.unit else feature)
    index, feature = torch.cat(rows), torch.cat(features)
    if reading.views == "mean":
        index, row = index.unique(return_inverse=True)
        feature = scatter_mean(feature, row, len(index))
        feature = F.normalize(feature, dim=-1) if reading.unit else feature
    return PointFeatures(index, feature, torch.ones(len(index)))


def _at_pixels(
    maps: Float[Tensor, "1 D h w"], uv: Float[Tensor, "P 2"], image_hw: tuple[int, int]
) -> Float[Tensor, "P D"]:
    height, width = image_hw
    normalized = 2.0 * uv / torch.tensor([width, height]) - 1.0
    sampled = F.grid_sample(maps, normalized[None, None], padding_mode="border", align_corners=False)
    return sampled[0, :, 0].T


def _at_chained(
    maps: Float[Tensor, "1 D h w"], uv: Float[Tensor, "P 2"], image_hw: tuple[int, int]
) -> Float[Tensor, "P D"]:
    column, row = uv.long().unbind(dim=-1)
    return sample_resized(maps, row, column, [fit_within(image_hw, CHAIN_FIT_HW), image_hw])


def balance_weights(
    features: Sequence[Float[Tensor, "_ D"]], num_clusters: int = 24, power: float = 0.5, seed: int = 0
) -> list[Float[Tensor, "_"]]:
    """Weights against the imbalance of what the teacher sees: road is everywhere, people are rare.

    Features are grouped by spherical k-means; a point of a group holding the share s of all points weighs
    s^-power, mean 1 over all. No class is named: the teacher's own grouping serves.
    """
    if not any(len(f) for f in features):
        return [torch.ones(0) for _ in features]
    rows = torch.cat(list(features))
    assignment = _spherical_kmeans(rows, num_clusters, seed)
    share = torch.bincount(assignment, minlength=num_clusters).float() / len(rows)
    weight = share.clamp_min(1e-4) ** -power
    weight = weight / weight[assignment].mean()
    return list(weight[assignment].split([len(f) for f in features]))


def _spherical_kmeans(rows: Float[Tensor, "N D"], num_clusters: int, seed: int) -> Int64[Tensor, "N"]:
    generator = torch.Generator().manual_seed(seed)
    subset = rows[torch.randperm(len(rows), generator=generator)[:20_000]]
    centers = _spread_seeds(subset, num_clusters)
    for _ in range(10):
        nearest = (subset @ centers.T).argmax(dim=-1)
        sums = torch.zeros_like(centers).index_add_(0, nearest, subset)
        centers = torch.where(sums.norm(dim=-1, keepdim=True) > 0, F.normalize(sums, dim=-1), centers)
    return torch.cat([(part @ centers.T).argmax(dim=-1) for part in rows.split(65_536)])


def _spread_seeds(rows: Float[Tensor, "N D"], num_clusters: int) -> Float[Tensor, "K D"]:
    """Farthest-first seeds: rare groups get a centre of their own."""
    chosen = [rows[0]]
    closest = rows @ chosen[0]
    for _ in range(num_clusters - 1):
        chosen.append(rows[int(closest.argmin())])
        closest = torch.maximum(closest, rows @ chosen[-1])
    return torch.stack(chosen)
