"""What only a simulator knows, read back from the dataroot that it writes."""

from __future__ import annotations

import pytest
import torch

from lexivox.data.datasets import open_dataset
from lexivox.data.datasets.nuscenes import NuscenesDataset
from lexivox.data.synthetic.nuscenes_writer import DriveSpec, write_nuscenes
from lexivox.errors import DataError
from lexivox.geometry.grid import VoxelGrid

GRID = VoxelGrid((-8.0, -8.0, -1.0), (1.0, 1.0, 1.0), (16, 16, 4), "ego")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    drives = [DriveSpec(1, 1), DriveSpec(2, 1, "val")]
    return write_nuscenes(folder, drives, image_hw=(36, 64), num_azimuths=90, grid=GRID, with_pixel_labels=True)


def test_the_truth_of_a_made_drive(root):
    dataset = NuscenesDataset(root, "train", labels="panoptic", boxes=True, voxel_labels=True)
    assert list(dataset.drives) == ["scene-0001"]
    sample = dataset[0]
    assert len(sample.views) == 6
    assert sample.voxel_labels.grid == GRID
    assert sample.voxel_labels.flow.shape == (16, 16, 4, 2)
    fine = dataset.fine_labels(0)
    assert fine.shape == (sample.lidar.num_points,)
    assert int(fine.max()) < len(dataset.fine_names)
    assert dataset.fine_pixels(0, "CAM_BACK").shape == (36, 64)
    road = dataset.fine_names.index("road")
    assert sample.point_labels.label[fine == road].eq(11).all()
    thing = sample.point_labels.instance > 0
    assert torch.isin(sample.point_labels.label[thing], torch.arange(1, 11)).all()


def test_what_is_missing_is_named(root, tiny):
    with pytest.raises(DataError, match="voxel labels must be beside the data set when asked for; got none"):
        open_dataset("nuscenes", tiny, voxel_labels=True)
    with pytest.raises(DataError, match="fine labels of sample s00 must exist when asked for; got none"):
        NuscenesDataset(tiny).fine_labels(0)
    dataset = NuscenesDataset(root, "val", voxel_labels=True, cameras=[])
    path = next((root / "extras" / "v1.0-synthetic" / "occupancy").glob(f"{dataset._lidar_token(1)}.npz"))
    path.write_bytes(b"damage")
    with pytest.raises(DataError, match=f"voxel labels of sample {dataset.tokens[0]} must exist"):
        dataset[0]
