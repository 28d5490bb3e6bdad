"""Boxes found in the sweeps of a clip, in place of labelled ones; worked out once for each keyframe, and kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexivox.data.cache import Arrays, FeatureCache, Key, content_key
from lexivox.data.clips import Drives, blind_clip_at, blind_reader, without_pixels
from lexivox.data.collate import collate, grid_from_ego
from lexivox.data.motion import UNLABELLED
from lexivox.data.transforms import each_sample, move_boxes
from lexivox.data.types import Boxes, Clip
from lexivox.geometry.grid import VoxelGrid
from lexivox.supervision.flow_tracing import Thing
from lexivox.supervision.scene_flow import SceneFlow

VERSION = "found boxes 1"
"""Of the method: raise it when other things are found under the same settings, so that kept ones are sought again."""


class FoundBoxes:
    """Gives the keyframes of a clip boxes of what moves, as :class:`SceneFlow` finds it, before any augmentation.

    They are like labelled ones: in the ego frame, tracked through the clip, with velocities; only their class stays
    UNLABELLED. What stands has none. Something seen at one keyframe only has a box there, of unknown velocity.

    Args:
        grid: things are sought inside its box.
        flow: how.
        cache: an exact one, which keeps what was found between runs and for all data workers; its names hold the
            sweeps, poses and times, the grid, the settings and the version, so nothing found is ever stale.
    """

    def __init__(self, grid: VoxelGrid, flow: SceneFlow | None = None, cache: FeatureCache | None = None) -> None:
        self.grid, self.flow, self.cache = grid, flow or SceneFlow(), cache
        self._kept: dict[tuple[str, tuple[int, ...]], tuple[Boxes, ...]] = {}

    def __call__(self, clip: Clip) -> Clip:
        """The clip with the boxes found."""
        key = clip.current.token, clip.offsets
        if key not in self._kept:
            self._kept[key] = self._boxes(clip)
        current, *others = self._kept[key]
        boxed = [replace(sample, boxes=boxes) for sample, boxes in zip(clip.others, others, strict=True)]
        return replace(clip, current=replace(clip.current, boxes=current), others=tuple(boxed))

    def find_all(
        self,
        samples: Drives,
        offsets: Sequence[int],
        on_progress: Callable[[int, int], None],
        *,
        first: int = 0,
        step: int = 1,
    ) -> None:
        """Fill the cache for every ``step``-th keyframe from ``first`` on; stopped at any time it goes on there.

        Args:
            offsets: of the neighbours that training will look at.
            on_progress: called with (done, total) after every keyframe.
        """
        read = blind_reader(samples, keep=len(offsets) + 1 + step)
        for index in range(first, len(samples), step):
            self._things(blind_clip_at(samples, index, offsets, read))
            on_progress(min(index + step, len(samples)), len(samples))

    def _boxes(self, clip: Clip) -> tuple[Boxes, ...]:
        things = self._things(clip)
        world = grid_from_ego(clip.current, self.grid) @ clip.current.global_from_ego.inverse()
        return tuple(
            move_boxes(boxes_at(things, time_s), (world @ sample.global_from_ego).inverse())
            for sample, time_s in zip((clip.current, *clip.others), _times(clip).tolist(), strict=True)
        )

    def _things(self, clip: Clip) -> list[Thing]:
        """In the grid's frame at the current keyframe."""
        if self.cache is None:
            return self._sought(clip)
        about = {"holds": VERSION, "keyframe": clip.current.token}
        return unpack(self.cache.get_or_make(self.key(clip), lambda: pack(self._sought(clip)), about))

    def key(self, clip: Clip) -> Key:
        """Everything that the things of a clip depend on."""
        sensed = [
            part
            for sample in (clip.current, *clip.others)
            for part in (sample.lidar.xyz, sample.ego_from_lidar.matrix(), sample.global_from_ego.matrix())
        ]
        return content_key(VERSION, asdict(self.flow), asdict(self.grid), clip.offsets, _times(clip), *sensed)

    def _sought(self, clip: Clip) -> list[Thing]:
        batch = collate([each_sample(clip, without_pixels)], self.grid)
        seen = [batch.now, *batch.around]
        origins = [moment.lidar_origin[0] for moment in seen]
        return self.flow.things(self.grid, origins, [moment.lidar.xyz for moment in seen], _times(clip))


def _times(clip: Clip) -> Float[Tensor, "T"]:
    """Seconds from the current keyframe to each, that one first."""
    time_ns = [sample.timestamp_ns - clip.current.timestamp_ns for sample in (clip.current, *clip.others)]
    return (torch.tensor(time_ns).double() * 1e-9).float()


def pack(things: Sequence[Thing]) -> Arrays:
    """Things as arrays, one row each."""
    only_at = [math.nan if thing.only_at is None else thing.only_at for thing in things]
    return {
        "center": _rows([thing.center for thing in things], 3),
        "half_m": _rows([thing.half_m for thing in things], 3),
        "velocity": _rows([thing.velocity for thing in things], 2),
        "yaw_rad": torch.tensor([thing.yaw_rad for thing in things], dtype=torch.float64),
        "only_at": torch.tensor(only_at, dtype=torch.float64),
    }


def unpack(arrays: Arrays) -> list[Thing]:
    """What :func:`pack` packed, to the last digit."""
    names = ("center", "half_m", "yaw_rad", "velocity", "only_at")
    return [
        Thing(center, half_m, float(yaw), velocity, None if math.isnan(only_at) else float(only_at))
        for center, half_m, yaw, velocity, only_at in zip(*(arrays[name] for name in names), strict=True)
    ]


def _rows(rows: Sequence[Tensor], width: int) -> Float[Tensor, "N _"]:
    return torch.stack(list(rows)) if rows else torch.zeros(0, width)


def boxes_at(things: Sequence[Thing], time_s: float) -> Boxes:
    """Where things are at a time, in the frame that they were found in; tracks are numbered from 1."""
    rows = [(n, t) for n, t in enumerate(things, start=1) if t.only_at is None or t.only_at == time_s]
    unknown = torch.full((2,), torch.nan)
    return Boxes(
        center=_rows([thing.center + F.pad(thing.velocity * time_s, (0, 1)) for _, thing in rows], 3),
        size_m=_rows([2 * thing.half_m for _, thing in rows], 3),
        yaw_rad=torch.tensor([thing.yaw_rad for _, thing in rows]),
        velocity=_rows([thing.velocity if thing.only_at is None else unknown for _, thing in rows], 2),
        label=torch.full((len(rows),), UNLABELLED),
        track=torch.tensor([number for number, _ in rows], dtype=torch.int64),
    )
