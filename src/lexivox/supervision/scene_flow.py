"""Motion without boxes: what moved is found in the recording itself, as rigid things of constant velocity.

1. Returns whose place other keyframes see free have moved (:mod:`lexivox.supervision.seen_free`).
2. Those that hang together at a keyframe are a thing.
3. Its velocity is the one that carries it onto moved returns at the other keyframes; from where others are come
   hypotheses, the best is refined on both shapes.
4. Its returns of all keyframes, carried to one, fill a box, which then moves like a labelled one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.data.motion import UNLABELLED, BoxPairs, Motion
from lexivox.data.types import Batch
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.components import connected_components
from lexivox.supervision.flow_tracing import Cloud, Limits, Thing, Tracer
from lexivox.supervision.motion import MARGIN_M, no_pairs
from lexivox.supervision.seen_free import free_votes, heights_m, seen_free


@dataclass(frozen=True, slots=True)
class SceneFlow:
    """How motion is estimated.

    Attributes:
        voxel_m: edge of the voxels that are seen free or not.
        ground_m: returns lower than this above the ground do not move.
        sure_votes: share of the other keyframes that must see its place free for a return to have surely moved; one
            keyframe is enough beside such a return.
        sure_share: of a thing's returns must have surely moved.
        cell_m: things closer than one to two cells at the ground are one.
        limits: of things.
    """

    voxel_m: float = 0.4
    ground_m: float = 0.35
    sure_votes: float = 0.4
    sure_share: float = 0.3
    cell_m: float = 0.5
    limits: Limits = field(default_factory=Limits)

    def of_batch(self, batch: Batch, horizon: tuple[int, ...], margin_m: float = MARGIN_M) -> Motion:
        """Motion between now and the keyframes of the horizon; the classes of things stay unlabelled."""
        moments = [moment for moment in batch.around if moment.offset in horizon]
        parts = [no_pairs(batch.lidar_origin)]
        for item in range(batch.size):
            present = [slot for slot, moment in enumerate(moments) if bool(moment.is_present[item])]
            if present:
                seen = [batch.now, *(moments[slot] for slot in present)]
                sweeps = [moment.lidar.xyz[moment.lidar.batch == item] for moment in seen]
                origins = [moment.lidar_origin[item] for moment in seen]
                times = torch.stack([moment.time_s[item] for moment in seen])
                things = self.things(batch.grid, origins, sweeps, times)
                groups = torch.tensor(present) + item * len(moments)
                parts += [_pairs_of(thing, times, groups) for thing in things]
        offsets = tuple(moment.offset for moment in moments)
        return Motion.of_pairs(batch.grid, offsets, batch.size, BoxPairs.join(parts), margin_m)

    def things(
        self,
        grid: VoxelGrid,
        origins: list[Float[Tensor, "3"]],
        sweeps: list[Float[Tensor, "_ 3"]],
        times: Float[Tensor, "T"],
    ) -> list[Thing]:
        """What moves among some sweeps in one frame, the first of which is of now."""
        fine = VoxelGrid(grid.lower_m, (self.voxel_m,) * 3, _cells(grid, self.voxel_m), grid.frame)  # type: ignore[arg-type]
        free = torch.stack([seen_free(fine, origin, xyz) for origin, xyz in zip(origins, sweeps, strict=True)])
        votes, heights = free_votes(fine, free, sweeps), heights_m(grid, sweeps)
        min_votes = math.ceil(self.sure_votes * (len(sweeps) - 1))
        above = [height > self.ground_m for height in heights]
        clouds = [
            self._cluster(xyz[moved], vote[moved], min_votes)
            for xyz, vote, high in zip(sweeps, votes, above, strict=True)
            for moved in [high & (vote > 0)]
        ]
        returns = [xyz[high] for xyz, high in zip(sweeps, above, strict=True)]
        tracer = Tracer(self.limits, fine, free, returns, clouds, times)
        for place in times.abs().argsort().tolist():  # what is seen now needs no guess about where it is now
            for number in clouds[place].largest_first():
                tracer.trace(place, number)
        return tracer.things

    def _cluster(self, xyz: Float[Tensor, "P 3"], votes: Int64[Tensor, "P"], min_votes: int) -> Cloud:
        """Moved returns that hang together on the ground plan; parts that are too small or too unsure are dropped."""
        index = (xyz / self.cell_m).floor().long()
        index[:, 2] = 0
        part = connected_components(index)
        count = torch.bincount(part)
        sure = torch.bincount(part, (votes >= min_votes).double(), minlength=len(count))
        good = (count >= self.limits.min_points) & (sure >= self.sure_share * count)
        kept = good[part] if len(part) else torch.zeros(0, dtype=torch.bool)
        return Cloud(xyz[kept], part[kept].unique(return_inverse=True)[1])


def _cells(grid: VoxelGrid, edge_m: float) -> tuple[int, int, int]:
    x, y, z = (max(int(-(-(high - low) // edge_m)), 1) for low, high in zip(grid.lower_m, grid.upper_m, strict=True))
    return x, y, z


def _pairs_of(thing: Thing, times: Float[Tensor, "T"], groups: Int64[Tensor, "K"]) -> BoxPairs:
    """Box now and then, for every neighbour; a thing found once is there only then, or only now."""
    there = times[1:]
    count = len(there)
    center = thing.center.expand(count, 3)
    yaw = torch.full((count,), thing.yaw_rad)
    always = torch.ones(count, dtype=torch.bool)
    has_now = always if thing.only_at is None else always & (thing.only_at == 0.0)
    has_then = always if thing.only_at is None else there == thing.only_at
    pairs = BoxPairs(
        group=groups,
        center_then=center + F.pad(thing.velocity * there[:, None], (0, 1)),
        yaw_then=yaw,
        center_now=center,
        yaw_now=yaw,
        half_m=thing.half_m.expand(count, 3),
        label=torch.full((count,), UNLABELLED),
        has_then=has_then,
        has_now=has_now,
    )
    return pairs.rows(has_then | has_now)
