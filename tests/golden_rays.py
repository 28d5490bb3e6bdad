"""The golden case of OccFlowNet's rays as our own types: a clip of three keyframes with synthetic ego motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lexivox.data.classes import NUSCENES16_FROM_RAW
from lexivox.data.types import CameraView, Clip, LidarSweep, PointLabels, Sample
from lexivox.geometry.grid import OCC3D
from lexivox.geometry.transform import RigidTransform

GRID = OCC3D
MIRROR_X = torch.tensor([-1.0, 1.0, 1.0])
"""The case's augmentation of the bird's-eye view; ours mirrors y, so that tests apply it to what comes out."""


def read_case(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "occflownet_rays.npz", allow_pickle=False) as archive:
        return dict(archive)


def golden_clip(case: dict[str, np.ndarray], augmented: bool = True) -> Clip:
    """Frames -1, 0, 1. The image augmentation is folded into the intrinsics, or left out."""
    before, now, after = (_frame(case, number, augmented) for number in range(3))
    return Clip(now, (-1, 1), (before, after))


def _frame(case: dict[str, np.ndarray], number: int, augmented: bool) -> Sample:
    key = f"frame{number}/"
    global_from_ego = _pose(case, key + "ego2global")
    xyz = torch.from_numpy(case[key + "points_xyz"])
    numbers = torch.zeros(len(xyz), dtype=torch.int64)
    raw = torch.from_numpy(case[key + "panoptic"].astype(np.int64)) // 1000
    return Sample(
        token=f"frame {number}",
        drive="golden",
        timestamp_ns=500_000_000 * number,
        views=tuple(_view(case, key, camera, global_from_ego, augmented) for camera in range(6)),
        lidar=LidarSweep(xyz, torch.zeros(len(xyz)), numbers, numbers),
        ego_from_lidar=_pose(case, key + "lidar2ego"),
        global_from_ego=global_from_ego,
        point_labels=PointLabels(NUSCENES16_FROM_RAW.apply(raw), numbers),
    )


def _view(
    case: dict[str, np.ndarray], key: str, camera: int, global_from_ego: RigidTransform, augmented: bool
) -> CameraView:
    own_ego = _pose(case, key + "cams/ego2global", camera)
    image_from_cam = torch.from_numpy(case[key + "cams/cam_intrinsic"][camera]).double()
    height, width = case["input_hw"].tolist()
    if augmented:
        change = torch.eye(3, dtype=torch.float64)
        change[:2, :2] = torch.from_numpy(case["post_rots"][camera]).double()[:2, :2]
        change[:2, 2] = torch.from_numpy(case["post_trans"][camera]).double()[:2]
        image_from_cam = change @ image_from_cam
    return CameraView(
        name=str(case["cameras"][camera]),
        image=torch.zeros(0, height, width, dtype=torch.uint8),
        image_from_cam=image_from_cam,
        ego_from_cam=global_from_ego.inverse() @ own_ego @ _pose(case, key + "cams/sensor2ego", camera),
        timestamp_ns=0,
    )


def _pose(case: dict[str, np.ndarray], key: str, row: int | None = None) -> RigidTransform:
    rotation, translation = case[key + "_rotation"], case[key + "_translation"]
    if row is not None:
        rotation, translation = rotation[row], translation[row]
    return RigidTransform.from_quaternion(rotation.tolist(), translation.tolist())
