"""Points into voxels: counts, majority labels, means. Points outside are dropped unless moved inside first.

Indices are computed in float64, so that a point lands in the same voxel here and in the ray traversal.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.errors import ShapeError
from lexivox.geometry.grid import VoxelGrid


def clamp_to_grid(grid: VoxelGrid, xyz: Float[Tensor, "P 3"], margin_m: float = 1e-3) -> Float[Tensor, "P 3"]:
    """Move points outside the grid onto its border voxels, in float64; POP-3D trains so (spec 1.8)."""
    xyz = xyz.to(torch.float64)
    lower, upper = xyz.new_tensor(grid.lower_m), xyz.new_tensor(grid.upper_m)
    return torch.minimum(torch.maximum(xyz, lower), upper - margin_m)


def voxels_of_points(grid: VoxelGrid, xyz: Float[Tensor, "P 3"]) -> tuple[Int64[Tensor, "N"], Int64[Tensor, "N"]]:
    """The points inside the grid: which of the given ones they are, and the flat number of their voxels."""
    xyz = xyz.to(torch.float64)
    kept = grid.contains(xyz).nonzero()[:, 0]
    return kept, grid.flat_from_index(grid.index_from_xyz(xyz[kept]))


def occupancy_counts(grid: VoxelGrid, xyz: Float[Tensor, "P 3"]) -> Int64[Tensor, "X Y Z"]:
    """How many points each voxel holds."""
    _, flat = voxels_of_points(grid, xyz)
    return torch.bincount(flat, minlength=grid.num_voxels).view(grid.shape)


def majority_label(
    grid: VoxelGrid, xyz: Float[Tensor, "P 3"], label: Int64[Tensor, "P"], num_classes: int
) -> tuple[Int64[Tensor, "N 3"], Int64[Tensor, "N"]]:
    """The occupied voxels, in flat order, and the label that most of their points carry; ties: the smallest.

    Raises:
        ShapeError: a label lies outside ``0..num_classes - 1``.
    """
    if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < num_classes:
        found = f"{int(label.min())}..{int(label.max())}"
        raise ShapeError(
            f"labels of points must lie in 0..{num_classes - 1}; got {found}. Map them to the class table first."
        )
    kept, flat = voxels_of_points(grid, xyz)
    pairs, votes = torch.unique(flat * num_classes + label[kept], return_counts=True)
    voxel, row = torch.unique_consecutive(pairs // num_classes, return_inverse=True)
    # Votes lead, the label breaks ties: the greatest rank belongs to the smallest label.
    rank = votes * num_classes + (num_classes - 1 - pairs % num_classes)
    best = rank.new_zeros(len(voxel)).scatter_reduce_(0, row, rank, "amax")
    return grid.index_from_flat(voxel), num_classes - 1 - best % num_classes


def scatter_mean(values: Float[Tensor, "P C"], row: Int64[Tensor, "P"], num_rows: int) -> Float[Tensor, "N C"]:
    """Mean of the values that share a row; 0 in rows that no value names. Differentiable."""
    total = values.new_zeros(num_rows, values.shape[1]).index_add(0, row, values)
    count = torch.bincount(row, minlength=num_rows).clamp_min(1)
    return total / count[:, None].to(values)


def cells_of_boxes(
    grid: VoxelGrid, center: Float[Tensor, "N 3"], half_m: Float[Tensor, "N 3"], yaw_rad: Float[Tensor, "N"]
) -> tuple[Int64[Tensor, "M"], Int64[Tensor, "M"]]:
    """Every pair of a voxel of the grid, as its flat number, and an upright box whose bounding box reaches into it."""
    c, s = yaw_rad.cos().abs(), yaw_rad.sin().abs()
    length, width, height = half_m.unbind(-1)
    reach = torch.stack([c * length + s * width, s * length + c * width, height], -1)
    last = torch.tensor(grid.shape, device=center.device) - 1
    low = grid.index_from_xyz(center - reach).clamp_min(0)
    high = torch.minimum(grid.index_from_xyz(center + reach), last)
    size = (high - low + 1).clamp_min(0)
    count = size.prod(-1)
    box = torch.repeat_interleave(count)
    number = torch.arange(len(box), device=center.device) - (count.cumsum(0) - count)[box]
    depth, rows = size[box, 2], size[box, 1]
    index = torch.stack([number // (depth * rows), number // depth % rows, number % depth], -1)
    return grid.flat_from_index(low[box] + index), box
