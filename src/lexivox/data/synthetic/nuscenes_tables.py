"""The relational tables of a nuScenes dataroot, built from synthetic drives.

Layout as described at nuscenes.org/nuscenes#data-format: records point at each other by token; ``prev`` and
``next`` chain the keyframes of a scene, the recordings of a sensor and the annotations of an instance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import md5
from typing import Any

import numpy as np

from lexivox.data.synthetic.actors import Actor
from lexivox.data.synthetic.concepts import RAW_NAMES
from lexivox.data.synthetic.drive import KEYFRAME_S, SyntheticDrive
from lexivox.data.synthetic.sensors import CAMERA_NAMES
from lexivox.data.synthetic.shapes import Array
from lexivox.geometry.transform import RigidTransform

Record = dict[str, Any]
Tables = dict[str, list[Record]]
CountPoints = Callable[[SyntheticDrive, int], dict[int, int]]
CHANNELS = ("LIDAR_TOP", *CAMERA_NAMES)
TABLE_NAMES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample",
    "sample_annotation", "sample_data", "scene", "sensor", "visibility", "lidarseg", "panoptic",
)  # fmt: skip
"""The 13 tables of nuScenes and the two of its LiDAR labels."""

_ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "cycle.without_rider",
    "pedestrian.sitting_lying_down", "pedestrian.standing", "pedestrian.moving",
)  # fmt: skip


def token_of(*parts: str) -> str:
    return md5("/".join(("lexivox", *parts)).encode(), usedforsecurity=False).hexdigest()


def sensor_path(drive: SyntheticDrive, index: int, channel: str) -> str:
    """File of a keyframe's recording, relative to the root, named as nuScenes names its files."""
    suffix = "pcd.bin" if channel == "LIDAR_TOP" else "jpg"
    return f"samples/{channel}/lexivox-{drive.name}__{channel}__{drive.timestamp_us(index)}.{suffix}"


def panoptic_path(drive: SyntheticDrive, index: int, version: str) -> str:
    return f"panoptic/{version}/{drive.token('LIDAR_TOP', index)}_panoptic.npz"


def lidarseg_path(drive: SyntheticDrive, index: int, version: str) -> str:
    return f"lidarseg/{version}/{drive.token('LIDAR_TOP', index)}_lidarseg.bin"


def build_tables(drives: Sequence[SyntheticDrive], version: str, count_points: CountPoints) -> Tables:
    """All tables; ``count_points(drive, index)`` gives the LiDAR points on every track of a keyframe."""
    tables: Tables = {name: [] for name in TABLE_NAMES}
    _add_vocabulary(tables)
    for drive in drives:
        _add_scene(tables, drive)
        for index in range(len(drive)):
            _add_keyframe(tables, drive, index, version)
        _add_annotations(tables, drive, [count_points(drive, i) for i in range(len(drive))])
    map_tokens = [record["token"] for record in tables["log"]]
    map_token = token_of("map")
    tables["map"].append(
        {
            "token": map_token,
            "log_tokens": map_tokens,
            "category": "semantic_prior",
            "filename": f"maps/{map_token}.png",
        }
    )
    return tables


def _add_vocabulary(tables: Tables) -> None:
    for index, name in enumerate(RAW_NAMES):
        tables["category"].append(
            {"token": token_of("category", name), "name": name, "description": "", "index": index}
        )
    for name in _ATTRIBUTES:
        tables["attribute"].append({"token": token_of("attribute", name), "name": name, "description": ""})
    for i, level in enumerate(("v0-40", "v40-60", "v60-80", "v80-100"), start=1):
        tables["visibility"].append({"token": str(i), "level": level, "description": ""})
    for channel in CHANNELS:
        modality = "lidar" if channel == "LIDAR_TOP" else "camera"
        tables["sensor"].append({"token": token_of("sensor", channel), "channel": channel, "modality": modality})


