"""Occupancy flow as published: voxels of now are scattered to where they were (spec occflownet 3.3, 3.4; A8).

Every voxel inside the box of a moving thing goes to the voxel that holds its place at another keyframe. Several that
meet are averaged and overwrite what was there, those beyond the grid go to its border, what they left is empty, holes
stay where rotations leave them, and a thing without a box then stays. Kept to compare with:
:meth:`lexivox.data.motion.Motion.to_now` has none of these. Values are moved, so gradients flow to the voxel that
they came from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.motion import BoxPairs, Motion, turned
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.voxelize import cells_of_boxes
from lexivox.model import Scene

SCALE, MARGIN_M = 1.15, 0.4
"""Boxes of now are enlarged to ``SCALE * size + MARGIN_M``, as published."""


def moved_voxels(
    grid: VoxelGrid, pairs: BoxPairs, scale: float = SCALE, margin_m: float = MARGIN_M
) -> tuple[Int64[Tensor, "M"], Int64[Tensor, "M"], Int64[Tensor, "M"]]:
    """The box, the voxel now and the voxel then, as flat numbers, of everything that boxes carry.

    A box counts if it is there at both keyframes and its centre is inside the grid now.
    """
    kept = (pairs.has_now & pairs.has_then & grid.contains(pairs.center_now)).nonzero()[:, 0]
    half_m = pairs.half_m[kept] * scale + margin_m / 2
    source, box = cells_of_boxes(grid, pairs.center_now[kept], half_m, pairs.yaw_now[kept])
    row = kept[box]
    center = grid.xyz_from_index(grid.index_from_flat(source)).to(half_m)
    own = turned(center - pairs.center_now[row], -pairs.yaw_now[row])
    held = (own.abs() <= half_m[box]).all(-1)
    own, row, source = own[held], row[held], source[held]
    then = turned(own, pairs.yaw_then[row]) + pairs.center_then[row]
    last = torch.tensor(grid.shape, device=source.device) - 1
    target = grid.flat_from_index(torch.minimum(grid.index_from_xyz(then).clamp_min(0), last))
    return row, source, target


def scatter_nearest(
    volume: Float[Tensor, "C X Y Z"],
    predicted: Int64[Tensor, "X Y Z"] | None,
    grid: VoxelGrid,
    pairs: BoxPairs,
    *,
    scale: float = SCALE,
    margin_m: float = MARGIN_M,
) -> Float[Tensor, "C X Y Z"]:
    """The volume as it was at another keyframe.

    Args:
        volume: densities and logits of one sample now.
        predicted: class of every voxel; only voxels of the box's own class move. None moves all.
        grid: of the volume.
        pairs: boxes of one sample and one keyframe.
        scale, margin_m: boxes are enlarged to ``scale * size + margin_m``.
    """
    row, source, target = moved_voxels(grid, pairs, scale, margin_m)
    if predicted is not None:
        fits = predicted.reshape(-1)[source] == pairs.label[row]
        source, target = source[fits], target[fits]
    values = volume.flatten(1)
    count = torch.bincount(target, minlength=values.shape[1])
    arrived = values.new_zeros(values.shape).index_add(1, target, values[:, source]) / count.clamp_min(1)
    left: Bool[Tensor, "N"] = torch.zeros_like(count, dtype=torch.bool)
    left[source] = True
    return torch.where(count > 0, arrived, torch.where(left, 0.0, values)).view_as(volume)


@dataclass(frozen=True, slots=True)
class Scattered:
    """The scattered volumes of all samples and keyframes as a table of sources: no volume is made.

    A voxel of a group (:meth:`Motion.group`) has the number ``group * num_voxels + voxel``; a voxel of now
    ``sample * num_voxels + voxel``.

    Attributes:
        target: numbers of the voxels that something moved to, ascending.
        first, count: where in ``source`` the sources of each begin, and how many there are.
        source: voxels of now.
        left: numbers of the voxels that something moved from, ascending.
        num_voxels: of the grid.
    """

    target: Int64[Tensor, "K"]
    first: Int64[Tensor, "K"]
    count: Int64[Tensor, "K"]
    source: Int64[Tensor, "M"]
    left: Int64[Tensor, "L"]
    num_voxels: int

    @classmethod
    @torch.no_grad()
    def of(cls, scene: Scene, grid: VoxelGrid, motion: Motion, match_class: bool) -> Scattered:
        """What moves with its box, of all samples; with ``match_class`` where its class is predicted, as published."""
        row, voxel, target = moved_voxels(grid, motion.pairs)
        group, size = motion.pairs.group[row], grid.num_voxels
        source = group // max(len(motion.offsets), 1) * size + voxel
        if match_class:
            place, inverse = source.unique(return_inverse=True)
            xyz = grid.xyz_from_index(grid.index_from_flat(place % size)).to(motion.pairs.center_now)
            said = scene.read("semantic", xyz, place // size).argmax(dim=-1)[inverse]
            fits = said == motion.pairs.label[row]
            group, source, voxel, target = group[fits], source[fits], voxel[fits], target[fits]
        key, order = (group * size + target).sort(stable=True)
        known, count = key.unique_consecutive(return_counts=True)
        return cls(known, count.cumsum(0) - count, count, source[order], (group * size + voxel).unique(), size)

    def sources(
        self, number: Int64[Tensor, "N"], group: Int64[Tensor, "N"]
    ) -> tuple[Int64[Tensor, "M"], Float[Tensor, "M"], Int64[Tensor, "N"]]:
        """Where to read, now, what stood in voxels at other keyframes.

        Args:
            number: voxels of now.
            group: of the keyframe at which each is asked for; -1 = now.

        Returns:
            Voxels of now, the share of each in the voxel that was asked for, and how many there are for each of these.
        """
        asked = torch.where(group >= 0, group * self.num_voxels + number % self.num_voxels, -1)
        place = torch.searchsorted(self.target, asked)
        arrived = torch.cat([self.target, asked.new_full((1,), -2)])[place] == asked
        place = torch.where(arrived, place, 0)
        nobody = asked.new_ones(1)
        times = torch.where(arrived, torch.cat([self.count, nobody])[place], 1)
        emptied = ~arrived & torch.isin(asked, self.left)
        row = torch.repeat_interleave(times)
        within = torch.arange(len(row), device=row.device) - (times.cumsum(0) - times)[row]
        moved = torch.cat([self.first, nobody])[place][row] + within
        found = number[row]
        found[arrived[row]] = self.source[moved[arrived[row]]]
        return found, (~emptied[row]).float() / times[row], times
