"""Point clouds of nuScenes: a keyframe's sweep, and earlier ones moved into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from lexivox.data.classes import NUSCENES16_FROM_RAW
from lexivox.data.datasets.files import read_records
from lexivox.data.datasets.nuscenes_tables import LIDAR, NuscenesTables
from lexivox.data.types import LidarSweep, PointLabels
from lexivox.geometry.transform import RigidTransform

RECORD = 5  # x, y, z, intensity, ring


def pose(row: np.ndarray) -> RigidTransform:
    """From a row ``x, y, z, qw, qx, qy, qz`` of the tables."""
    return RigidTransform.from_quaternion(row[3:].tolist(), row[:3].tolist())


def ego_from_sensor(tables: NuscenesTables, file: int) -> RigidTransform:
    return pose(tables.calibration_pose[tables.file_calibration[file]])


def global_from_ego(tables: NuscenesTables, file: int) -> RigidTransform:
    """Pose of the car when the file was recorded."""
    return pose(tables.pose[tables.file_pose[file]])


def read_sweep(path: Path, who: str) -> np.ndarray:
    """Records ``x, y, z, intensity, ring`` of one sweep."""
    return read_records(path, "<f4", RECORD, who)


def earlier_sweeps(tables: NuscenesTables, root: Path, sample: int, count: int, token: str) -> Iterator[np.ndarray]:
    """Records of the sweeps before a keyframe, nearest first, in the keyframe's LiDAR frame.

    Fewer than ``count`` at the start of a drive.
    """
    position = int(tables.sweep_of_sample[sample])
    lidar_from_global = _global_from_lidar(tables, int(tables.sweep[position])).inverse()
    for earlier in range(position - 1, max(position - count, 0) - 1, -1):
        if tables.sweep_scene[earlier] != tables.sweep_scene[position]:
            return
        file = int(tables.sweep[earlier])
        records = read_sweep(root / tables.file_name[file].decode(), f"{LIDAR} sweep before sample {token}")
        records = records[np.isfinite(records[:, :3]).all(axis=1)]
        xyz = torch.tensor(records[:, :3], dtype=torch.float64)
        moved = (lidar_from_global @ _global_from_lidar(tables, file)).apply(xyz)
        yield np.concatenate([moved.float().numpy(), records[:, 3:]], axis=1)


def _global_from_lidar(tables: NuscenesTables, file: int) -> RigidTransform:
    return global_from_ego(tables, file) @ ego_from_sensor(tables, file)


def lidar_sweep(records: np.ndarray) -> LidarSweep:
    return LidarSweep(
        xyz=torch.tensor(records[:, :3]),
        intensity=torch.tensor(records[:, 3]),
        ring=torch.tensor(records[:, 4].astype(np.int64)),
        batch=torch.zeros(len(records), dtype=torch.int64),
    )


def point_labels(raw: np.ndarray, instance: np.ndarray, num_points: int) -> PointLabels:
    """Classes of the sixteen-class table, filled up with 0 for the points of earlier sweeps."""
    label = torch.zeros(num_points, dtype=torch.int64)
    label[: len(raw)] = NUSCENES16_FROM_RAW.apply(torch.from_numpy(raw))
    filled = torch.zeros_like(label)
    filled[: len(raw)] = torch.from_numpy(instance)
    return PointLabels(label, filled)
