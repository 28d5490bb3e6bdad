"""Where a picture is taken from: the same three viewpoints as the page's ``assets/camera.js``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from lexivox.geometry.grid import VoxelGrid

ViewpointName = Literal["chase", "top", "driver"]
FIELD_OF_VIEW_RAD = math.radians(42.0)
NEAR_M = 0.1


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """An upright orbit camera: it looks at ``target`` from ``distance_m`` away.

    ``azimuth_rad`` is the direction from the target to the eye, counter-clockwise from the grid's +x as seen
    from above; ``elevation_rad`` the height of the eye over the horizon.
    """

    target: tuple[float, float, float]
    distance_m: float
    azimuth_rad: float
    elevation_rad: float

    @property
    def eye(self) -> Float[np.ndarray, "3"]:
        flat = math.cos(self.elevation_rad)
        away = np.array(
            [
                flat * math.cos(self.azimuth_rad),
                flat * math.sin(self.azimuth_rad),
                math.sin(self.elevation_rad),
            ]
        )
        return np.asarray(self.target, dtype=np.float64) + self.distance_m * away

    def axes(self) -> Float[np.ndarray, "3 3"]:
        """Rows: right, down, forward of the camera in the grid: a rotation, so nothing is mirrored."""
        forward = np.asarray(self.target, dtype=np.float64) - self.eye
        forward /= np.linalg.norm(forward)
        right = np.array([-math.sin(self.azimuth_rad), math.cos(self.azimuth_rad), 0.0])
        return np.stack([right, np.cross(forward, right), forward])

    def project(
        self, xyz: Float[np.ndarray, "P 3"], size_wh: tuple[int, int]
    ) -> tuple[Float[np.ndarray, "P 2"], Float[np.ndarray, "P"]]:
        """Pixels (first pixel's centre at 0.5) and depth; points nearer than 0.1 m get NaN pixels."""
        cam = (xyz - self.eye) @ self.axes().T
        depth = cam[:, 2]
        focal = size_wh[1] / 2 / math.tan(FIELD_OF_VIEW_RAD / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            uv = np.where(depth[:, None] > NEAR_M, cam[:, :2] / depth[:, None], np.nan) * focal
        return uv + np.array(size_wh) / 2, depth


def forward_rad(grid: VoxelGrid) -> float:
    """Direction of the car in the grid's plane: +x in ego grids, +y in lidar grids."""
    return 0.0 if grid.frame == "ego" else math.pi / 2


def viewpoint(name: ViewpointName, grid: VoxelGrid, ground_m: float, aspect: float) -> Viewpoint:
    """One of the named viewpoints, fitted to the grid and to a picture of ``aspect`` = width / height."""
    ahead = forward_rad(grid)
    lower, upper = np.asarray(grid.lower_m), np.asarray(grid.upper_m)
    reach = float((upper - lower)[:2].max())
    x, y = math.cos(ahead), math.sin(ahead)
    if name == "top":
        middle = ((lower + upper) / 2).tolist()
        distance = reach * 0.54 * max(1.0, 1 / aspect) / math.tan(FIELD_OF_VIEW_RAD / 2)
        return Viewpoint((middle[0], middle[1], ground_m), distance, ahead + math.pi, math.pi / 2 - 1e-4)
    if name == "driver":
        return Viewpoint((10 * x, 10 * y, ground_m + 1.2), 17.0, ahead + math.pi, 0.22)
    distance = 0.84 * reach * max(1.0, 1.15 / aspect)
    return Viewpoint((0.0, 0.0, ground_m), distance, ahead + math.pi - 0.35, 0.62)
