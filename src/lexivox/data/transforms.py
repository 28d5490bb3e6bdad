"""Augmentations and resizing: each returns a new ``Sample`` or ``Clip`` whose calibration is already updated.

Law of every geometric one: a LiDAR point falls on the same picture content before and after.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from lexivox.data.gridmask import mask_images
from lexivox.data.photometric import distort
from lexivox.data.types import Batch, Boxes, CameraView, Clip, Sample, VoxelLabels
from lexivox.geometry.camera import mirror_intrinsics, resize_intrinsics
from lexivox.geometry.transform import RigidTransform

MovingWorld = TypeVar("MovingWorld", Sample, Clip)
"""What can be changed as a whole."""


def each_sample(sample: MovingWorld, change: Callable[[Sample], Sample]) -> MovingWorld:
    """The same change to all keyframes of a clip, the current one first."""
    if isinstance(sample, Sample):
        return change(sample)
    current = change(sample.current)
    return replace(sample, current=current, others=tuple(change(other) for other in sample.others))


def resize_images(sample: MovingWorld, image_hw: tuple[int, int]) -> MovingWorld:
    """Bring every view to one size (antialiased bilinear); the scale goes into the intrinsics."""
    return each_sample(sample, lambda s: replace(s, views=tuple(_resize_view(view, image_hw) for view in s.views)))


def _resize_view(view: CameraView, image_hw: tuple[int, int]) -> CameraView:
    height, width = view.image_hw
    if (height, width) == tuple(image_hw):
        return view
    intrinsics = resize_intrinsics(view.image_from_cam, image_hw[1] / width, image_hw[0] / height)
    if not view.has_image:
        return replace(view, image=view.image.new_zeros(0, *image_hw), image_from_cam=intrinsics)
    image = F.interpolate(view.image[None].float(), image_hw, mode="bilinear", antialias=True)[0]
    return replace(view, image=image.round().clamp(0, 255).to(torch.uint8), image_from_cam=intrinsics)


def turn(sample: Sample, yaw_rad: float) -> Sample:
    """Turn the ego and the LiDAR axes under the world, which stays: the grid then lies askew in it.

    The pivot is the vertical through the LiDAR, so that the sensor keeps its place in the ego frame, and with it
    the rings that its lasers draw on the ground. Voxel labels do not survive, because their grid no longer matches.
    """
    turned = RigidTransform.from_yaw(yaw_rad)
    pivot = sample.ego_from_lidar.translation * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    ego_turned = RigidTransform(turned.rotation, pivot - turned.rotation @ pivot)
    return replace(
        sample,
        views=tuple(replace(v, ego_from_cam=ego_turned @ v.ego_from_cam) for v in sample.views),
        lidar=replace(sample.lidar, xyz=turned.apply(sample.lidar.xyz)),
        ego_from_lidar=ego_turned @ sample.ego_from_lidar @ turned.inverse(),
        global_from_ego=sample.global_from_ego @ ego_turned.inverse(),
        boxes=None if sample.boxes is None else move_boxes(sample.boxes, ego_turned),
        voxel_labels=None,
    )


def move_boxes(boxes: Boxes, a_from_b: RigidTransform) -> Boxes:
    """Boxes of frame b in frame a; they stay upright, whatever the tilt between the two."""
    rotation = a_from_b.rotation
    return replace(
        boxes,
        center=a_from_b.apply(boxes.center),
        yaw_rad=boxes.yaw_rad + float(torch.atan2(rotation[1, 0], rotation[0, 0])),
        velocity=boxes.velocity @ rotation[:2, :2].to(boxes.velocity).T,
    )


Sides = Literal["left-right", "front-back"]

_AXES: dict[Sides, tuple[int, int]] = {"left-right": (1, 0), "front-back": (0, 1)}
"""The axis that points from one side to the other, of the ego frame (x forward) and of the LiDAR's (y forward)."""


def mirror(sample: Sample, sides: Sides = "left-right") -> Sample:
    """Swap two sides of the whole world: images, calibration, points, boxes, voxel labels.

    Pictures are mirrored with it, so that cameras stay cameras. With the flip of pixels alone, which is that of
    :class:`~lexivox.data.image_warp.ImageJitter`, these are the published augmentations (spec occflownet 5).
    Voxel labels are dropped where their grid is not the same on both sides.
    """
    ego, lidar = _AXES[sides]
    return replace(
        sample,
        views=tuple(_mirror_view(view, ego) for view in sample.views),
        lidar=replace(sample.lidar, xyz=sample.lidar.xyz * _flip(lidar, sample.lidar.xyz)),
        ego_from_lidar=_reflect(sample.ego_from_lidar, axis_out=ego, axis_in=lidar),
        global_from_ego=_reflect(sample.global_from_ego, axis_out=ego, axis_in=ego),
        boxes=None if sample.boxes is None else _mirror_boxes(sample.boxes, ego),
        voxel_labels=None if sample.voxel_labels is None else _mirror_voxels(sample.voxel_labels, sides),
    )


def _flip(axis: int, like: Tensor) -> Tensor:
    signs = torch.ones(3, dtype=like.dtype, device=like.device)
    signs[axis] = -1.0
    return signs


