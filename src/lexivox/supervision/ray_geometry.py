"""What a ray is: from the LiDAR, or from every camera that sees the point, to a return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.data.types import Moment, Rays
from lexivox.errors import ConfigError
from lexivox.geometry.camera import cam_from_pixels, image_from_grid, is_visible, project_packed
from lexivox.geometry.transform import RigidTransform


@dataclass(frozen=True, slots=True)
class RayGeometry:
    """What a ray is. The defaults are ours; what is published stands behind (spec occflownet 2.2, 11).

    Attributes:
        origin: ``"lidar"`` = the sensor that measured; ``"camera"`` (published) = every camera that sees the point, one
            ray each.
        depth: ``"euclidean"`` = along the ray; ``"camera_z"`` (published, A2) = along the camera's optical axis, which
            is up to half as short again. Only for cameras.
        pixel_offset_px: 0 = the ray goes through the point; published is half a pixel of the original image (A4), so
            0.5 times the factor by which images were resized.
        min_depth_m, max_depth_m: returns at depths in ``[min, max)`` count; published 0.05 and 39.
        outside: returns outside the grid: ``"drop"`` is published; ``"keep"`` keeps their rays, which are free until
            they leave, with ``label`` IGNORED.
    """

    origin: Literal["lidar", "camera"] = "lidar"
    depth: Literal["euclidean", "camera_z"] = "euclidean"
    pixel_offset_px: float = 0.0
    min_depth_m: float = 1.0
    max_depth_m: float = 100.0
    outside: Literal["drop", "keep"] = "drop"

    def __post_init__(self) -> None:
        if self.origin == "lidar" and (self.depth == "camera_z" or self.pixel_offset_px):
            raise ConfigError(
                "rays must start at cameras to have camera_z depths or pixel offsets; got origin 'lidar'. "
                "Set origin='camera', or depth='euclidean' and pixel_offset_px=0."
            )


PUBLISHED_GEOMETRY = RayGeometry("camera", "camera_z", 0.5, 0.05, 39.0)


def trace_rays(moment: Moment, point: Int64[Tensor, "N"], geometry: RayGeometry) -> tuple[Rays, Int64[Tensor, "R"]]:
    """The rays to some points of a moment, and which of its points each ends in."""
    trace = rays_from_lidar if geometry.origin == "lidar" else rays_from_cameras
    return trace(moment, point, geometry)


def rays_from_lidar(
    moment: Moment, point: Int64[Tensor, "N"], geometry: RayGeometry
) -> tuple[Rays, Int64[Tensor, "R"]]:
    """One ray to each of the points, from where the sensor was; and which point it is."""
    origin = moment.lidar_origin[moment.lidar.batch[point]]
    way = moment.lidar.xyz[point] - origin
    depth_m = way.norm(dim=-1)
    near = (depth_m >= geometry.min_depth_m) & (depth_m < geometry.max_depth_m)
    rays = _rays(moment, point[near], origin[near], F.normalize(way[near], dim=-1), depth_m[near])
    return rays, point[near]


def rays_from_cameras(
    moment: Moment, point: Int64[Tensor, "N"], geometry: RayGeometry
) -> tuple[Rays, Int64[Tensor, "R"]]:
    """One ray for every camera that sees a point, camera by camera; and which point it is (spec occflownet 2.2)."""
    cameras, owner = moment.cameras, moment.lidar.batch[point]
    matrix = image_from_grid(cameras.image_from_cam, cameras.cam_from_grid)
    uv, z = project_packed(moment.lidar.xyz[point].double(), owner, matrix)
    grid_from_cam = cameras.cam_from_grid.inverse()
    origin = grid_from_cam.translation.to(uv)[owner]  # (N, V, 3)
    way = moment.lidar.xyz[point].double()[:, None] - origin
    depth_m = z if geometry.depth == "camera_z" else way.norm(dim=-1)
    seen = is_visible(uv, z, cameras.image_hw)
    seen &= (depth_m >= geometry.min_depth_m) & (depth_m < geometry.max_depth_m)
    view, row = seen.T.nonzero(as_tuple=True)
    direction = way[row, view]
    if geometry.pixel_offset_px:
        pixel = uv[row, view] + geometry.pixel_offset_px
        direction = pixel_directions(pixel, cameras.image_from_cam[owner[row], view], grid_from_cam[owner[row], view])
    direction = F.normalize(direction, dim=-1)
    kind = moment.lidar.xyz.dtype
    rays = _rays(moment, point[row], origin[row, view].to(kind), direction.to(kind), depth_m[row, view].to(kind))
    return rays, point[row]


def pixel_directions(
    uv: Float[Tensor, "R 2"], image_from_cam: Float[Tensor, "R 3 3"], grid_from_cam: RigidTransform
) -> Float[Tensor, "R 3"]:
    """Directions, not unit, from cameras through pixels, each ray with a camera of its own."""
    ahead = cam_from_pixels(uv[:, None], torch.ones_like(uv[:, :1]), image_from_cam)[:, 0]
    return torch.einsum("rij,rj->ri", grid_from_cam.rotation.to(uv), ahead)


def _rays(moment: Moment, point: Tensor, origin: Tensor, direction: Tensor, depth_m: Tensor) -> Rays:
    owner = moment.lidar.batch[point]
    return Rays(
        origins=origin,
        directions=direction,
        depth_m=depth_m,
        batch=owner,
        offset=torch.full_like(owner, moment.offset),
        time_s=moment.time_s[owner],
        weight=torch.ones_like(depth_m),
    )
