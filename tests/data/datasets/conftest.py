"""A nuScenes dataroot of two drives with three keyframes each, small enough to break in every way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHANNELS = ("LIDAR_TOP", "CAM_BACK", "CAM_FRONT")
DRIVES, KEYFRAMES, POINTS = 2, 3, 40
SPEED_M_S = 4.0


def _sensor_tables() -> dict[str, list]:
    intrinsic = [[20.0, 0.0, 16.0], [0.0, 20.0, 12.0], [0.0, 0.0, 1.0]]
    level = [0.5, -0.5, 0.5, -0.5]  # camera axes in ego: looks along x
    return {
        "sensor": [{"token": c, "channel": c, "modality": "x"} for c in CHANNELS],
        "calibrated_sensor": [
            {
                "token": f"cal-{c}", "sensor_token": c, "translation": [1.0, 0.0, 1.8],
                "rotation": [1.0, 0.0, 0.0, 0.0] if c == "LIDAR_TOP" else level,
                "camera_intrinsic": [] if c == "LIDAR_TOP" else intrinsic,
            }
            for c in CHANNELS
        ],
        "category": [{"token": "cat", "name": "vehicle.car"}],
        "instance": [{"token": f"track-{d}", "category_token": "cat"} for d in range(DRIVES)],
        "scene": [{"token": f"drive{d}", "name": f"scene-{d}"} for d in range(DRIVES)],
    }  # fmt: skip


def _write_file(root: Path, channel: str, name: str, seed: int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    if channel == "LIDAR_TOP":
        rng.uniform(-20, 20, (POINTS, 5)).astype("<f4").tofile(path)
    else:
        Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(path)


def write_nuscenes(root: Path) -> Path:
    """The car drives along global x at ``SPEED_M_S``; one sweep lies halfway between keyframes."""
    tables = {**_sensor_tables(), **{name: [] for name in TABLES_OF_ROWS}}
    for drive in range(DRIVES):
        for frame in range(KEYFRAMES):
            _write_keyframe(root, tables, drive, frame)
    folder = root / "v1.0-tiny"
    folder.mkdir(parents=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=1))
    (folder / "splits.json").write_text(json.dumps({"train": ["scene-0"], "val": ["scene-1"]}))
    return root


TABLES_OF_ROWS = ("sample", "sample_data", "ego_pose", "sample_annotation", "lidarseg")


def _write_keyframe(root: Path, tables: dict[str, list], drive: int, frame: int) -> None:
    sample, start = f"s{drive}{frame}", 1_000_000_000 * (drive + 1) + 500_000 * frame
    tables["sample"].insert(0, {"token": sample, "timestamp": start, "scene_token": f"drive{drive}"})
    tables["sample_annotation"].insert(0, {
        "sample_token": sample, "instance_token": f"track-{drive}", "translation": [30 + 2.0 * frame, 5.0, 1.0],
        "rotation": [1.0, 0.0, 0.0, 0.0], "size": [2.0, 4.0, 1.5], "num_lidar_pts": 3,
    })  # fmt: skip
    for channel in CHANNELS:
        suffix = "bin" if channel == "LIDAR_TOP" else "png"
        delay = 0 if channel == "LIDAR_TOP" else -40_000
        _add_file(root, tables, channel, sample, start + delay, f"samples/{channel}/{sample}.{suffix}", True)
    _add_file(root, tables, "LIDAR_TOP", sample, start + 250_000, f"sweeps/LIDAR_TOP/{sample}.bin", False)
    name = f"lidarseg/{sample}.bin"
    (root / "lidarseg").mkdir(exist_ok=True)
    (np.arange(POINTS) % 32).astype("u1").tofile(root / name)
    tables["lidarseg"].append({"token": "x", "sample_data_token": f"samples/LIDAR_TOP/{sample}.bin", "filename": name})


def _add_file(
    root: Path, tables: dict[str, list], channel: str, sample: str, time: int, name: str, is_key: bool
) -> None:
    _write_file(root, channel, name, seed=len(tables["sample_data"]))
    driven = SPEED_M_S * (time % 1_000_000_000) * 1e-6
    tables["ego_pose"].append(
        {"token": f"pose-{name}", "translation": [driven, 0.0, 0.0], "rotation": [1.0, 0.0, 0.0, 0.0]}
    )
    tables["sample_data"].append({
        "token": name, "sample_token": sample, "ego_pose_token": f"pose-{name}",
        "calibrated_sensor_token": f"cal-{channel}", "timestamp": time, "is_key_frame": is_key,
        "height": 24, "width": 32, "filename": name,
    })  # fmt: skip


@pytest.fixture
def tiny(tmp_path) -> Path:
    return write_nuscenes(tmp_path / "root")


def edit_table(root: Path, name: str, change) -> None:
    """Rewrite a table of the dataroot through a function of its rows."""
    path = root / "v1.0-tiny" / f"{name}.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.fixture
def edit(tiny):
    return lambda name, change: edit_table(tiny, name, change)
