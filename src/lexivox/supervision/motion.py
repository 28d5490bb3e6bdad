"""What moved between keyframes, from tracked boxes, matched by track."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lexivox.data.motion import BoxPairs, Motion, turned
from lexivox.data.types import Batch, Boxes, Moment
from lexivox.errors import ConfigError

MIN_SPEED_MPS = 0.5
"""Slower objects stand: a parked car's box trembles (spec occflownet A17)."""

MARGIN_M = 0.2
"""Half a voxel of 0.4 m: matter at the surface of an object lies up to so far outside its box."""

PUBLISHED_FLOW = (2, 3, 4, 5, 6, 7, 9, 10)
"""Classes that the published flow moves (spec occflownet 3.3)."""


def box_motion(
    batch: Batch,
    horizon: tuple[int, ...],
    *,
    min_speed_mps: float = MIN_SPEED_MPS,
    margin_m: float = MARGIN_M,
    labels: tuple[int, ...] = (),
) -> Motion:
    """Motion of the objects whose boxes share a track, between now and the keyframes of the horizon.

    An object moves if a corner of its box does, faster than ``min_speed_mps`` on average. One that has a box at one
    keyframe only moves if the box says so, or does not say how fast it is: places that it held at the other keyframe
    are unknown, places that it holds now were vacant.

    Args:
        batch: with boxes at the current and at the neighbouring keyframes.
        horizon: offsets; those that the batch has no moment of are left out.
        min_speed_mps: metres per second.
        margin_m: boxes are enlarged by this on every side but the lower one, which is cut off above the ground.
        labels: classes that can move; empty = all.

    Raises:
        ConfigError: boxes are missing.
    """
    moments = [moment for moment in batch.around if moment.offset in horizon]
    if batch.boxes is None or any(moment.boxes is None for moment in moments):
        raise ConfigError("motion of boxes must have boxes at every keyframe; got none. Open the data set with boxes.")
    parts = [no_pairs(batch.lidar_origin)]
    for slot, moment in enumerate(moments):
        for item in range(batch.size):
            if bool(moment.is_present[item]):
                group = item * len(moments) + slot
                parts.append(_pairs(batch.boxes[item], moment, item, group, min_speed_mps, labels))
    pairs = BoxPairs.join(parts)
    return Motion.of_pairs(batch.grid, tuple(moment.offset for moment in moments), batch.size, pairs, margin_m)


def no_pairs(like: Tensor) -> BoxPairs:
    """Nothing moves; tensors like this one."""
    point, number, whole = like.new_zeros(0, 3), like.new_zeros(0), torch.zeros(0, dtype=torch.int64)
    no = torch.zeros(0, dtype=torch.bool)
    return BoxPairs(whole, point, number, point, number, point, whole, no, no)


def _pairs(now: Boxes, moment: Moment, item: int, group: int, min_speed: float, labels: tuple[int, ...]) -> BoxPairs:
    assert moment.boxes is not None, "the caller asked"
    then = moment.boxes[item]
    pairs = match_tracks(now, then, group)
    moves = corners_moved_m(pairs) > min_speed * float(moment.time_s[item].abs())
    known = torch.isin(pairs.label, torch.tensor(labels)) if labels else torch.ones_like(moves)
    both = pairs.has_then & pairs.has_now
    alone = ~both & ~(_speed(now, then, pairs) <= min_speed)
    return pairs.rows(known & torch.where(both, moves, alone))


def match_tracks(now: Boxes, then: Boxes, group: int) -> BoxPairs:
    """Boxes of both keyframes joined by track: the ones of now first, then those that are no longer there."""
    same = now.track[:, None] == then.track  # (N, M)
    partner = same.int().argmax(1) if len(then.track) else torch.zeros_like(now.track)
    has_then = same.any(1)
    gone = (~same.any(0)).nonzero()[:, 0]

    def joined(of_now: Tensor, of_then: Tensor) -> Tensor:
        return torch.cat([of_now, of_then[gone]])

    def partnered(of_then: Tensor) -> Tensor:
        if not len(of_then):
            return of_then.new_zeros(len(now.track), *of_then.shape[1:])
        own = has_then.view(-1, *[1] * (of_then.ndim - 1))
        return torch.cat([torch.where(own, of_then[partner], torch.zeros_like(of_then[partner])), of_then[gone]])

    return BoxPairs(
        group=torch.full((len(now.track) + len(gone),), group),
        center_then=partnered(then.center),
        yaw_then=partnered(then.yaw_rad),
        center_now=joined(now.center, torch.zeros_like(then.center)),
        yaw_now=joined(now.yaw_rad, torch.zeros_like(then.yaw_rad)),
        half_m=joined(now.size_m, then.size_m) / 2,
        label=joined(now.label, then.label),
        has_then=torch.cat([has_then, torch.ones_like(gone, dtype=torch.bool)]),
        has_now=torch.cat([torch.ones_like(has_then), torch.zeros_like(gone, dtype=torch.bool)]),
    )


def _speed(now: Boxes, then: Boxes, pairs: BoxPairs) -> Float[Tensor, "N"]:
    """Speed that the box itself tells, of the current keyframe if it is there."""
    gone = ~pairs.has_now
    lost = (~(now.track[:, None] == then.track).any(0)).nonzero()[:, 0]
    speed = torch.zeros(len(gone))
    speed[~gone], speed[gone] = now.velocity.norm(dim=-1), then.velocity[lost].norm(dim=-1)
    return speed


def corners_moved_m(pairs: BoxPairs) -> Float[Tensor, "N"]:
    """How far the farthest corner of each box went."""
    signs = torch.tensor([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]])
    corners = (pairs.half_m[:, None] * signs).flatten(0, 1)
    then = turned(corners, pairs.yaw_then.repeat_interleave(4)) + pairs.center_then.repeat_interleave(4, 0)
    now = turned(corners, pairs.yaw_now.repeat_interleave(4)) + pairs.center_now.repeat_interleave(4, 0)
    return (now - then).norm(dim=-1).view(-1, 4).amax(1)
