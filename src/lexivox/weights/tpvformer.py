"""TPVFormer's own rule for points, for numbers of imported weights that compare with its own (spec errata 31)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lexivox.geometry.grid import VoxelGrid


def released_places(grid: VoxelGrid, xyz: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
    """Where the released TPVFormer reads its planes for points, in metres of the grid's frame.

    It cuts the box into one voxel less than the grid has along each axis, so that only points on or beyond the upper
    faces fall into the last; rounds points down to a voxel; and reads at that voxel's lower corner in the full grid.
    POP-3D and lexivox read at the point itself. Voxels are the same in both. Use it as
    ``scene.read("semantic", released_places(grid, xyz), batch)``.
    """
    lower, upper, shape = (xyz.new_tensor(values) for values in (grid.lower_m, grid.upper_m, grid.shape))
    step = (upper - lower) / (shape - 1)
    voxel = torch.floor((xyz.clamp(lower, upper) - lower) / step)
    return lower + voxel * xyz.new_tensor(grid.voxel_size_m)
