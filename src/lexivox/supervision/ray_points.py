"""Places along rays and what is known there: free before the return, occupied at it, nothing behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.types import FREE, OCCUPIED, Batch, LabelledPoints, Rays
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.rays import clip_to_box


@dataclass(frozen=True, slots=True)
class PlaceRule:
    """Where along a ray questions are asked. Distances in metres.

    Attributes:
        num_free: questions before the return, one in each of so many equal parts of the way through the grid.
        near_share: so many of them are asked within the last ``near_m`` before the return instead, where surfaces
            are drawn.
        near_m: see ``near_share``.
        margin_m: so far before the return nothing is called free: beams are wide and calibration is not exact.
        thickness_m: the return is asked at up to so far behind the measured distance, drawn evenly.
        snap: chance that a question is asked at the centre of its voxel, where a map is read.
    """

    num_free: int = 6
    near_share: float = 0.5
    near_m: float = 4.0
    margin_m: float = 0.3
    thickness_m: float = 0.2
    snap: float = 0.5

    def free(
        self, grid: VoxelGrid, rays: Rays, generator: torch.Generator
    ) -> tuple[Float[Tensor, "N 3"], Int64[Tensor, "N"]]:
        """Places that light passed on its way to the returns, and the ray of each; all in the grid's box.

        A ray whose return lies beyond the grid is free all along.
        """
        first_m, last_m, passes = inside_m(grid, rays)
        last_m = torch.minimum(last_m, rays.depth_m - self.margin_m)
        row = (passes & (last_m > first_m)).nonzero()[:, 0]
        first_m, last_m = first_m[row, None], last_m[row, None]
        num_near = round(self.num_free * self.near_share)
        near_m = torch.maximum(first_m, last_m - self.near_m)
        distance_m = torch.cat(
            [
                _stratified(first_m, last_m, self.num_free - num_near, generator),
                _stratified(near_m, last_m, num_near, generator),
            ],
            dim=1,
        )
        xyz = rays.origins[row, None] + distance_m[..., None] * rays.directions[row, None]
        return xyz.flatten(0, 1), row.repeat_interleave(self.num_free)

    def hits(self, rays: Rays, generator: torch.Generator) -> Float[Tensor, "R 3"]:
        """The place of each return, or a little behind it, wherever it lies."""
        behind_m = self.thickness_m * torch.rand(len(rays.depth_m), generator=generator).to(rays.depth_m)
        return rays.origins + (rays.depth_m + behind_m)[:, None] * rays.directions

    def snapped(self, grid: VoxelGrid, xyz: Float[Tensor, "N 3"], generator: torch.Generator) -> Float[Tensor, "N 3"]:
        """Some of the places moved to the centres of their voxels."""
        if not self.snap:
            return xyz
        is_moved = torch.rand(len(xyz), generator=generator) < self.snap
        return torch.where(is_moved.to(xyz.device)[:, None], grid.xyz_from_index(grid.index_from_xyz(xyz)).to(xyz), xyz)


def inside_m(grid: VoxelGrid, rays: Rays) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"], Bool[Tensor, "R"]]:
    """Where rays enter and leave the grid, and whether they touch it at all; not cut off at the return."""
    lower, upper = rays.origins.new_tensor(grid.lower_m), rays.origins.new_tensor(grid.upper_m)
    return clip_to_box(rays.origins, rays.directions, lower, upper)


def _stratified(
    first_m: Float[Tensor, "R 1"], last_m: Float[Tensor, "R 1"], count: int, generator: torch.Generator
) -> Float[Tensor, "R N"]:
    place = torch.arange(count) + torch.rand(len(first_m), count, generator=generator)
    return first_m + (last_m - first_m) * (place / max(count, 1)).to(first_m)


def holds_return(
    batch: Batch, xyz: Float[Tensor, "N 3"], owner: Int64[Tensor, "N"], offset: Int64[Tensor, "N"]
) -> Bool[Tensor, "N"]:
    """Whether the voxel of each place holds a return of the sweep that its ray is of.

    Rays that graze the ground pass the voxels it lies in, also those of other keyframes, whose returns are elsewhere.

    Args:
        xyz: in the grid's frame at the current keyframe, where the ray was; a moving thing is not followed.
        owner, offset: sample and keyframe of the ray.
    """
    holds = torch.zeros_like(offset, dtype=torch.bool)
    number = voxel_numbers(batch.grid, xyz, owner)
    for moment in (batch.now, *batch.around):
        filled = torch.zeros(batch.grid.num_voxels * batch.size + 1, dtype=torch.bool, device=xyz.device)
        filled[voxel_numbers(batch.grid, moment.lidar.xyz, moment.lidar.batch)] = True
        filled[-1] = False  # whatever lies outside the grid
        holds |= filled[number] & (offset == moment.offset)
    return holds


def occupied_wins(
    grid: VoxelGrid, points: LabelledPoints, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]
) -> LabelledPoints:
    """Leave out what is free in a voxel that holds a return: grazing rays pass the voxels of the ground they see.

    Args:
        xyz, batch: all known returns, beside those among the points.
    """
    is_hit = points.label == OCCUPIED
    filled = voxel_numbers(grid, torch.cat([xyz, points.xyz[is_hit]]), torch.cat([batch, points.batch[is_hit]]))
    own = voxel_numbers(grid, points.xyz, points.batch)
    return take(points, ~((points.label == FREE) & torch.isin(own, filled)))


def voxel_numbers(grid: VoxelGrid, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]) -> Int64[Tensor, "P"]:
    """One number for each voxel of each sample; -1 outside the grid."""
    index = grid.index_from_xyz(xyz)
    flat = grid.flat_from_index(index) + grid.num_voxels * batch
    return torch.where(grid.contains(xyz), flat, -1)


def take(points: LabelledPoints, kept: Bool[Tensor, "N"]) -> LabelledPoints:
    """Some rows."""
    weight = None if points.weight is None else points.weight[kept]
    return replace(points, xyz=points.xyz[kept], batch=points.batch[kept], label=points.label[kept], weight=weight)
