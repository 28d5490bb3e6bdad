"""A ring of cameras around a small box, random images: what encoders and fields are tested on."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from lexivox.data.types import Batch, Cameras, LidarSweep, Targets
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

GRID = VoxelGrid((-8.0, -6.0, -1.0), (1.6, 1.5, 1.0), (10, 8, 4), "ego")
IMAGE_HW = (32, 64)


def cam_from_ego(yaw_rad: float, origin: tuple[float, float, float]) -> RigidTransform:
    """A level camera that looks along ``yaw_rad``."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    ego_from_cam = torch.tensor([[s, 0.0, c], [-c, 0.0, s], [0.0, -1.0, 0.0]], dtype=torch.float64)
    return RigidTransform(ego_from_cam, torch.tensor(origin, dtype=torch.float64)).inverse()


def ring(batch: int = 1, views: int = 3, image_hw: tuple[int, int] = IMAGE_HW, seed: int = 0) -> Cameras:
    """Every sample has its own images and slightly turned cameras; neighbours overlap."""
    generator = torch.Generator().manual_seed(seed)
    height, width = image_hw
    intrinsics = torch.tensor([[0.25 * width, 0, width / 2], [0, 0.25 * width, height / 2], [0, 0, 1.0]])
    poses = [
        cam_from_ego(2 * math.pi * v / views + 0.1 * b + 0.3, (0.5, 0.1, 1.4))
        for b in range(batch)
        for v in range(views)
    ]
    pose = RigidTransform(torch.zeros(0, 3, 3), torch.zeros(0, 3)) if not poses else RigidTransform.stack(poses)
    pose = RigidTransform(pose.rotation.reshape(batch, views, 3, 3), pose.translation.reshape(batch, views, 3))
    images = torch.randint(0, 256, (batch, views, 3, *image_hw), dtype=torch.uint8, generator=generator)
    names = tuple(f"CAM_{v}" for v in range(views))
    return Cameras(images, intrinsics.expand(batch, views, 3, 3), pose, names)


def take(cameras: Cameras, item: slice = slice(None), views: list[int] | None = None) -> Cameras:
    """Some samples, some views, in the order asked for."""
    order = list(range(len(cameras.names))) if views is None else views
    return Cameras(
        cameras.images[item][:, order],
        cameras.image_from_cam[item][:, order],
        RigidTransform(
            cameras.cam_from_grid.rotation[item][:, order], cameras.cam_from_grid.translation[item][:, order]
        ),
        tuple(cameras.names[v] for v in order),
    )


def batch_of(cameras: Cameras, grid: VoxelGrid = GRID) -> Batch:
    size = len(cameras.images)
    none = torch.zeros(0, dtype=torch.int64)
    sweep = LidarSweep(torch.zeros(0, 3), torch.zeros(0), none, none)
    tokens = tuple(f"sample{b}" for b in range(size))
    return Batch(grid, tokens, cameras, sweep, torch.zeros(size, 3), Targets())


def with_images(cameras: Cameras, images: Tensor) -> Cameras:
    return replace(cameras, images=images)


def points(count: int, grid: VoxelGrid = GRID, seed: int = 0) -> Tensor:
    """Points anywhere in the box."""
    unit = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))
    lower, upper = torch.tensor(grid.lower_m), torch.tensor(grid.upper_m)
    return lower + unit * (upper - lower)
