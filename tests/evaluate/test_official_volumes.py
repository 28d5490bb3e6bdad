"""Scores of volumes against literal twins of the official tools, on hundreds of random and odd volumes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from reference.official_volumes import Occ3d, OpenOccupancy, SemanticKitti, SurroundOcc, f_score

from lexivox.data import formats
from lexivox.data.benchmark_classes import SEMANTICKITTI_CODES, SEMANTICKITTI_FROM_RAW, SURROUNDOCC
from lexivox.evaluate.dense import (
    MASKS,
    OPENOCCUPANCY_PROTOCOL,
    SEMANTICKITTI_PROTOCOL,
    SURROUNDOCC_PROTOCOL,
    DenseScore,
    occ3d_protocol,
    surface_distance_scores,
)
from lexivox.geometry.grid import SEMANTICKITTI, VoxelGrid

SHAPES = ((9, 8, 4), (5, 1, 3), (1, 1, 1))


def same(ours, theirs, tolerance=1e-12):
    """A number that the tool has not (NaN) is none here."""
    if ours is None or np.isnan(theirs):
        assert ours is None, (ours, theirs)
        assert np.isnan(theirs), (ours, theirs)
    else:
        assert ours == pytest.approx(float(theirs), abs=tolerance)


def volume(rng, free, shape, classes, like=None):
    """Some of the classes only; all free, all one class, or a changed copy of another."""
    kind = rng.integers(0, 10)
    if kind < 2:
        return np.full(shape, free if kind == 0 else rng.integers(0, classes), np.uint8)
    some = rng.choice(classes, rng.integers(1, classes), replace=False)
    label = rng.choice(np.append(some, [free] * len(some)), shape).astype(np.uint8)
    return label if like is None else np.where(rng.random(shape) < 0.6, like, label).astype(np.uint8)


def mask(rng, shape):
    """Sometimes nothing, sometimes everything."""
    return rng.random(shape) < rng.choice([0.0, 0.3, 0.8, 1.1])


@pytest.mark.parametrize("which", MASKS)
@pytest.mark.parametrize("seed", range(25))
def test_occ3d(seed, which):
    rng = np.random.default_rng(seed)
    ours, theirs = DenseScore(occ3d_protocol(which)), Occ3d(which)
    shape = SHAPES[seed % 3]
    for _ in range(rng.integers(1, 4)):
        true = volume(rng, 17, shape, 18)
        said = volume(rng, 17, shape, 18, true)
        true[rng.random(shape) < rng.choice([0.0, 0.1])] = 255  # excluded by the tool as well
        lidar, camera = mask(rng, shape), mask(rng, shape)
        theirs.add(said, true, lidar, camera)
        counted = {"none": None, "lidar": lidar, "camera": camera, "both": lidar & camera}[which]
        ours.update(said, true, counted)
    assert np.array_equal(ours.confusion.counts[:, :18].numpy(), theirs.hist)
    result = ours.compute()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mean of nothing
        same(result.values["miou"], theirs.miou())
    for number, name in enumerate(occ3d_protocol(which).classes.names):
        same(result.per_class["iou"][name], theirs.iou()[number])


@pytest.mark.parametrize("seed", range(20))
def test_occ3d_f_score(seed):
    rng = np.random.default_rng(seed)
    true = volume(rng, 17, (7, 6, 4), 18)
    true[0, 0, 0] = 3  # without anything true the tool breaks off
    said = volume(rng, 17, (7, 6, 4), 18, true)
    counted = mask(rng, true.shape)
    counted[0, 0, 0] = True
    ours = surface_distance_scores(*(torch.from_numpy((v != 17) & counted) for v in (said, true)))
    assert ours == pytest.approx(f_score(said, true, counted), abs=2e-8)


def test_nothing_occupied_has_an_f_score_of_zero():
    nothing, something = torch.zeros(3, 3, 3, dtype=torch.bool), torch.ones(3, 3, 3, dtype=torch.bool)
    assert surface_distance_scores(nothing, something) == (0.0, 0.0, 0.0)
    assert surface_distance_scores(something, nothing) == (0.0, 0.0, 0.0)
    assert surface_distance_scores(nothing, nothing) == (0.0, 0.0, 0.0)


LEARNING_MAP = {
    0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11, 49: 12,
    50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0, 252: 1, 253: 7, 254: 6, 255: 8,
    256: 5, 257: 5, 258: 4, 259: 5,
}  # fmt: skip
UNSCORED = [1, 52, 99]


def kitti(raw, invalid=None):
    """As :func:`lexivox.data.formats.read_semantickitti_voxels` reads it."""
    code = torch.from_numpy(raw.astype(np.int64))
    label = SEMANTICKITTI_FROM_RAW.apply(SEMANTICKITTI_CODES.decode(code))
    label[(label == 0) & (code != 0)] = 255
    if invalid is not None:
        label[torch.from_numpy(invalid)] = 255
    return label


@pytest.mark.parametrize("seed", range(40))
def test_semantickitti_completion(seed):
    rng = np.random.default_rng(seed)
    ours, theirs = DenseScore(SEMANTICKITTI_PROTOCOL), SemanticKitti(LEARNING_MAP)
    shape, codes = SHAPES[seed % 3], np.array(list(LEARNING_MAP))
    for _ in range(rng.integers(1, 4)):
        true = codes[volume(rng, 0, shape, len(codes))]
        said = np.where(rng.random(shape) < 0.5, true, codes[volume(rng, 0, shape, len(codes))])
        invalid = mask(rng, shape)
        left_out = invalid | np.isin(true, UNSCORED)
        said[np.isin(said, UNSCORED) & ~left_out] = 0  # the tool breaks off at these, where they count
        theirs.add(said, true, invalid)
        ours.update(kitti(said), kitti(true, invalid))
    assert np.array_equal(ours.confusion.counts[:, :20].numpy(), theirs.confusion.T)
    wanted, result = theirs.scores(), ours.compute()
    for name in ("miou", "iou_occupied"):
        same(result.values[name], wanted[name])
    for name in ("precision_occupied", "recall_occupied"):
        same(result.values[name], wanted[name], 2e-7)  # the tool adds 1.2e-7 to what it divides by
    for number, name in enumerate(SEMANTICKITTI_PROTOCOL.classes.names[1:], 1):
        same(result.per_class["iou"][name], wanted["iou"][number])


def test_semantickitti_files_are_read_as_the_tool_reads_them(tmp_path):
    rng = np.random.default_rng(3)
    size, codes = SEMANTICKITTI.num_voxels, np.array(list(LEARNING_MAP))
    raw, packed = codes[rng.integers(0, len(codes), size)], rng.integers(0, 256, size // 8).astype(np.uint8)
    raw.astype("<u2").tofile(tmp_path / "000005.label")
    packed.tofile(tmp_path / "000005.invalid")
    invalid = np.zeros(size, np.uint8)
    for bit in range(8):  # the first voxel of a byte is its highest bit
        invalid[bit::8] = packed >> (7 - bit) & 1
    lookup = SemanticKitti(LEARNING_MAP).lookup
    wanted = np.where(invalid == 1, 255, lookup[raw]).reshape(SEMANTICKITTI.shape)
    assert np.array_equal(formats.read_semantickitti_voxels(tmp_path, "000005").label.numpy(), wanted)
    (tmp_path / "000005.occluded").write_bytes(packed[::-1].tobytes())
    occluded = np.unpackbits(packed[::-1]).reshape(SEMANTICKITTI.shape)
    seen = formats.read_semantickitti_voxels(tmp_path, "000005").seen_by_lidar
    assert seen is not None
    assert np.array_equal(seen.numpy(), (invalid.reshape(SEMANTICKITTI.shape) | occluded) == 0)


@pytest.mark.parametrize("seed", range(30))
def test_openoccupancy(seed):
    rng = np.random.default_rng(seed)
    ours, theirs, shape = DenseScore(OPENOCCUPANCY_PROTOCOL), OpenOccupancy(), SHAPES[seed % 3]
    for _ in range(rng.integers(1, 4)):
        true = volume(rng, 0, shape, 17)
        said = volume(rng, 0, shape, 17, true)
        true[mask(rng, shape) & (rng.random(shape) < 0.3)] = 255
        theirs.add(said, true)
        ours.update(said, true)
    compared(ours, *theirs.scores())


def compared(ours, occupied, iou):
    result = ours.compute()
    same(result.values["iou_occupied"], occupied)
    for name, wanted in zip(ours.definition.classes.evaluated_names, iou, strict=True):
        same(result.per_class["iou"][name], wanted)
    present = iou[~np.isnan(iou)]
    same(result.values["miou"], present.mean() if len(present) else np.nan)


@pytest.mark.parametrize("seed", range(30))
def test_surroundocc(seed, tmp_path, monkeypatch):
    rng, shape = np.random.default_rng(seed), SHAPES[seed % 3]
    monkeypatch.setattr(formats.grids, "SURROUNDOCC", VoxelGrid((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), shape, "lidar"))
    ours, theirs = DenseScore(SURROUNDOCC_PROTOCOL), SurroundOcc()
    for number in range(rng.integers(1, 4)):
        count = rng.integers(0, 60)  # voxels named twice: the last row counts
        rows = np.stack([*(rng.integers(0, n, count) for n in shape), rng.integers(0, 17, count)], 1)
        np.save(tmp_path / f"{number}.npy", rows)
        true = formats.read_surroundocc(tmp_path / f"{number}.npy").label
        said = volume(rng, 0, shape, 17, np.where(true == 255, 0, true))
        theirs.add(said, rows)
        ours.update(said, true.numpy())
    assert SURROUNDOCC.free == 0
    compared(ours, *theirs.scores())
