"""Labels of benchmarks beside nuScenes keyframes: found, mapped, in their own frame, missing ones named."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from lexivox.data.benchmark_classes import OCC3D, OPENOCCUPANCY
from lexivox.data.classes import NUSCENES16
from lexivox.data.datasets import open_dataset
from lexivox.data.dense_labels import DenseLabels
from lexivox.data.formats import read_occ3d, write_occ3d, write_openoccupancy
from lexivox.data.types import IGNORED
from lexivox.errors import ConfigError, DataError
from lexivox.geometry import grid as grids


def empty(grid, classes, **voxels):
    label = torch.full(grid.shape, classes.free, dtype=torch.uint8)
    for place, number in voxels.items():
        label[tuple(int(i) for i in place[1:].split("_"))] = number
    return DenseLabels(grid, classes, label)


def test_occ3d_of_a_real_keyframe(realdata, tmp_path):
    root = realdata / "nuscenes"
    plain = open_dataset("nuscenes", root)
    (real,) = (realdata / "occ3d_nuscenes_label").glob("*/labels.npz")
    for token, drive in zip(plain.tokens, plain.drives, strict=True):
        path = tmp_path / drive / token / "labels.npz"
        path.parent.mkdir(parents=True)
        path.write_bytes(real.read_bytes())
    dataset = open_dataset("nuscenes", root, voxel_labels="occ3d", voxel_root=tmp_path)
    voxels, labels = dataset[0].voxel_labels, read_occ3d(real)
    assert voxels.grid == grids.OCC3D
    assert voxels.free_label == NUSCENES16.free
    assert torch.equal(voxels.label, labels.label.long())  # the numbers of both tables are the same; "others" is noise
    assert torch.equal(voxels.seen_by_camera, labels.seen_by_camera)
    assert torch.equal(voxels.seen_by_lidar, labels.seen_by_lidar)
    assert not bool(voxels.flow.any())
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again.without_images(1).voxel_labels.label, voxels.label)


def test_openoccupancy_is_in_the_lidars_frame_and_its_noise_ignored(realdata, tmp_path):
    root = realdata / "nuscenes"
    dataset = open_dataset("nuscenes", root)
    car, noise = OPENOCCUPANCY.index_of("car"), OPENOCCUPANCY.ignore
    labels = empty(grids.OPENOCCUPANCY, OPENOCCUPANCY, v500_20_3=car, v1_2_3=noise)
    folder = tmp_path / "scene_x/occupancy"
    for index in range(len(dataset)):
        row, _ = dataset._row(index)
        write_openoccupancy(folder / f"{dataset._lidar_token(row)}.npy", labels)
    voxels = open_dataset("nuscenes", root, voxel_labels="openoccupancy", voxel_root=tmp_path)[0].voxel_labels
    assert voxels.grid.frame == "lidar"
    assert int(voxels.label[500, 20, 3]) == NUSCENES16.index_of("car")
    assert int(voxels.label[1, 2, 3]) == IGNORED
    assert int((voxels.label == NUSCENES16.free).sum()) == grids.OPENOCCUPANCY.num_voxels - 2
    assert voxels.seen_by_camera is None


def test_missing_and_damaged_labels_are_named(tiny, tmp_path):
    with pytest.raises(DataError, match=r"occ3d labels must lie in a folder; got none. Pass voxel_root or unpack them"):
        open_dataset("nuscenes", tiny, voxel_labels="occ3d")
    with pytest.raises(
        ConfigError, match="voxel_labels of nuscenes must be True, False or one of occ3d, openoccupancy"
    ):
        open_dataset("nuscenes", tiny, voxel_labels="occ4d")
    with pytest.raises(DataError, match=r"labels must be an .npz .*s00"):
        open_dataset("nuscenes", tiny, voxel_labels="occ3d", voxel_root=tmp_path)[0]
    write_occ3d(tmp_path / "scene-0/s00/labels.npz", empty(grids.OCC3D, OCC3D))
    np.savez(tmp_path / "scene-0/s00/labels.npz", semantics=np.zeros(3), mask_lidar=0, mask_camera=0)
    with pytest.raises(DataError, match=r"'semantics' must have the shape .*s00"):
        open_dataset("nuscenes", tiny, voxel_labels="occ3d", voxel_root=tmp_path)[0]
    with pytest.raises(DataError, match="sample s00 must have openoccupancy labels when asked for; got none of"):
        open_dataset("nuscenes", tiny, voxel_labels="openoccupancy", voxel_root=tmp_path)[0]
