"""Sparse depth of images from a point cloud: the nearest point of every pixel, or of every cell of pixels."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.data.types import Cameras
from lexivox.errors import ShapeError
from lexivox.geometry.camera import image_from_grid, project_packed

PixelRule = Literal["floor", "round"]
"""``"floor"``: the pixel that a point falls into, centres at 0.5. ``"round"`` is published (spec occflownet 8.4): half
a pixel up and left of it."""


def depth_maps(
    cameras: Cameras,
    xyz: Float[Tensor, "P 3"],
    owner: Int64[Tensor, "P"],
    *,
    near_m: float = 1.0,
    far_m: float = 45.0,
    cell_px: int = 1,
    pixel: PixelRule = "floor",
) -> Float[Tensor, "B V h w"]:
    """Depth along the optical axis of the nearest point of each cell, in metres; 0 where none fell.

    Args:
        cameras: of a batch or a moment; their pixels are not looked at.
        xyz: points in the grid's frame.
        owner: the sample of each point.
        near_m, far_m: depths in ``[near_m, far_m)`` count.
        cell_px: side of a square cell, 16 for a lift with stride 16; an incomplete cell at the border counts.
        pixel: how a projection becomes a pixel.

    Raises:
        ShapeError: ``cell_px`` is not above zero, or the rule is unknown.
    """
    if cell_px < 1:
        raise ShapeError(f"cell_px of depth maps must be above 0; got {cell_px}.")
    if pixel not in ("floor", "round"):
        raise ShapeError(f"pixel of depth maps must be 'floor' or 'round'; got {pixel!r}.")
    height, width = cameras.image_hw
    matrix = image_from_grid(cameras.image_from_cam, cameras.cam_from_grid)
    uv, depth_m = project_packed(xyz.to(torch.float64), owner, matrix)
    size = uv.new_tensor([width, height])
    place = torch.floor(uv) if pixel == "floor" else torch.round(uv)
    seen = ((place >= 0) & (place < size)).all(-1) & (depth_m >= near_m) & (depth_m < far_m)
    point, view = seen.nonzero(as_tuple=True)
    column, row = torch.div(place[point, view].long(), cell_px, rounding_mode="floor").unbind(-1)
    rows, columns = -(-height // cell_px), -(-width // cell_px)
    batch_size, num_views = cameras.image_from_cam.shape[:2]
    flat = ((owner[point] * num_views + view) * rows + row) * columns + column
    nearest = torch.full((batch_size * num_views * rows * columns,), torch.inf, dtype=uv.dtype, device=uv.device)
    nearest.scatter_reduce_(0, flat, depth_m[point, view], "amin")
    return torch.where(nearest.isfinite(), nearest, 0.0).to(xyz).view(batch_size, num_views, rows, columns)
