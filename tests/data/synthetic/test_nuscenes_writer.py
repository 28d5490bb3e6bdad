"""The dataroot that the synthetic city writes obeys the rules of nuScenes, file by file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lexivox.data.synthetic.concepts import CONCEPT_NAMES, RAW_NAMES
from lexivox.data.synthetic.drive import SyntheticDrive
from lexivox.data.synthetic.nuscenes_tables import TABLE_NAMES, quaternion_wxyz
from lexivox.data.synthetic.nuscenes_writer import DriveSpec, write_nuscenes
from lexivox.errors import ConfigError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

VERSION = "v1.0-mini"
GRID = VoxelGrid((-16.0, -16.0, -2.0), (1.0, 1.0, 1.0), (32, 32, 8), "ego")
DRIVES = [DriveSpec(5, 3, "train"), DriveSpec(6, 2, "val")]
OPTIONS: dict[str, Any] = {"image_hw": (48, 80), "num_azimuths": 120, "grid": GRID, "with_pixel_labels": True}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nuscenes(tmp_path_factory.mktemp("root"), DRIVES, VERSION, **OPTIONS)


@pytest.fixture(scope="module")
def tables(root: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: json.loads((root / VERSION / f"{name}.json").read_text()) for name in TABLE_NAMES}


def test_every_table_is_there_and_tokens_are_unique(tables: dict[str, list[dict[str, Any]]]) -> None:
    assert len(TABLE_NAMES) == 15
    for name, records in tables.items():
        tokens = [record["token"] for record in records]
        assert len(set(tokens)) == len(tokens) > 0
        if name != "visibility":
            assert all(re.fullmatch("[0-9a-f]{32}", token) for token in tokens)


def test_every_reference_finds_its_record(tables: dict[str, list[dict[str, Any]]]) -> None:
    keys = {
        "sample": [("scene_token", "scene")],
        "scene": [("log_token", "log"), ("first_sample_token", "sample"), ("last_sample_token", "sample")],
        "sample_data": [
            ("sample_token", "sample"),
            ("ego_pose_token", "ego_pose"),
            ("calibrated_sensor_token", "calibrated_sensor"),
        ],
        "calibrated_sensor": [("sensor_token", "sensor")],
        "instance": [
            ("category_token", "category"),
            ("first_annotation_token", "sample_annotation"),
            ("last_annotation_token", "sample_annotation"),
        ],
        "sample_annotation": [
            ("sample_token", "sample"),
            ("instance_token", "instance"),
            ("visibility_token", "visibility"),
        ],
        "lidarseg": [("sample_data_token", "sample_data")],
        "panoptic": [("sample_data_token", "sample_data")],
    }
    for name, references in keys.items():
        for key, target in references:
            known = {record["token"] for record in tables[target]}
            assert {record[key] for record in tables[name]} <= known
    attributes = {record["token"] for record in tables["attribute"]}
    assert {t for record in tables["sample_annotation"] for t in record["attribute_tokens"]} <= attributes


@pytest.mark.parametrize("name", ["sample", "sample_data", "sample_annotation"])
def test_chains_run_forward_and_back(tables: dict[str, list[dict[str, Any]]], name: str) -> None:
    by_token = {record["token"]: record for record in tables[name]}
    for record in tables[name]:
        if record["next"]:
            assert by_token[record["next"]]["prev"] == record["token"]
        if record["prev"]:
            assert by_token[record["prev"]]["next"] == record["token"]
    chains = sum(record["prev"] == "" for record in tables[name])
    assert chains == {"sample": 2, "sample_data": 14, "sample_annotation": len(tables["instance"])}[name]


def test_sweeps_and_labels_have_one_row_per_point(root: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
    recordings = {record["token"]: record for record in tables["sample_data"]}
    panoptic_files = {record["sample_data_token"]: record["filename"] for record in tables["panoptic"]}
    assert len(tables["lidarseg"]) == 5
    for record in tables["lidarseg"]:
        token = record["sample_data_token"]
        points = np.fromfile(root / recordings[token]["filename"], dtype=np.float32).reshape(-1, 5)
        labels = np.fromfile(root / record["filename"], dtype=np.uint8)
        panoptic = np.load(root / panoptic_files[token], allow_pickle=False)["data"]
        fine = np.load(root / "extras" / VERSION / "fine" / f"{token}.npy", allow_pickle=False)
        assert len(points) == len(labels) == len(panoptic) == len(fine) > 1000
        assert panoptic.dtype == np.uint16
        assert (panoptic // 1000 == labels).all()
        assert fine.max() < len(CONCEPT_NAMES)
        assert ((points[:, 3] >= 0) & (points[:, 3] <= 255)).all()
        assert set(np.unique(points[:, 4])) <= set(range(32))


def test_images_and_pixel_labels_fit(root: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
    cameras = [record for record in tables["sample_data"] if record["fileformat"] == "jpg"]
    assert len(cameras) == 30
    for record in cameras[:6]:
        with Image.open(root / record["filename"]) as picture:
            assert picture.size == (record["width"], record["height"]) == (80, 48)
        with Image.open(root / "extras" / VERSION / "fine" / f"{record['token']}.png") as picture:
            assert np.asarray(picture).shape == (48, 80)


def test_annotations_count_their_points(root: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
    categories = {record["token"]: record["name"] for record in tables["category"]}
    assert {record["index"]: record["name"] for record in tables["category"]} == dict(enumerate(RAW_NAMES))
    assert {categories[record["category_token"]] for record in tables["instance"]} <= set(RAW_NAMES)
    assert all(record["num_lidar_pts"] > 0 for record in tables["sample_annotation"])


def test_poses_equal_those_of_the_drive(tables: dict[str, list[dict[str, Any]]]) -> None:
    drive = SyntheticDrive(5, 3, (48, 80), 120)
    poses = {record["token"]: record for record in tables["ego_pose"]}
    record = poses[drive.token("LIDAR_TOP", 2)]
    stored = RigidTransform.from_quaternion(record["rotation"], record["translation"])
    torch.testing.assert_close(stored.matrix(), drive.global_from_ego(2).matrix())
    boxes = drive.boxes(2, drive.sweep(2))
    own = [r for r in tables["sample_annotation"] if r["sample_token"] == drive.token("sample", 2)]
    centers = drive.global_from_ego(2).apply(boxes.center.double())
    assert len(own) == len(centers)
    for annotation, center, size in zip(own, centers, boxes.size_m, strict=True):
        torch.testing.assert_close(
            torch.tensor(annotation["translation"], dtype=torch.float64), center, atol=1e-3, rtol=0
        )
        width, length, height = annotation["size"]
        torch.testing.assert_close(torch.tensor([length, width, height]), size)


def test_voxel_truth_is_that_of_the_drive(root: Path) -> None:
    drive = SyntheticDrive(6, 2, (48, 80), 120)
    path = root / "extras" / VERSION / "occupancy" / f"{drive.token('LIDAR_TOP', 1)}.npz"
    with np.load(path, allow_pickle=False) as stored:
        truth = drive.voxel_labels(1, GRID)
        np.testing.assert_array_equal(stored["label"], truth.label.numpy())
        np.testing.assert_allclose(stored["flow"], truth.flow.numpy(), atol=0.01)
        assert str(stored["frame"]) == "ego"


def test_splits_name_every_scene_once(root: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
    splits = json.loads((root / VERSION / "splits.json").read_text())
    assert splits == {"train": ["scene-0005"], "val": ["scene-0006"]}
    assert [record["name"] for record in tables["scene"]] == ["scene-0005", "scene-0006"]


def test_writing_again_makes_nothing_again(root: Path) -> None:
    images = sorted((root / "samples").rglob("*.jpg"))
    before = [path.stat().st_mtime_ns for path in images]
    progress: list[tuple[int, int]] = []
    write_nuscenes(root, DRIVES, VERSION, **OPTIONS, on_keyframe=lambda done, total: progress.append((done, total)))
    assert [path.stat().st_mtime_ns for path in images] == before
    assert progress == [(i, 5) for i in range(1, 6)]
    assert not list(root.rglob("*.tmp"))


def test_two_drives_of_one_seed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"seeds of the drives to write must be given and differ; got \[1, 1\]"):
        write_nuscenes(tmp_path, [DriveSpec(1), DriveSpec(1)])


@pytest.mark.parametrize("yaw", [0.0, 0.5, 2.0, 3.14159, -2.5])
def test_quaternions_turn_as_their_matrix(yaw: float) -> None:
    rotation = RigidTransform.from_yaw(yaw).rotation @ torch.tensor(
        [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64
    )
    back = RigidTransform.from_quaternion(quaternion_wxyz(rotation.numpy()), [0.0, 0.0, 0.0])
    torch.testing.assert_close(back.rotation, rotation)
