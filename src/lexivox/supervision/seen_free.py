"""Returns that moved, found without any label: their place is seen free at other keyframes.

A place is seen free by a sweep if a ray passes through its voxel and no return lies in it or beside it. A wall is never
seen free; a place that something hides is not seen at all; a car is gone from most of its places half a second later.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.voxelize import occupancy_counts
from lexivox.ops.traversal import mark_free

GROUND_CELL_M, GROUND_SHARE = 2.0, 0.05


def seen_free(grid: VoxelGrid, origin: Float[Tensor, "3"], xyz: Float[Tensor, "P 3"]) -> Bool[Tensor, "X Y Z"]:
    """Voxels that a ray of the sweep passes and that neither hold one of its returns nor touch one that does."""
    return mark_free(grid, origin, xyz) & ~_grown(occupancy_counts(grid, xyz) > 0)


def _grown(volume: Bool[Tensor, "X Y Z"]) -> Bool[Tensor, "X Y Z"]:
    """True also beside, above and below what is True, corners included; axis by axis, far faster than pooling."""
    for axis, length in enumerate(volume.shape):
        before, after = volume.narrow(axis, 0, length - 1), volume.narrow(axis, 1, length - 1)
        grown = volume.clone()
        grown.narrow(axis, 0, length - 1).logical_or_(after)
        grown.narrow(axis, 1, length - 1).logical_or_(before)
        volume = grown
    return volume


def free_votes(
    grid: VoxelGrid, free: Bool[Tensor, "T X Y Z"], sweeps: Sequence[Float[Tensor, "_ 3"]]
) -> list[Int64[Tensor, "_"]]:
    """For every return of every sweep: how many of the other sweeps see its place free. 0 outside the grid."""
    total = free.sum(0)
    votes = []
    for own, xyz in zip(free, sweeps, strict=True):
        inside = grid.contains(xyz)
        x, y, z = grid.index_from_xyz(xyz[inside]).unbind(-1)
        count = torch.zeros(len(xyz), dtype=torch.int64)
        count[inside] = total[x, y, z] - own[x, y, z].long()
        votes.append(count)
    return votes


def heights_m(grid: VoxelGrid, sweeps: Sequence[Float[Tensor, "_ 3"]]) -> list[Float[Tensor, "_"]]:
    """Height of every return above the ground near it: the low returns of all sweeps within some metres."""
    extent = [high - low for low, high in zip(grid.lower_m, grid.upper_m, strict=True)]
    shape = tuple(max(int(-(-length // GROUND_CELL_M)), 1) for length in extent[:2])
    lower = torch.tensor(grid.lower_m[:2])
    last = torch.tensor(shape) - 1

    def cell_of(xyz: Tensor) -> Tensor:
        index = ((xyz[:, :2] - lower) / GROUND_CELL_M).floor().long().clamp_min(0).minimum(last)
        return index[:, 0] * shape[1] + index[:, 1]

    together = torch.cat(list(sweeps))
    low = _low_share(cell_of(together), together[:, 2], shape[0] * shape[1])
    ground = -F.max_pool2d(-low.view(1, 1, *shape), 3, 1, 1).view(-1)
    return [xyz[:, 2] - ground[cell_of(xyz)] for xyz in sweeps]


def _low_share(cell: Int64[Tensor, "P"], z: Float[Tensor, "P"], cells: int) -> Float[Tensor, "N"]:
    """The z that ``GROUND_SHARE`` of the returns of each cell lie under; infinite without any."""
    by_height = z.argsort()
    order = by_height[cell[by_height].argsort(stable=True)]
    count = torch.bincount(cell, minlength=cells)
    place = (count.cumsum(0) - count + (count * GROUND_SHARE).long()).clamp_max(max(len(z) - 1, 0))
    low = torch.full((cells,), torch.inf)
    some = count > 0
    low[some] = z[order[place[some]]]
    return low
