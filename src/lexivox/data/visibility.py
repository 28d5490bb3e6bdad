"""Which voxels of a keyframe its own sensors reach: the masks of the benchmarks, from rays walked exactly."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from lexivox.data.collate import grid_from_ego, grid_from_lidar
from lexivox.data.labels import occupancy_from_lidar
from lexivox.data.types import IGNORED, Sample
from lexivox.geometry.camera import cam_from_pixels
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.first_hit import mark_until_hit


def seen_by_lidar(sample: Sample, grid: VoxelGrid) -> Bool[Tensor, "X Y Z"]:
    """Voxels that a ray of the keyframe's sweep passes or ends in."""
    transform = grid_from_lidar(sample, grid)
    origin = transform.translation.float()
    return occupancy_from_lidar(grid, origin, transform.apply(sample.lidar.xyz)) != IGNORED


def seen_by_camera(
    sample: Sample, grid: VoxelGrid, occupied: Bool[Tensor, "X Y Z"], pixel_stride: int = 4
) -> Bool[Tensor, "X Y Z"]:
    """Voxels that a ray through some pixel meets before or at the first occupied one.

    Args:
        occupied: what stops rays.
        pixel_stride: one ray for so many pixels along each axis.
    """
    seen = torch.zeros(grid.shape, dtype=torch.bool)
    for view in sample.views:
        height, width = view.image_hw
        rows, columns = (
            torch.arange(pixel_stride / 2, size, pixel_stride, dtype=torch.float64) for size in (height, width)
        )
        row, column = torch.meshgrid(rows, columns, indexing="ij")
        uv = torch.stack([column, row], -1).reshape(-1, 2)
        in_cam = cam_from_pixels(uv, torch.ones(len(uv), dtype=torch.float64), view.image_from_cam)
        grid_from_cam = grid_from_ego(sample, grid) @ view.ego_from_cam
        directions = in_cam @ grid_from_cam.rotation.double().T
        seen |= mark_until_hit(grid, occupied, grid_from_cam.translation, directions)
    return seen
