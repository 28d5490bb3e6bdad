"""Small made-up keyframes with known geometry, for tests that need a whole sample."""

from __future__ import annotations

import math

import torch

from lexivox.data.types import Boxes, CameraView, LidarSweep, PointFeatures, PointLabels, Sample
from lexivox.geometry.transform import RigidTransform

IMAGE_HW = (32, 48)
CAM_AXES = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64)
"""ego_from_cam rotation of a camera that looks forward."""

TINY = (
    "grid.lower_m=[-24, -24, -2]",
    "grid.voxel_size_m=[4, 4, 2]",
    "grid.shape=[12, 12, 4]",
    "encoder.image.image_hw=[64, 112]",
    "encoder.image.backbone=scratch",
    "encoder.image.widths=[8, 8, 8]",
    "encoder.image.channels=16",
    "encoder.triplane.coarsen=1",
    "encoder.depth_bins=4",
    "encoder.depth_channels=4",
    "heads.occupancy.hidden=16",
    "heads.language.hidden=16",
    "train.steps=8",
    "train.batch_size=1",
    "train.warmup_steps=0",
    "train.checkpoint_every=100",
    "train.workers=0",
)
"""The demo's recipe at a size of seconds; numbers that matter are all set here, the recipe may change its own."""


def make_sample(seed: int = 0, num_points: int = 400, num_views: int = 3, dim: int = 8) -> Sample:
    """Random points around a car with cameras that look in different directions."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    xyz = (rand(num_points, 3) - 0.5) * torch.tensor([24.0, 24.0, 3.0])
    index = torch.randperm(num_points, generator=generator)[: num_points // 2].sort().values
    feature = torch.nn.functional.normalize(rand(len(index), dim) - 0.5, dim=-1)
    lidar_yaw = RigidTransform.from_yaw(-math.pi / 2, (0.9, 0.0, 1.8))
    return Sample(
        token=f"sample-{seed}",
        drive="drive",
        timestamp_ns=1_000_000_000 + seed,
        views=tuple(_view(i, num_views, rand(3, *IMAGE_HW)) for i in range(num_views)),
        lidar=LidarSweep(
            xyz, rand(num_points), torch.zeros(num_points, dtype=torch.int64),
            torch.zeros(num_points, dtype=torch.int64),
        ),
        ego_from_lidar=lidar_yaw,
        global_from_ego=RigidTransform.from_yaw(0.7, (100.0, -20.0, 0.5)),
        point_labels=PointLabels(
            torch.randint(0, 17, (num_points,), generator=generator), torch.zeros(num_points, dtype=torch.int64)
        ),
        boxes=Boxes(
            rand(2, 3), rand(2, 3) + 0.5, rand(2), rand(2, 2),
            torch.ones(2, dtype=torch.int64), torch.arange(2),
        ),
        point_features=PointFeatures(index, feature, torch.ones(len(index))),
    )  # fmt: skip


def _view(number: int, count: int, pixels: torch.Tensor) -> CameraView:
    turned = RigidTransform.from_yaw(2 * math.pi * number / count, (0.5, 0.1 * number, 1.5))
    intrinsics = torch.tensor([[30.0, 0.0, 24.3], [0.0, 31.0, 15.8], [0.0, 0.0, 1.0]], dtype=torch.float64)
    cam = RigidTransform(CAM_AXES, torch.zeros(3, dtype=torch.float64))
    image = (pixels * 255).to(torch.uint8)
    return CameraView(f"CAM_{number}", image, intrinsics, turned @ cam, 1_000_000_000)
