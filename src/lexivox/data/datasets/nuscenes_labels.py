"""Labels of nuScenes: point classes (lidarseg), point instances (panoptic) and cuboids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from lexivox.array_files import DAMAGES
from lexivox.data.classes import NUSCENES_RAW
from lexivox.data.datasets.files import read_records
from lexivox.data.datasets.json_stream import stream_table
from lexivox.data.datasets.nuscenes_tables import NuscenesTables
from lexivox.data.point_formats import PANOPTIC_BASE
from lexivox.data.types import Boxes
from lexivox.errors import DataError
from lexivox.geometry.transform import RigidTransform


def label_files(folder: Path, kind: str, tables: NuscenesTables) -> dict[bytes, str]:
    """File of the point labels of each keyframe, by the token of its LiDAR record.

    Raises:
        DataError: the release has no such table.
    """
    path = folder / f"{kind}.json"
    if not path.exists():
        raise DataError(
            f"{kind} labels must be in the tables when asked for; got no table {kind}. "
            f"Unpack nuScenes-{kind} into the dataroot or leave the labels out: {folder}"
        )
    wanted = set(tables.file_token[tables.sweep[tables.sweep_of_sample]].tolist())
    rows = ((row.get("sample_data_token"), row.get("filename")) for row in stream_table(path))
    return {token.encode(): name for token, name in rows if token and name and token.encode() in wanted}


def read_point_labels(path: Path, kind: str, token: str) -> tuple[np.ndarray, np.ndarray]:
    """Raw class 0..31 and instance number (0 = none, else unique in the file) of every point.

    Raises:
        DataError: the file is missing or damaged.
    """
    who = f"{kind} of sample {token}"
    if kind == "lidarseg":
        raw = read_records(path, "u1", 1, who)[:, 0].astype(np.int64)
        return _checked(raw, path, who), np.zeros_like(raw)
    try:
        with np.load(path, allow_pickle=False) as archive:
            number = archive["data"].astype(np.int64).reshape(-1)
    except FileNotFoundError:
        raise DataError(f"file of {who} must exist; got none. Complete the data set: {path}") from None
    except DAMAGES as error:
        raise DataError(f"file of {who} must hold one array 'data'; got: {error}. Fetch it again: {path}") from error
    raw = _checked(number // PANOPTIC_BASE, path, who)
    return raw, np.where(number % PANOPTIC_BASE > 0, number, 0)


def _checked(raw: np.ndarray, path: Path, who: str) -> np.ndarray:
    if raw.max(initial=0) >= NUSCENES_RAW.num_classes:
        raise DataError(
            f"{who} must hold classes 0 to {NUSCENES_RAW.num_classes - 1}; got {raw.max()}. "
            f"Fetch the file again: {path}"
        )
    return raw


def boxes_in_ego(
    tables: NuscenesTables, sample: int, ego_from_global: RigidTransform, class_of: Mapping[str, int]
) -> Boxes:
    """Cuboids of one keyframe. Velocities are NaN where the track has no neighbour near in time."""
    rows = slice(int(tables.box_start[sample]), int(tables.box_start[sample + 1]))
    pose = torch.tensor(tables.box_pose[rows])
    center = ego_from_global.apply(pose[:, :3])
    forward = _forward(pose[:, 3:]) @ ego_from_global.rotation.T
    velocity = torch.tensor(tables.box_velocity[rows])
    velocity = torch.nn.functional.pad(velocity, (0, 1)) @ ego_from_global.rotation.T
    classes = [class_of.get(name.decode(), 0) for name in tables.category_name]
    size = torch.tensor(tables.box_size[rows])[:, [1, 0, 2]]  # the tables store width, length, height
    label = [classes[i] for i in tables.box_category[rows]]
    return Boxes(
        center=center.float(),
        size_m=size.float(),
        yaw_rad=torch.atan2(forward[:, 1], forward[:, 0]).float(),
        velocity=velocity[:, :2].float(),
        label=torch.tensor(label, dtype=torch.int64),
        track=torch.tensor(tables.box_track[rows].astype(np.int64)),
    )


def _forward(wxyz: torch.Tensor) -> torch.Tensor:
    """The box's own x axis (N, 3) under rotations (N, 4)."""
    w, x, y, z = (wxyz / wxyz.norm(dim=1, keepdim=True)).unbind(1)
    return torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], dim=1)
