"""Weighted sums of image features into voxels, without a tensor of points x channels (OccFlowNet spec 8).

Every pixel of a feature map lies somewhere along its viewing ray; a weight for each of its depths says how much of
its feature belongs there. Which voxel each (pixel, depth) falls into is geometry: :class:`PoolPlan` finds and sorts
that once, :func:`voxel_pool` then reads every number once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.errors import ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.sampling import has_numba


@dataclass(frozen=True, slots=True, eq=False)
class PoolPlan:
    """Which voxel each point of the frusta falls into; points are numbered ``pixel * D + bin``.

    Attributes:
        voxel_of_point: row in the volumes flattened as (B, X, Y, Z); -1 outside.
        point: the points inside, in the order of their voxels, and of their numbers within a voxel.
        voxel: the rows that hold points, ascending.
        first: where in ``point`` those of each row begin.
        size: number of samples.
        grid: of the volumes.
    """

    voxel_of_point: Int64[Tensor, "N D"]
    point: Int64[Tensor, "P"]
    voxel: Int64[Tensor, "K"]
    first: Int64[Tensor, "K"]
    size: int
    grid: VoxelGrid

    @classmethod
    def of(cls, xyz: Float[Tensor, "B *pixels D 3"], grid: VoxelGrid, *, truncate: bool = False) -> PoolPlan:
        """Sort points by voxel.

        Args:
            xyz: points in the grid's frame.
            truncate: round voxel coordinates toward zero, as published: points up to one voxel *below* the lower
                bounds then count as inside. False rounds down.
        """
        coordinate = grid.coordinate_from_xyz(xyz)
        index = (torch.trunc(coordinate) if truncate else torch.floor(coordinate)).to(torch.int64)
        sample = torch.arange(len(xyz), device=xyz.device).reshape(-1, *[1] * (xyz.dim() - 2))
        voxel = torch.where(grid.contains_index(index), grid.flat_from_index(index) + sample * grid.num_voxels, -1)
        return cls._sorted(voxel.reshape(-1, xyz.shape[-2]), len(xyz), grid)

    @classmethod
    def _sorted(cls, voxel_of_point: Int64[Tensor, "N D"], size: int, grid: VoxelGrid) -> PoolPlan:
        flat = voxel_of_point.flatten()
        inside = (flat >= 0).nonzero()[:, 0]
        rows, order = flat[inside].sort(stable=True)
        voxel, count = rows.unique_consecutive(return_counts=True)
        return cls(voxel_of_point, inside[order], voxel, count.cumsum(0) - count, size, grid)


def voxel_pool(
    feature: Float[Tensor, "_ C"], weight: Float[Tensor, "_ D"], plan: PoolPlan
) -> Float[Tensor, "B C X Y Z"]:
    """``out[v] = sum over points p in voxel v of weight[p] * feature[pixel of p]``; differentiable in both.

    On a CPU a compiled loop runs where numba is installed. Sums are made in float32 or wider; they and the gradients
    are the same in every run there. The volume is laid out channels-last.

    Raises:
        ShapeError: other pixels or bins than the plan's.
    """
    if feature.shape[:1] + weight.shape[1:] != plan.voxel_of_point.shape or len(feature) != len(weight):
        raise ShapeError(
            f"pooled features and weights must have the plan's pixels and bins, {tuple(plan.voxel_of_point.shape)}; "
            f"got {tuple(feature.shape)} and {tuple(weight.shape)}. Plan with the geometry they come from."
        )
    wide = torch.promote_types(torch.promote_types(feature.dtype, weight.dtype), torch.float32)
    pool = voxel_pool_numba if feature.device.type == "cpu" and has_numba() else voxel_pool_torch
    rows = pool(feature.to(wide), weight.to(wide), plan)
    return rows.unflatten(0, (plan.size, *plan.grid.shape)).movedim(-1, 1)


def voxel_pool_torch(
    feature: Float[Tensor, "N C"], weight: Float[Tensor, "N D"], plan: PoolPlan
) -> Float[Tensor, "rows C"]:
    """The rows of the volumes, flattened as (B, X, Y, Z), in torch on any device."""
    rows = feature.new_zeros(plan.size * plan.grid.num_voxels, feature.shape[1])
    if len(plan.point) == 0:
        return rows + 0.0 * (feature.sum() + weight.sum())  # so that gradients exist, and are zero
    pixel = plan.point // weight.shape[1]
    chosen = weight.flatten().index_select(0, plan.point)
    sums = F.embedding_bag(pixel, feature, plan.first, mode="sum", per_sample_weights=chosen)
    return rows.index_copy_(0, plan.voxel, sums)


def voxel_pool_numba(
    feature: Float[Tensor, "N C"], weight: Float[Tensor, "N D"], plan: PoolPlan
) -> Float[Tensor, "rows C"]:
    """:func:`voxel_pool_torch` by the compiled loop; float32 or float64 tensors on the CPU only."""
    from lexivox.ops.kernels import voxel_pool_numba as kernel

    tables = plan.voxel_of_point, plan.point, plan.voxel, plan.first
    num_rows = plan.size * plan.grid.num_voxels
    return kernel.VoxelPool.apply(feature.contiguous(), weight.contiguous(), *tables, num_rows)
