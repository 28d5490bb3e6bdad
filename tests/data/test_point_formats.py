"""Point files: real ones read and written byte for byte, submissions laid out, broken ones explained."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch

from lexivox.data import formats
from lexivox.data.benchmark_classes import NUSCENES16_POINTS, NUSCENES16_POINTS_FROM_RAW, OCC3D
from lexivox.data.classes import NUSCENES_RAW
from lexivox.data.point_formats import (
    CLOUD_COLUMNS,
    Modalities,
    read_cloud,
    read_nuscenes_lidarseg,
    read_nuscenes_panoptic,
    read_semantickitti_raw,
    write_cloud,
    write_nuscenes_lidarseg,
    write_nuscenes_panoptic,
    write_nuscenes_submission,
    write_semantickitti_raw,
)
from lexivox.errors import ConfigError, DataError, ShapeError

LIDAR_ONLY = Modalities(use_camera=False, use_lidar=True)


def same_bytes(one, other):
    assert one.read_bytes() == other.read_bytes(), one


@pytest.mark.parametrize("number", range(10))
def test_real_lidarseg(realdata, tmp_path, number):
    folder = realdata / "nuscenes_lidarseg"
    label = read_nuscenes_lidarseg(folder / f"{number:02d}_lidarseg.bin", NUSCENES_RAW)
    same_bytes(write_nuscenes_lidarseg(tmp_path / "l.bin", label), folder / f"{number:02d}_lidarseg.bin")
    cloud = read_cloud(folder / f"{number:02d}_points.bin", CLOUD_COLUMNS["nuscenes"])
    same_bytes(write_cloud(tmp_path / "c.bin", cloud), folder / f"{number:02d}_points.bin")
    assert len(cloud) == len(label)
    classes = NUSCENES16_POINTS_FROM_RAW.apply(label).unique().tolist()
    assert set(classes) <= set(range(NUSCENES16_POINTS.num_classes))
    assert NUSCENES16_POINTS.index_of("driveable_surface") in classes


@pytest.mark.parametrize("number", range(6))
def test_real_semantickitti_scans(realdata, tmp_path, number):
    folder = realdata / "semantickitti/sequences/00"
    label, instance = read_semantickitti_raw(folder / f"labels/{number:06d}.label")
    written = write_semantickitti_raw(tmp_path / "l.label", label, instance)
    same_bytes(written, folder / f"labels/{number:06d}.label")
    cloud = read_cloud(folder / f"velodyne/{number:06d}.bin", CLOUD_COLUMNS["semantickitti"])
    same_bytes(write_cloud(tmp_path / "c.bin", cloud), folder / f"velodyne/{number:06d}.bin")
    assert len(cloud) == len(label)


@pytest.mark.parametrize(
    "name", [f"{n}.{kind}" for n in ("000000", "000005") for kind in ("bin", "invalid", "occluded")]
)
def test_real_semantickitti_volumes(realdata, tmp_path, name):
    path = realdata / "semantickitti/sequences/00/voxels" / name
    volume = formats.read_semantickitti_occupancy(path)
    same_bytes(formats.write_semantickitti_occupancy(tmp_path / name, volume), path)


def test_real_occ3d_label(realdata, tmp_path):
    """Every array and every compressed byte; zip headers differ between Python versions."""
    (path,) = (realdata / "occ3d_nuscenes_label").glob("*/labels.npz")
    written = formats.write_occ3d(tmp_path / "labels.npz", formats.read_occ3d(path))
    with zipfile.ZipFile(path) as one, zipfile.ZipFile(written) as other:
        assert one.namelist() == other.namelist()
        for before, after in zip(one.infolist(), other.infolist(), strict=True):
            assert one.read(before) == other.read(after)
            assert (before.CRC, before.compress_size) == (after.CRC, after.compress_size)
    assert path.stat().st_size == written.stat().st_size


@pytest.mark.parametrize("frame", ["f11", "f17"])
@pytest.mark.parametrize(("side", "classes"), [("gt", NUSCENES_RAW), ("pred", NUSCENES16_POINTS)])
def test_official_panoptic_numbers(golden, tmp_path, frame, side, classes):
    with np.load(golden / "panoptic_quality.npz", allow_pickle=False) as file:
        numbers = file[f"nuscenes/{frame}/{side}_panoptic"]
    np.savez_compressed(tmp_path / "a_panoptic.npz", data=numbers)
    label, number = read_nuscenes_panoptic(tmp_path / "a_panoptic.npz", classes)
    written = write_nuscenes_panoptic(tmp_path / "b_panoptic.npz", label, number - 1000 * label)
    same_bytes(written, tmp_path / "a_panoptic.npz")
    assert number.tolist() == numbers.tolist()


def predictions(instances):
    label = torch.tensor([4, 4, 11])
    yield "token1", label, torch.tensor([1, 2, 0]) if instances else None
    yield "token2", label[:1], torch.tensor([1]) if instances else None


@pytest.mark.parametrize("task", ["lidarseg", "panoptic"])
def test_a_submission_has_the_layout_of_the_devkit(tmp_path, task):
    meta = write_nuscenes_submission(tmp_path, "mini_val", LIDAR_ONLY, predictions(task == "panoptic"))
    suffix = {"lidarseg": "bin", "panoptic": "npz"}[task]
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    files = [f"{task}/mini_val/token{number}_{task}.{suffix}" for number in (1, 2)]
    assert written == sorted(["mini_val/submission.json", *files])
    said = json.loads(meta.read_text())["meta"]
    wanted = {"use_camera", "use_lidar", "use_radar", "use_map", "use_external"}
    assert set(said) == wanted | ({"task"} if task == "panoptic" else set())
    assert (said["use_lidar"], said["use_camera"], said.get("task")) == (
        True, False, "segmentation" if task == "panoptic" else None,
    )  # fmt: skip
    first = tmp_path / task / "mini_val" / f"token1_{task}.{suffix}"
    if task == "panoptic":
        assert read_nuscenes_panoptic(first, NUSCENES16_POINTS)[1].tolist() == [4001, 4002, 11000]
    else:
        assert first.read_bytes() == bytes([4, 4, 11])


def test_what_cannot_be_submitted(tmp_path):
    with pytest.raises(ConfigError, match=r"split of a submission must be one of train, val, .*; got 'dev'"):
        write_nuscenes_submission(tmp_path, "dev", LIDAR_ONLY, predictions(False))
    with pytest.raises(DataError, match="classes of a submission must be 1 to 16; got 0 to 4 in token"):
        write_nuscenes_submission(tmp_path, "val", LIDAR_ONLY, [("token", torch.tensor([0, 4]), None)])
    with pytest.raises(DataError, match="predictions of one task; got lidarseg, panoptic"):
        write_nuscenes_submission(tmp_path, "val", LIDAR_ONLY, [*predictions(False), *predictions(True)])
    with pytest.raises(DataError, match="predictions of one task; got none"):
        write_nuscenes_submission(tmp_path, "val", LIDAR_ONLY, [])


def test_broken_point_files_are_explained(tmp_path):
    none, short = tmp_path / "none", tmp_path / "short.bin"
    for read in (lambda p: read_nuscenes_lidarseg(p, NUSCENES_RAW), read_semantickitti_raw, lambda p: read_cloud(p, 4)):
        with pytest.raises(DataError, match=r"must be readable; got No such file or directory\. Check"):
            read(none)
    short.write_bytes(bytes(20))
    with pytest.raises(DataError, match="a cloud must be records of 4 numbers; got 5 numbers"):
        read_cloud(short, 4)
    (tmp_path / "l.bin").write_bytes(bytes([3, 32]))
    with pytest.raises(DataError, match="classes must be 0 to 31, those of nuscenes_raw; got 32"):
        read_nuscenes_lidarseg(tmp_path / "l.bin", NUSCENES_RAW)
    with pytest.raises(DataError, match=r"panoptic labels must be an .npz with 'data'; got"):
        read_nuscenes_panoptic(tmp_path / "l.bin", NUSCENES_RAW)
    np.savez(tmp_path / "p.npz", data=np.zeros((2, 2)))
    with pytest.raises(
        DataError, match=r"panoptic labels must be one whole number for each point; got float64 \(2, 2\)"
    ):
        read_nuscenes_panoptic(tmp_path / "p.npz", NUSCENES_RAW)
    with pytest.raises(DataError, match="classes to write must be 0 to 255; got -1 to -1"):
        write_nuscenes_lidarseg(tmp_path / "x", torch.tensor([-1]))
    with pytest.raises(DataError, match="instances to write must be 0 to 999 and classes 0 to 64; got instances 1000"):
        write_nuscenes_panoptic(tmp_path / "x", torch.tensor([1]), torch.tensor([1000]))
    with pytest.raises(ShapeError, match="points must have a class and an instance each; got 1 and 2"):
        write_nuscenes_panoptic(tmp_path / "x", torch.tensor([1]), torch.tensor([1, 2]))
    with pytest.raises(DataError, match=r"volume to write must be \(256, 256, 32\); got \(2, 2, 2\)"):
        formats.write_semantickitti_occupancy(tmp_path / "x", torch.zeros(2, 2, 2).bool())


def test_published_colours():
    """Of nuscenes-devkit 1.2.0."""
    table = NUSCENES_RAW
    assert table.palette[table.index_of("vehicle.car")] == (255, 158, 0)
    assert table.palette[table.index_of("flat.driveable_surface")] == (0, 207, 191)
    assert len(set(table.palette)) == table.num_classes
    assert len(OCC3D.palette) == OCC3D.num_classes
