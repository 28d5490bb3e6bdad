"""Boxes found in the sweeps of a clip, in place of labelled ones; worked out once for each keyframe of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from lexivox.data.clips import without_pixels
from lexivox.data.collate import collate, grid_from_ego
from lexivox.data.motion import UNLABELLED
from lexivox.data.transforms import each_sample, move_boxes
from lexivox.data.types import Boxes, Clip
from lexivox.geometry.grid import VoxelGrid
from lexivox.supervision.flow_tracing import Thing
from lexivox.supervision.scene_flow import SceneFlow


class FoundBoxes:
    """Gives the keyframes of a clip boxes of what moves, as :class:`SceneFlow` finds it, before any augmentation.

    They are like labelled ones: in the ego frame, tracked through the clip, with velocities; only their class stays
    UNLABELLED. What stands has none. Something seen at one keyframe only has a box there, of unknown velocity.

    Args:
        grid: things are sought inside its box.
        flow: how.
    """

    def __init__(self, grid: VoxelGrid, flow: SceneFlow | None = None) -> None:
        self.grid, self.flow = grid, flow or SceneFlow()
        self._kept: dict[tuple[str, tuple[int, ...]], tuple[Boxes, ...]] = {}

    def __call__(self, clip: Clip) -> Clip:
        """The clip with the boxes found."""
        key = clip.current.token, clip.offsets
        if key not in self._kept:
            self._kept[key] = self._found(clip)
        current, *others = self._kept[key]
        boxed = [replace(sample, boxes=boxes) for sample, boxes in zip(clip.others, others, strict=True)]
        return replace(clip, current=replace(clip.current, boxes=current), others=tuple(boxed))

    def _found(self, clip: Clip) -> tuple[Boxes, ...]:
        batch = collate([each_sample(clip, without_pixels)], self.grid)
        seen = [batch.now, *batch.around]
        times = torch.stack([moment.time_s[0] for moment in seen])
        origins = [moment.lidar_origin[0] for moment in seen]
        things = self.flow.things(self.grid, origins, [moment.lidar.xyz for moment in seen], times)
        world = grid_from_ego(clip.current, self.grid) @ clip.current.global_from_ego.inverse()
        return tuple(
            move_boxes(boxes_at(things, time_s), (world @ sample.global_from_ego).inverse())
            for sample, time_s in zip((clip.current, *clip.others), times.tolist(), strict=True)
        )


def boxes_at(things: Sequence[Thing], time_s: float) -> Boxes:
    """Where things are at a time, in the frame that they were found in; tracks are numbered from 1."""
    rows = [(n, t) for n, t in enumerate(things, start=1) if t.only_at is None or t.only_at == time_s]
    if not rows:
        number = torch.zeros(0, dtype=torch.int64)
        return Boxes(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 2), number, number)
    unknown = torch.full((2,), torch.nan)
    return Boxes(
        center=torch.stack([thing.center + F.pad(thing.velocity * time_s, (0, 1)) for _, thing in rows]),
        size_m=torch.stack([2 * thing.half_m for _, thing in rows]),
        yaw_rad=torch.tensor([thing.yaw_rad for _, thing in rows]),
        velocity=torch.stack([thing.velocity if thing.only_at is None else unknown for _, thing in rows]),
        label=torch.full((len(rows),), UNLABELLED),
        track=torch.tensor([number for number, _ in rows]),
    )