def quaternion_wxyz(rotation: Array) -> list[float]:
    """Unit quaternion of a rotation matrix, w >= 0, by its largest square (Shepperd's method)."""
    r = rotation
    trace = np.trace(r)
    squares = np.array([trace, r[0, 0], r[1, 1], r[2, 2]])
    k = int(np.argmax(squares))
    if k == 0:
        q = np.array([1 + trace, r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    else:
        i, j, m = k - 1, k % 3, (k + 1) % 3
        q = np.empty(4)
        q[0] = r[m, j] - r[j, m]
        q[1 + i] = 1 + r[i, i] - r[j, j] - r[m, m]
        q[1 + j] = r[j, i] + r[i, j]
        q[1 + m] = r[m, i] + r[i, m]
    q = q / np.linalg.norm(q)
    return [float(v) for v in (q if q[0] >= 0 else -q)]


def _add_scene(tables: Tables, drive: SyntheticDrive) -> None:
    tables["log"].append(
        {
            "token": drive.token("log"),
            "logfile": f"lexivox-{drive.name}",
            "vehicle": "lexivox",
            "date_captured": "2024-01-01",
            "location": "synthetic-city",
        }
    )
    tables["scene"].append(
        {
            "token": drive.token("scene"),
            "log_token": drive.token("log"),
            "nbr_samples": len(drive),
            "first_sample_token": drive.token("sample", 0),
            "last_sample_token": drive.token("sample", len(drive) - 1),
            "name": drive.name,
            "description": f"Synthetic street, seed {drive.seed}",
        }
    )
    poses = {"LIDAR_TOP": (drive.ego_from_lidar, [])}
    for camera in drive.rig.cameras:
        poses[camera.name] = (drive.ego_from_cam(camera), camera.image_from_cam.tolist())
    for channel, (pose, intrinsics) in poses.items():
        tables["calibrated_sensor"].append(
            {
                "token": drive.token(f"calibrated {channel}"),
                "sensor_token": token_of("sensor", channel),
                **_pose_record(pose),
                "camera_intrinsic": intrinsics,
            }
        )


def _pose_record(pose: RigidTransform) -> Record:
    return {"translation": pose.translation.tolist(), "rotation": quaternion_wxyz(pose.rotation.numpy())}


def _linked(drive: SyntheticDrive, kind: str, index: int) -> Record:
    return {
        "token": drive.token(kind, index),
        "prev": drive.token(kind, index - 1) if index > 0 else "",
        "next": drive.token(kind, index + 1) if index + 1 < len(drive) else "",
    }


def _add_keyframe(tables: Tables, drive: SyntheticDrive, index: int, version: str) -> None:
    time_us = drive.timestamp_us(index)
    tables["sample"].append(
        {**_linked(drive, "sample", index), "timestamp": time_us, "scene_token": drive.token("scene")}
    )
    height, width = drive.rig.image_hw
    for channel in CHANNELS:
        is_lidar = channel == "LIDAR_TOP"
        token = drive.token(channel, index)
        # As in nuScenes, every recording has an ego pose of its own under the recording's token.
        tables["ego_pose"].append({"token": token, "timestamp": time_us, **_pose_record(drive.global_from_ego(index))})
        tables["sample_data"].append(
            {
                **_linked(drive, channel, index),
                "sample_token": drive.token("sample", index),
                "ego_pose_token": token,
                "calibrated_sensor_token": drive.token(f"calibrated {channel}"),
                "timestamp": time_us,
                "fileformat": "pcd" if is_lidar else "jpg",
                "is_key_frame": True,
                "height": 0 if is_lidar else height,
                "width": 0 if is_lidar else width,
                "filename": sensor_path(drive, index, channel),
            }
        )
    token = drive.token("LIDAR_TOP", index)
    for table, path in (("lidarseg", lidarseg_path), ("panoptic", panoptic_path)):
        tables[table].append({"token": token, "sample_data_token": token, "filename": path(drive, index, version)})


def _add_annotations(tables: Tables, drive: SyntheticDrive, counts: Sequence[dict[int, int]]) -> None:
    """A box per actor and keyframe in which at least one LiDAR point fell on it."""
    for actor in drive.actors:
        seen = [i for i, count in enumerate(counts) if actor.track in count]
        if not seen:
            continue
        kind = f"annotation {actor.track}"
        tokens = [drive.token(kind, i) for i in seen]
        instance = drive.token("instance", actor.track)
        tables["instance"].append(
            {
                "token": instance,
                "category_token": token_of("category", RAW_NAMES[actor.raw]),
                "nbr_annotations": len(seen),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
        for k, index in enumerate(seen):
            tables["sample_annotation"].append(
                {
                    "token": tokens[k],
                    "sample_token": drive.token("sample", index),
                    "instance_token": instance,
                    "visibility_token": "4",
                    "attribute_tokens": _attributes(actor),
                    **_box_record(drive, actor, index),
                    "prev": tokens[k - 1] if k > 0 else "",
                    "next": tokens[k + 1] if k + 1 < len(seen) else "",
                    "num_lidar_pts": counts[index][actor.track],
                    "num_radar_pts": 0,
                }
            )


def _box_record(drive: SyntheticDrive, actor: Actor, index: int) -> Record:
    length, width, height = actor.size_m
    x, y, z = actor.position(index * KEYFRAME_S)
    pose = drive.global_from_world @ RigidTransform.from_yaw(actor.yaw_rad, [x, y, z + height / 2])
    return {**_pose_record(pose), "size": [width, length, height]}


def _attributes(actor: Actor) -> list[str]:
    name, moves = RAW_NAMES[actor.raw], actor.speed > 0.1
    if name.startswith("human"):
        chosen = "pedestrian.moving" if moves else "pedestrian.standing"
    elif name in ("vehicle.bicycle", "vehicle.motorcycle"):
        chosen = "cycle.with_rider" if moves else "cycle.without_rider"
    elif name.startswith("vehicle"):
        chosen = "vehicle.moving" if moves else "vehicle.parked"
    else:
        return []
    return [token_of("attribute", chosen)]
