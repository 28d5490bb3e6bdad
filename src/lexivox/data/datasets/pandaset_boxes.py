"""Cuboids of PandaSet in the ego frame, with tracks and velocities."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch

from lexivox.data.classes import PANDASET9_FROM_RAW, PANDASET_RAW
from lexivox.data.datasets.pandaset_drive import PandasetDrive
from lexivox.data.datasets.restricted_pickle import read_frame
from lexivox.data.types import Boxes
from lexivox.geometry.transform import RigidTransform

POSITION = ("position.x", "position.y", "position.z")
DIMENSIONS = ("dimensions.y", "dimensions.x", "dimensions.z")  # length, width, height
COLUMNS = ("uuid", "label", "yaw", "cuboids.sibling_id", "cuboids.sensor_id", *POSITION, *DIMENSIONS)

PANDAR_GT = 1
MAX_VELOCITY_GAP_S = 1.5
"""Neighbours in time further away than this tell no velocity."""

_CLASS_OF = dict(zip(PANDASET_RAW.names, PANDASET9_FROM_RAW.table, strict=True))


def boxes_in_ego(
    drive: PandasetDrive, frame: int, token: str, ego_from_global: RigidTransform, keyframes: Sequence[int]
) -> Boxes:
    """Cuboids of a keyframe; an object labelled for both LiDARs is there once, as the 360-degree one saw it.

    It keeps its track where only the other LiDAR's cuboid goes on. Velocities come from the same track in the
    ``keyframes`` before and after; NaN where neither has it.

    Raises:
        DataError: the file is missing or damaged.
    """
    table = _table(drive, frame, token)
    center, size = _stack(table, POSITION), _stack(table, DIMENSIONS)
    # The yaw is counted from the world's y axis to the box's length (PandaSet devkit, cuboid annotations).
    heading = torch.from_numpy(table["yaw"].astype(np.float64)) + math.pi / 2
    forward = torch.stack([heading.cos(), heading.sin(), torch.zeros_like(heading)], dim=1)
    forward = forward @ ego_from_global.rotation.T
    velocity = torch.from_numpy(_velocity(drive, frame, table, keyframes)) @ ego_from_global.rotation.T
    return Boxes(
        center=ego_from_global.apply(center).float(),
        size_m=size.float(),
        yaw_rad=torch.atan2(forward[:, 1], forward[:, 0]).float(),
        velocity=velocity[:, :2].float(),
        label=torch.tensor([_CLASS_OF.get(name, 0) for name in table["label"]], dtype=torch.int64),
        track=torch.tensor([_track_number(uuid) for uuid in table["uuid"]], dtype=torch.int64),
    )


def _table(drive: PandasetDrive, frame: int, token: str) -> dict[str, np.ndarray]:
    table = _read(drive, frame, token)
    kept = ~(_has_twin(table) & (table["cuboids.sensor_id"] == PANDAR_GT))
    kept_table = {name: column[kept] for name, column in table.items()}
    names = drive.kept("twins", lambda: _twins(drive))
    return {**kept_table, "uuid": np.array([names.get(uuid, uuid) for uuid in kept_table["uuid"]], dtype=object)}


def _read(drive: PandasetDrive, frame: int, token: str) -> dict[str, np.ndarray]:
    return read_frame(drive.cuboid_path(frame), COLUMNS, f"cuboids of sample {token}")


def _has_twin(table: dict[str, np.ndarray]) -> np.ndarray:
    """True where the same object has a cuboid of the other LiDAR in the same keyframe."""
    known = set(table["uuid"].tolist())
    return np.array([sibling in known for sibling in table["cuboids.sibling_id"]], dtype=bool)


def _twins(drive: PandasetDrive) -> dict[str, str]:
    """For cuboids of the forward LiDAR: that of the 360-degree one, if they ever share a keyframe of the drive."""
    twins: dict[str, str] = {}
    for frame in drive.choose_keyframes(None):
        if drive.cuboid_path(frame).exists():
            table = _read(drive, frame, f"{drive.name}-{frame:02d}")
            own = _has_twin(table) & (table["cuboids.sensor_id"] == PANDAR_GT)
            twins |= dict(zip(table["uuid"][own], table["cuboids.sibling_id"][own], strict=True))
    return twins


def _stack(table: dict[str, np.ndarray], columns: Sequence[str]) -> torch.Tensor:
    return torch.from_numpy(np.stack([table[name].astype(np.float64) for name in columns], axis=1))


def _velocity(drive: PandasetDrive, frame: int, table: dict[str, np.ndarray], keyframes: Sequence[int]) -> np.ndarray:
    """World velocity (N, 3), by differences between the nearest keyframes that hold the track."""
    places = [{uuid: (drive.lidar_time_ns(frame) * 1e-9, xyz) for uuid, xyz in _centers(table)}]
    place = list(keyframes).index(frame)
    for neighbour in (*keyframes[max(place - 1, 0) : place], *keyframes[place + 1 : place + 2]):
        time_s = drive.lidar_time_ns(neighbour) * 1e-9
        if abs(time_s - drive.lidar_time_ns(frame) * 1e-9) <= MAX_VELOCITY_GAP_S:
            other = _table(drive, neighbour, f"{drive.name}-{neighbour:02d}")
            places.append({uuid: (time_s, xyz) for uuid, xyz in _centers(other)})
    velocity = np.full((len(table["uuid"]), 3), np.nan)
    for row, uuid in enumerate(table["uuid"]):
        seen = sorted((known[uuid] for known in places if uuid in known), key=lambda item: item[0])
        if len(seen) > 1:
            velocity[row] = (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])
    return velocity


def _centers(table: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    return list(zip(table["uuid"], _stack(table, POSITION).numpy(), strict=True))


def _track_number(uuid: str) -> int:
    """A number that is the same in every keyframe, below 2**63."""
    return int.from_bytes(hashlib.blake2b(str(uuid).encode(), digest_size=8).digest(), "big") >> 1
