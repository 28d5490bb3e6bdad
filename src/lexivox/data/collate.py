"""Samples or clips -> one Batch in the frame of one grid: the only place where sensor frames become the grid's frame.

Neighbouring keyframes go through the world: ``grid_from_ego_s = grid_from_ego_t @ ego_t_from_global @
global_from_ego_s``, composed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from lexivox.data.clips import without_pixels
from lexivox.data.transforms import move_boxes
from lexivox.data.types import (
    IGNORED,
    Batch,
    Boxes,
    Cameras,
    Clip,
    LanguageTargets,
    LidarSweep,
    Moment,
    Sample,
    Targets,
    VoxelLabels,
)
from lexivox.errors import DataError, ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

Transforms = Sequence[RigidTransform]


def grid_from_lidar(sample: Sample, grid: VoxelGrid) -> RigidTransform:
    return sample.ego_from_lidar if grid.frame == "ego" else RigidTransform.identity()


def grid_from_ego(sample: Sample, grid: VoxelGrid) -> RigidTransform:
    return RigidTransform.identity() if grid.frame == "ego" else sample.ego_from_lidar.inverse()


def collate(samples: Sequence[Sample | Clip], grid: VoxelGrid) -> Batch:
    """Stack samples whose images have one size; point clouds are packed one after the other.

    The neighbours of clips become ``Batch.around``, in the frame of the grid at the current keyframe.

    Raises:
        DataError: no sample, a sample without a camera, or rigs of different numbers of cameras.
        ShapeError: images of different sizes (bring them to one with ``transforms.resize_images``).
    """
    if not samples:
        raise DataError("a batch must hold at least one sample; got none.")
    clips = [sample if isinstance(sample, Clip) else Clip(sample) for sample in samples]
    current = [clip.current for clip in clips]
    from_lidar = [grid_from_lidar(sample, grid) for sample in current]
    from_ego = [grid_from_ego(sample, grid) for sample in current]
    return Batch(
        grid=grid,
        tokens=tuple(sample.token for sample in current),
        cameras=_collate_cameras(current, from_ego),
        lidar=_collate_lidar(current, from_lidar),
        lidar_origin=_origins(from_lidar),
        targets=Targets(
            language=_collate_language(current, from_lidar),
            point_label=_collate_point_labels(current),
        ),
        around=tuple(
            _moment(clips, grid, from_ego, offset) for offset in sorted({o for c in clips for o in c.offsets})
        ),
        boxes=_collate_boxes(current, from_ego),
        voxel_labels=_collate_voxels(current),
    )


def _moment(clips: Sequence[Clip], grid: VoxelGrid, grid_from_current: Transforms, offset: int) -> Moment:
    there = [clip.others[clip.offsets.index(offset)] if offset in clip.offsets else None for clip in clips]
    samples = [clip.current if s is None else s for clip, s in zip(clips, there, strict=True)]
    from_ego = [
        frame if s is None else frame @ clip.current.global_from_ego.inverse() @ s.global_from_ego
        for clip, frame, s in zip(clips, grid_from_current, there, strict=True)
    ]
    has_images = all(view.has_image for s in there if s is not None for view in s.views)
    pictured = samples if has_images else [without_pixels(sample) for sample in samples]
    present = torch.tensor([s is not None for s in there])
    heard = [sample if is_there else _silent(sample) for sample, is_there in zip(samples, present, strict=True)]
    from_lidar = [frame @ s.ego_from_lidar for frame, s in zip(from_ego, samples, strict=True)]
    time_ns = [s.timestamp_ns - clip.current.timestamp_ns for clip, s in zip(clips, samples, strict=True)]
    return Moment(
        offset=offset,
        time_s=(torch.tensor(time_ns).double() * 1e-9).float(),
        is_present=present,
        cameras=_collate_cameras(pictured, from_ego),
        lidar=_collate_lidar(heard, from_lidar),
        lidar_origin=_origins(from_lidar),
        point_label=_known_point_labels(heard),
        language=_known_language(heard, from_lidar),
        boxes=_collate_boxes(heard, from_ego),
        grid_from_own=RigidTransform.stack(
            [frame @ grid_from_ego(sample, grid).inverse() for frame, sample in zip(from_ego, samples, strict=True)]
        ),
    )


def _silent(sample: Sample) -> Sample:
    """The same keyframe without anything that was sensed or labelled."""
    none = sample.lidar.batch[:0]
    lidar = LidarSweep(sample.lidar.xyz[:0], sample.lidar.intensity[:0], none, none)
    return replace(sample, lidar=lidar, point_labels=None, boxes=None, point_features=None)


def _collate_cameras(samples: Sequence[Sample], from_ego: Transforms) -> Cameras:
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
        RigidTransform.stack([view.ego_from_cam.inverse() @ grid_from_ego.inverse() for view in sample.views])
        for sample, grid_from_ego in zip(samples, from_ego, strict=True)
    ]
    return Cameras(
        images=torch.stack([torch.stack([v.image for v in s.views]) for s in samples]),
        image_from_cam=torch.stack([torch.stack([v.image_from_cam for v in s.views]) for s in samples]),
        cam_from_grid=RigidTransform.stack(cam_from_grid),
        names=names,
    )


def _batch_index(counts: Sequence[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def _origins(from_lidar: Transforms) -> Tensor:
    return torch.stack([t.translation for t in from_lidar]).float()


def _collate_lidar(samples: Sequence[Sample], transforms: Transforms) -> LidarSweep:
    return LidarSweep(
        xyz=torch.cat([t.apply(s.lidar.xyz) for s, t in zip(samples, transforms, strict=True)]),
        intensity=torch.cat([s.lidar.intensity for s in samples]),
        ring=torch.cat([s.lidar.ring for s in samples]),
        batch=_batch_index([s.lidar.num_points for s in samples]),
    )


def _collate_language(samples: Sequence[Sample], transforms: Transforms) -> LanguageTargets | None:
    if any(sample.point_features is None for sample in samples):
        return None
    return _known_language(samples, transforms)


def _known_language(samples: Sequence[Sample], transforms: Transforms) -> LanguageTargets | None:
    """Of the samples that have features; None where none has."""
    first_point = torch.tensor([0, *(sample.lidar.num_points for sample in samples)]).cumsum(0)
    rows = [
        (number, transform.apply(sample.lidar.xyz[known.index]), known)
        for number, (sample, transform) in enumerate(zip(samples, transforms, strict=True))
        if (known := sample.point_features) is not None
    ]
    if not rows:
        return None
    return LanguageTargets(
        xyz=torch.cat([xyz for _, xyz, _ in rows]),
        batch=torch.cat([torch.full((len(xyz),), number) for number, xyz, _ in rows]),
        feature=torch.cat([known.feature for *_, known in rows]).float(),
        weight=torch.cat([known.weight for *_, known in rows]),
        point=torch.cat([known.index + first_point[number] for number, _, known in rows]),
    )


def _collate_point_labels(samples: Sequence[Sample]) -> Tensor | None:
    return _known_point_labels(samples) if all(s.point_labels is not None for s in samples) else None


def _known_point_labels(samples: Sequence[Sample]) -> Tensor | None:
    """Of the samples that have labels, 0 = ignore for the others; None where none has."""
    if all(sample.point_labels is None for sample in samples):
        return None
    return torch.cat(
        [torch.zeros_like(s.lidar.batch) if s.point_labels is None else s.point_labels.label for s in samples]
    )


def _collate_boxes(samples: Sequence[Sample], from_ego: Transforms) -> tuple[Boxes, ...] | None:
    if all(sample.boxes is None for sample in samples):
        return None
    no_number = torch.zeros(0, dtype=torch.int64)
    none = Boxes(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 2), no_number, no_number)
    return tuple(
        none if sample.boxes is None else move_boxes(sample.boxes, transform)
        for sample, transform in zip(samples, from_ego, strict=True)
    )


def _collate_voxels(samples: Sequence[Sample]) -> tuple[VoxelLabels, ...] | None:
    known = [sample.voxel_labels for sample in samples]
    like = next((labels for labels in known if labels is not None), None)
    if like is None:
        return None
    unknown = replace(
        like,
        label=torch.full_like(like.label, IGNORED),
        flow=torch.zeros_like(like.flow),
        seen_by_lidar=None if like.seen_by_lidar is None else torch.zeros_like(like.seen_by_lidar),
        seen_by_camera=None if like.seen_by_camera is None else torch.zeros_like(like.seen_by_camera),
    )
    return tuple(cast(VoxelLabels, unknown if labels is None else labels) for labels in known)
