"""Which voxel the pixels of a rig fall into at each depth, and by which rules."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch

from lexivox.data.types import Cameras
from lexivox.geometry.frustum import DepthBins, Places, cell_pixels, frustum_points, viewing_rays
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.voxel_pool import PoolPlan

KEPT_PLANS = 4
"""Geometries whose sorted points are kept: one rig for each moment that is lifted."""


@dataclass(frozen=True, slots=True)
class LiftRules:
    """How pixels are lifted; the defaults are ours.

    Attributes:
        places: what cells and bins stand for; ``"corners"`` as published (spec A16).
        truncate: count points up to a voxel below the grid's lower bounds as inside, as published (spec 8.1).
        is_relative: tell the depth network intrinsics relative to the size of the image; False as published.
        native_scale, native_top_px: of :func:`lexivox.encoders.depth_net.camera_numbers`, for published weights.
        learn_past: let gradients into what is made of past keyframes; False as published.
        own_mounting: tell the depth network where a past camera sits on the car at its own keyframe; False tells it
            where the current one does, as published (spec A13). The two differ by what the car drives between the
            exposures of a camera and of the LiDAR.
        past_statistics: let batch norms see past keyframes in training, and learn their statistics from them, as
            published; False shows them the norms as they are used afterwards (spec A19).
    """

    places: Places = "centres"
    truncate: bool = False
    is_relative: bool = True
    native_scale: float = 1.0
    native_top_px: float = 0.0
    learn_past: bool = False
    own_mounting: bool = True
    past_statistics: bool = False


class PlanCache:
    """Sorted frustum points of the geometries seen last: a rig that does not change is sorted once."""

    def __init__(self, grid: VoxelGrid, bins: DepthBins, rules: LiftRules) -> None:
        self.grid, self.bins, self.rules = grid, bins, rules
        self._kept: OrderedDict[tuple, PoolPlan] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, cameras: Cameras, cells_hw: tuple[int, int]) -> PoolPlan:
        """The plan for feature maps of this size, pixels in the order (B, V, h, w)."""
        pose = cameras.cam_from_grid
        numbers = (cameras.image_from_cam, pose.rotation, pose.translation)
        key = (cells_hw, cameras.image_hw, pose.rotation.device, *(x.cpu().numpy().tobytes() for x in numbers))
        if key not in self._kept:
            with torch.inference_mode(False), torch.no_grad():  # a plan made while predicting may serve in training
                self._kept[key] = self._plan(cameras, cells_hw)
            if len(self._kept) > KEPT_PLANS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _plan(self, cameras: Cameras, cells_hw: tuple[int, int]) -> PoolPlan:
        places = self.rules.places
        uv = cell_pixels(cells_hw, cameras.image_hw, places)
        rays = viewing_rays(uv, cameras.image_from_cam)
        xyz = frustum_points(rays, self.bins.depths_m(places), cameras.cam_from_grid.inverse())
        return PoolPlan.of(xyz, self.grid, truncate=self.rules.truncate)
