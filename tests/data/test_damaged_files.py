"""Files of every format cut short, overwritten, of another kind: one clear error that names the file, never a crash."""

from __future__ import annotations

import io
import pickle
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch

from lexivox.data import formats
from lexivox.data.benchmark_classes import OCC3D, OPENOCCUPANCY, SEMANTICKITTI_RAW, SURROUNDOCC
from lexivox.data.classes import NUSCENES_RAW
from lexivox.data.point_formats import (
    read_cloud,
    read_nuscenes_lidarseg,
    read_nuscenes_panoptic,
    read_semantickitti_raw,
    write_semantickitti_raw,
)
from lexivox.data.retrieval import RetrievalAnnotation, read_retrieval, write_retrieval
from lexivox.data.volume_files import read_prediction
from lexivox.errors import DataError, ShapeError
from lexivox.geometry import grid as grids

KITTI_BYTES = grids.SEMANTICKITTI.num_voxels


def npz(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 18, grids.OCC3D.shape).astype(np.uint8)
MASK = (VOLUME > 8).astype(np.uint8)
ROWS = RNG.integers(1, 16, (500, 4))
READERS = {
    "occ3d": ("labels.npz", npz(semantics=VOLUME, mask_lidar=MASK, mask_camera=MASK), formats.read_occ3d),
    "prediction": ("t.npz", npz(pred=VOLUME), partial(read_prediction, grid=grids.OCC3D, who="prediction of t")),
    "openoccupancy": ("l.npy", npy(ROWS), formats.read_openoccupancy),
    "surroundocc": ("l.npy", npy(ROWS.astype(np.float32)), formats.read_surroundocc),
    "ssc": (
        "000000.label", bytes(2 * KITTI_BYTES), lambda path: formats.read_semantickitti_voxels(path.parent, path.stem),
    ),
    "ssc raw": ("000000.label", bytes(2 * KITTI_BYTES), formats.read_semantickitti_raw_voxels),
    "bits": ("000000.bin", bytes(KITTI_BYTES // 8), formats.read_semantickitti_occupancy),
    "points": ("000000.label", np.full(99, 10, "<u4").tobytes(), formats.read_semantickitti_points),
    "raw points": ("000000.label", np.full(99, 10, "<u4").tobytes(), read_semantickitti_raw),
    "cloud": ("000000.bin", RNG.random(400).astype("<f4").tobytes(), partial(read_cloud, columns=4)),
    "lidarseg": ("t_lidarseg.bin", bytes([3] * 50), partial(read_nuscenes_lidarseg, classes=NUSCENES_RAW)),
    "panoptic": (
        "t_panoptic.npz", npz(data=ROWS[:, 0].astype(np.uint16) * 1000),
        partial(read_nuscenes_panoptic, classes=NUSCENES_RAW),
    ),
}  # fmt: skip
PLAIN = {"cloud", "lidarseg"}  # any bytes of the right number are such a file
SIZED = {"ssc", "ssc raw", "bits"}


def refused(name, path, content):
    path.write_bytes(content)
    with pytest.raises((DataError, ShapeError)) as refusal:
        READERS[name][2](path)
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value)) < 500, refusal.value


def read_or_refused(name, path, content):
    path.write_bytes(content)
    with suppress(DataError, ShapeError):
        READERS[name][2](path)
        return
    refused(name, path, content)


@pytest.mark.parametrize("name", READERS)
def test_a_good_file_is_read(name, tmp_path):
    path = tmp_path / READERS[name][0]
    path.write_bytes(READERS[name][1])
    READERS[name][2](path)


