"""Motion without boxes: what moved is found in the recording itself, as rigid things of constant velocity.

1. Returns whose place other keyframes see free have moved (:mod:`lexivox.supervision.seen_free`).
2. Those that hang together at a keyframe are a thing.
3. Its velocity is the one that carries it onto moved returns at the other keyframes; from where others are come
   hypotheses, the best is refined on both shapes.
4. Its returns of all keyframes, carried to one, fill a box, which then moves like a labelled one
   (:mod:`lexivox.supervision.found_boxes`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.components import connected_components
from lexivox.supervision.flow_tracing import Cloud, Limits, Thing, Tracer
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

    def things(
        self,
        grid: VoxelGrid,
        origins: list[Float[Tensor, "3"]],
        sweeps: list[Float[Tensor, "_ 3"]],
        times: Float[Tensor, "T"],
    ) -> list[Thing]:
        """What moves among some sweeps in one frame, the first of which is of now.

        Args:
            grid: things are sought inside its box.
            origins, sweeps: where the rays of each sweep start, and its returns; metres in the grid's frame.
            times: of the sweeps, seconds from now.
        """
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
