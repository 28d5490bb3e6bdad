"""Samples -> one Batch in the frame of one grid. The only place where sensor frames become the grid's frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lexivox.data.types import Batch, Cameras, LanguageTargets, LidarSweep, Sample, Targets
from lexivox.errors import DataError, ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform


def grid_from_lidar(sample: Sample, grid: VoxelGrid) -> RigidTransform:
    return sample.ego_from_lidar if grid.frame == "ego" else RigidTransform.identity()


def grid_from_ego(sample: Sample, grid: VoxelGrid) -> RigidTransform:
    return RigidTransform.identity() if grid.frame == "ego" else sample.ego_from_lidar.inverse()


def collate(samples: Sequence[Sample], grid: VoxelGrid) -> Batch:
    """Stack samples whose images have one size; point clouds are packed one after the other.

    Raises:
        DataError: no sample, a sample without a camera, or rigs of different numbers of cameras.
        ShapeError: images of different sizes (bring them to one with ``transforms.resize_images``).
    """
    if not samples:
        raise DataError("a batch must hold at least one sample; got none.")
    transforms = [grid_from_lidar(sample, grid) for sample in samples]
    return Batch(
        grid=grid,
        tokens=tuple(sample.token for sample in samples),
        cameras=_collate_cameras(samples, grid),
        lidar=_collate_lidar(samples, transforms),
        lidar_origin=torch.stack([t.translation for t in transforms]).float(),
        targets=Targets(
            language=_collate_language(samples, transforms),
            point_label=_collate_point_labels(samples),
        ),
    )


def _collate_cameras(samples: Sequence[Sample], grid: VoxelGrid) -> Cameras:
    names = tuple(view.name for view in samples[0].views)
    for sample in samples:
        if not sample.views:
            raise DataError(f"sample {sample.token} must have at least one camera; got none.")
        if len(sample.views) != len(names):
            raise DataError(
                f"samples of a batch must have the same number of cameras; got {len(names)} and "
                f"{len(sample.views)} in sample {sample.token}. Use batch_size 1 for mixed rigs."
            )
    sizes = {view.image_hw for sample in samples for view in sample.views}
    if len(sizes) > 1:
        raise ShapeError(f"images of a batch must have one size; got {sorted(sizes)}. Call resize_images first.")
    cam_from_grid = [
        RigidTransform.stack(
            [view.ego_from_cam.inverse() @ grid_from_ego(sample, grid).inverse() for view in sample.views]
        )
        for sample in samples
    ]
    return Cameras(
        images=torch.stack([torch.stack([v.image for v in s.views]) for s in samples]),
        image_from_cam=torch.stack([torch.stack([v.image_from_cam for v in s.views]) for s in samples]),
        cam_from_grid=RigidTransform.stack(cam_from_grid),
        names=names,
    )


def _batch_index(counts: Sequence[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def _collate_lidar(samples: Sequence[Sample], transforms: Sequence[RigidTransform]) -> LidarSweep:
    return LidarSweep(
        xyz=torch.cat([t.apply(s.lidar.xyz) for s, t in zip(samples, transforms, strict=True)]),
        intensity=torch.cat([s.lidar.intensity for s in samples]),
        ring=torch.cat([s.lidar.ring for s in samples]),
        batch=_batch_index([s.lidar.num_points for s in samples]),
    )


def _collate_language(samples: Sequence[Sample], transforms: Sequence[RigidTransform]) -> LanguageTargets | None:
    parts = [s.point_features for s in samples]
    if any(part is None for part in parts):
        return None
    kept = [part for part in parts if part is not None]
    return LanguageTargets(
        xyz=torch.cat([t.apply(s.lidar.xyz[p.index]) for s, t, p in zip(samples, transforms, kept, strict=True)]),
        batch=_batch_index([int(p.index.shape[0]) for p in kept]),
        feature=torch.cat([p.feature for p in kept]).float(),
        weight=torch.cat([p.weight for p in kept]),
    )


def _collate_point_labels(samples: Sequence[Sample]) -> Tensor | None:
    labels = [s.point_labels.label for s in samples if s.point_labels is not None]
    return torch.cat(labels) if len(labels) == len(samples) else None