@pytest.mark.parametrize("name", READERS)
def test_missing_empty_and_foreign_files(name, tmp_path):
    path = tmp_path / READERS[name][0]
    with pytest.raises(DataError) as refusal:
        READERS[name][2](path)
    assert str(path) in str(refusal.value)
    if name not in PLAIN and "points" not in name:
        refused(name, path, b"")
        refused(name, path, b"<html>404</html>" * 9)
        refused(name, path, npy(np.array([{"a": 1}], dtype=object)))
        refused(name, path, npz(data=np.array(["x"]), pred=np.array(["x"]), semantics=np.array([None], dtype=object)))
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(DataError) as refusal:
        READERS[name][2](path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("name", READERS)
def test_truncated_files(name, tmp_path):
    path, content = tmp_path / READERS[name][0], READERS[name][1]
    for kept in (1, 3, 100, len(content) // 2, len(content) - 1):
        if kept < len(content):
            (read_or_refused if name in PLAIN or "points" in name else refused)(name, path, content[:kept])
    if name in ("points", "raw points", "cloud"):
        refused(name, path, content[:-1])


@pytest.mark.parametrize("name", READERS)
def test_overwritten_files(name, tmp_path):
    """Bytes changed at random places, first in the header: read, or refused by name; nothing else is raised."""
    path, content = tmp_path / READERS[name][0], READERS[name][1]
    for seed in range(12 if len(content) > 1 << 20 else 60):
        rng, damaged = np.random.default_rng(seed), bytearray(content)
        end = len(content) if seed % 2 else min(len(content), 160)
        for place in rng.integers(0, end, rng.integers(1, 8)):
            damaged[place] = rng.integers(0, 256)
        read_or_refused(name, path, bytes(damaged))


def test_no_file_runs_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    for name in ("occ3d", "openoccupancy", "panoptic", "prediction"):
        path = tmp_path / READERS[name][0]
        refused(name, path, pickle.dumps(Trap()))
        refused(name, path, npy(np.array([Trap()], dtype=object)))
        refused(name, path, npz(data=np.array([Trap()], dtype=object), pred=np.array([Trap()], dtype=object)))
    assert not (tmp_path / "sprung").exists()


WRONG = {
    "float classes": ("occ3d", npz(semantics=VOLUME / 1.0, mask_lidar=MASK, mask_camera=MASK), "got float64"),
    "nan": ("occ3d", npz(semantics=VOLUME * np.nan, mask_lidar=MASK, mask_camera=MASK), "whole numbers; got float64"),
    "wraps to a class": (
        "occ3d", npz(semantics=VOLUME + np.int64(256), mask_lidar=MASK, mask_camera=MASK), r"0 to 17.*got 256 to 273",
    ),
    "below zero": (
        "occ3d", npz(semantics=VOLUME - np.int64(1), mask_lidar=MASK, mask_camera=MASK), r"0 to 17.*got -1 to 16",
    ),
    "class 18": ("occ3d", npz(semantics=VOLUME + np.uint8(1), mask_lidar=MASK, mask_camera=MASK), r"got \[18\]"),
    "mask": (
        "occ3d", npz(semantics=VOLUME, mask_lidar=MASK * 3, mask_camera=MASK), "'mask_lidar' must hold 0 and 1; got 0",
    ),
    "mask of shares": ("occ3d", npz(semantics=VOLUME, mask_lidar=MASK / 2, mask_camera=MASK), "got float64"),
    "no mask": ("occ3d", npz(semantics=VOLUME), "got no mask_lidar, mask_camera but semantics"),
    "nan rows": ("openoccupancy", npy(ROWS * np.nan), "finite rows of 4 numbers; got float64"),
    "text rows": ("surroundocc", npy(ROWS.astype(str)), "finite rows of 4 numbers; got <U"),
    "archive": ("surroundocc", npz(a=ROWS), "got an archive of several arrays"),
    "one row": ("surroundocc", npy(ROWS[0]), r"finite rows of 4 numbers; got int64 \(4,\)"),
    "negative": ("surroundocc", npy(-ROWS), "voxel indices must lie in a grid"),
    "negative panoptic": ("panoptic", npz(data=np.array([-1, 4000])), "0 to 31, those of nuscenes_raw; got -1"),
    "odd bytes": ("points", bytes(41), "got 41 bytes, no multiple of 4"),
    "a voxel too many": ("ssc", bytes(2 * KITTI_BYTES + 2), "must be 2,097,152 numbers of uint16; got 2,097,153"),
    "a byte too many": ("ssc", bytes(2 * KITTI_BYTES + 1), "got 4,194,305 bytes, no multiple of 2"),
    "bits": ("bits", bytes(KITTI_BYTES // 8 + 1), "must be 262,144 numbers of uint8; got 262,145"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_contents_are_explained(fault, tmp_path):
    name, content, words = WRONG[fault]
    path = tmp_path / READERS[name][0]
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as refusal:
        READERS[name][2](path)
    assert str(path) in str(refusal.value)


def test_nothing_labelled_is_all_free(tmp_path):
    for name, grid, classes in (
        ("openoccupancy", grids.OPENOCCUPANCY, OPENOCCUPANCY), ("surroundocc", grids.SURROUNDOCC, SURROUNDOCC),
    ):  # fmt: skip
        np.save(tmp_path / "l.npy", np.zeros((0, 4)))
        labels = READERS[name][2](tmp_path / "l.npy")
        assert labels.label.shape == grid.shape
        assert bool((labels.label == classes.free).all())
    (tmp_path / "empty.bin").write_bytes(b"")
    assert read_cloud(tmp_path / "empty.bin", 5).shape == (0, 5)


def test_numbers_that_do_not_fit_are_not_written(tmp_path):
    car = torch.tensor([SEMANTICKITTI_RAW.index_of("car")])
    with pytest.raises(DataError, match=r"instances to write must be 0 to 65,535; got 65536 to 65536"):
        write_semantickitti_raw(tmp_path / "x", car, torch.tensor([1 << 16]))
    with pytest.raises(ShapeError, match="points must have a class and an instance each; got 1 and 2"):
        formats.write_semantickitti_points(tmp_path / "x", torch.tensor([1]), torch.tensor([1, 2]))
    with pytest.raises(DataError, match=r"labels must be classes of semantickitti, 0 to 19; got 20 to 20"):
        formats.write_semantickitti_points(tmp_path / "x", torch.tensor([20]), torch.tensor([1]))
    with pytest.raises(DataError, match=r"classes to write must be 0 to 33, those of semantickitti_raw; got -1 to -1"):
        write_semantickitti_raw(tmp_path / "x", -car.clamp_max(1), torch.tensor([1]))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("seed", range(5))
def test_random_files_round_trip_byte_for_byte(seed, tmp_path):
    rng = np.random.default_rng(seed)
    codes = np.array(formats.SEMANTICKITTI_CODES.codes)
    one, other = tmp_path / "one", tmp_path / "other"
    (codes[rng.integers(0, 34, 500)] | rng.integers(0, 1 << 16, 500) << 16).astype("<u4").tofile(one)
    assert write_semantickitti_raw(other, *read_semantickitti_raw(one)).read_bytes() == one.read_bytes()
    codes[rng.integers(0, 34, KITTI_BYTES)].astype("<u2").tofile(one)
    written = formats.write_semantickitti_raw_voxels(other, formats.read_semantickitti_raw_voxels(one))
    assert written.read_bytes() == one.read_bytes()
    one.write_bytes(rng.bytes(KITTI_BYTES // 8))
    written = formats.write_semantickitti_occupancy(other, formats.read_semantickitti_occupancy(one))
    assert written.read_bytes() == one.read_bytes()
    masks = [rng.integers(0, 2, grids.OCC3D.shape).astype(np.uint8) for _ in range(2)]
    label = rng.integers(0, OCC3D.num_classes, grids.OCC3D.shape).astype(np.uint8)
    one.write_bytes(npz(semantics=label, mask_lidar=masks[0], mask_camera=masks[1]))
    assert formats.write_occ3d(other, formats.read_occ3d(one)).read_bytes() == one.read_bytes()


def test_damaged_retrieval_files_are_named(tmp_path):
    mask = torch.zeros(50, dtype=torch.bool)
    mask[3] = True
    write_retrieval(tmp_path, [RetrievalAnnotation("t", "val", "fire hydrant", mask, torch.arange(20))])
    path = tmp_path / "annotations/t__retrieval.npy"
    good = path.read_bytes()
    for content in (
        b"",
        good[:40],
        good[:-1],
        npz(a=mask.numpy()),
        npy(np.array([None], dtype=object)),
        npy(mask[None]),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match="file of an annotation must") as refusal:
            read_retrieval(tmp_path, "val")
        assert str(path) in str(refusal.value)