def _reflect(a_from_b: RigidTransform, axis_out: int, axis_in: int) -> RigidTransform:
    """The transform between the two mirrored frames; two reflections make it rigid again."""
    out, into = _flip(axis_out, a_from_b.rotation), _flip(axis_in, a_from_b.rotation)
    return RigidTransform(out[:, None] * a_from_b.rotation * into, out * a_from_b.translation)


def _mirror_view(view: CameraView, axis: int) -> CameraView:
    return replace(
        view,
        image=view.image.flip(-1),
        image_from_cam=mirror_intrinsics(view.image_from_cam, view.image_hw[1]),
        ego_from_cam=_reflect(view.ego_from_cam, axis_out=axis, axis_in=0),
    )


def _mirror_boxes(boxes: Boxes, axis: int) -> Boxes:
    return replace(
        boxes,
        center=boxes.center * _flip(axis, boxes.center),
        yaw_rad=(math.pi if axis == 0 else 0.0) - boxes.yaw_rad,
        velocity=boxes.velocity * _flip(axis, boxes.velocity)[:2],
    )


def _mirror_voxels(voxels: VoxelLabels, sides: Sides) -> VoxelLabels | None:
    ego, lidar = _AXES[sides]
    axis = ego if voxels.grid.frame == "ego" else lidar
    if not math.isclose(voxels.grid.lower_m[axis], -voxels.grid.upper_m[axis], abs_tol=1e-6):
        return None

    def flipped(volume: Tensor | None) -> Tensor | None:
        return None if volume is None else volume.flip(axis)

    return replace(
        voxels,
        label=voxels.label.flip(axis),
        flow=voxels.flow.flip(axis) * _flip(axis, voxels.flow)[:2],
        seen_by_lidar=flipped(voxels.seen_by_lidar),
        seen_by_camera=flipped(voxels.seen_by_camera),
    )


def recolor(sample: Sample, strength: float, generator: torch.Generator) -> Sample:
    """Photometric jitter, one draw for each view: brightness, contrast, saturation, colour balance."""
    views = (replace(v, image=_recolor(v.image, strength, generator)) if v.has_image else v for v in sample.views)
    return replace(sample, views=tuple(views))


def _recolor(image: UInt8[Tensor, "3 H W"], strength: float, generator: torch.Generator) -> UInt8[Tensor, "3 H W"]:
    def draw(*shape: int) -> Float[Tensor, "..."]:
        return strength * (2.0 * torch.rand(shape, generator=generator) - 1.0)

    pixels = image.float() * (1.0 + draw(1) + 0.5 * draw(3))[..., None, None].reshape(-1, 1, 1)
    grey = pixels.mean(dim=0, keepdim=True)
    pixels = grey + (pixels - grey) * (1.0 + draw(1))
    mean = pixels.mean()
    pixels = mean + (pixels - mean) * (1.0 + draw(1)) + 64.0 * draw(1)
    return pixels.clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True, slots=True)
class Augment:
    """Random world changes for training.

    Attributes:
        mirror_prob: chance of swapping left and right.
        reverse_prob: chance of swapping front and back; published as well.
        turn_rad: the grid is turned by a yaw drawn from [-turn_rad, turn_rad].
        color: strength of the photometric jitter; 0 switches it off.
        drop_view_prob: chance that one view of the rig is missing.
        distort: the published photometric distortion; ``color`` is our gentler one, so use one of them.
        grid_mask_prob: chance that GridMask hides squares of all images of a batch; 0.7 as published.
    """

    mirror_prob: float = 0.5
    turn_rad: float = 0.0
    color: float = 0.2
    drop_view_prob: float = 0.0
    distort: bool = False
    grid_mask_prob: float = 0.0
    reverse_prob: float = 0.0

    def __call__(self, sample: MovingWorld, generator: torch.Generator) -> MovingWorld:
        """One change of the world for a whole clip, and of the rig; colours differ from keyframe to keyframe.

        The grid is turned before sides are swapped, as published.
        """
        mirror_draw, turn_draw, drop_draw = torch.rand(3, generator=generator).tolist()
        steps: list[Callable[[Sample], Sample]] = []
        if self.turn_rad:
            steps.append(lambda s: turn(s, (2.0 * turn_draw - 1.0) * self.turn_rad))
        if mirror_draw < self.mirror_prob:
            steps.append(mirror)
        if self.reverse_prob and float(torch.rand((), generator=generator)) < self.reverse_prob:
            steps.append(lambda s: mirror(s, "front-back"))
        if drop_draw < self.drop_view_prob:
            views = (sample.current if isinstance(sample, Clip) else sample).views
            lost = int(torch.randint(len(views), (1,), generator=generator))
            steps.append(lambda s: _drop_view(s, lost))
        if self.color:
            steps.append(lambda s: recolor(s, self.color, generator))
        if self.distort:
            steps.append(lambda s: distort(s, generator))
        return each_sample(sample, lambda s: reduce(lambda changed, step: step(changed), steps, s))

    def of_batch(self, batch: Batch, generator: torch.Generator) -> Batch:
        """What all samples of a step share."""
        return mask_images(batch, self.grid_mask_prob, generator) if self.grid_mask_prob else batch


def _drop_view(sample: Sample, lost: int) -> Sample:
    views = list(sample.views)
    views[lost] = replace(views[lost], image=torch.zeros_like(views[lost].image))
    return replace(sample, views=tuple(views))
