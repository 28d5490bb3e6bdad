"""SemanticKITTI: real scans project onto their images, poses line up, and broken folders are explained."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from lexivox.data.benchmark_classes import SEMANTICKITTI_MAP
from lexivox.data.datasets import open_dataset
from lexivox.data.types import SampleDataset
from lexivox.errors import ConfigError, DataError
from lexivox.supervision.targets import project_lidar


@pytest.fixture(scope="module")
def drive(realdata):
    return open_dataset("semantickitti", realdata / "semantickitti", labels="semantic")


def test_it_is_a_data_set(drive):
    assert isinstance(drive, SampleDataset)
    assert list(drive.tokens) == [f"00-{i:06d}" for i in range(6)]
    assert drive.classes is SEMANTICKITTI_MAP
    assert all(path.exists() for path in drive.files())


def test_points_fall_on_their_own_picture(drive):
    """Vegetation is greener than road where the scan says so: wrong calibration would blur that."""
    sample = drive[0]
    uv, visible = project_lidar(sample)
    assert 0.1 < float(visible[0].float().mean()) < 0.3  # one camera sees about a sixth of the horizon
    column, row = uv[0][visible[0]].long().unbind(1)
    red, green, blue = sample.views[0].image[:, row, column].float()
    label = sample.point_labels.label[visible[0]]
    greenness = 2 * green - red - blue
    road, vegetation, sidewalk = (label == drive.classes.index_of(n) for n in ("road", "vegetation", "sidewalk"))
    assert int(road.sum()) > 2000
    assert int(vegetation.sum()) > 500
    assert float(greenness[vegetation].mean()) > float(greenness[road].mean()) + 3
    assert int(sidewalk.sum()) > 100


def test_the_ground_lies_at_zero(drive):
    sample = drive[0]
    height = sample.ego_from_lidar.apply(sample.lidar.xyz)[:, 2]
    road = sample.point_labels.label == drive.classes.index_of("road")
    assert abs(float(height[road].median())) < 0.15


def test_poses_move_the_car_forward_and_line_up_scans(drive):
    first, last = drive[0], drive[5]
    first_from_last = first.global_from_ego.inverse() @ last.global_from_ego
    forward, left, up = first_from_last.translation.tolist()
    assert 2.5 < forward < 6.0
    assert abs(left) < 0.5
    assert abs(up) < 0.2
    # Poles and trunks of both scans meet only when the poses are right.
    still = [drive.classes.index_of(name) for name in ("pole", "trunk", "traffic-sign", "building", "fence")]
    clouds = []
    for sample in (first, last):
        kept = torch.isin(sample.point_labels.label, torch.tensor(still))
        clouds.append(sample.ego_from_lidar.apply(sample.lidar.xyz[kept]).float())
    moved = first_from_last.apply(clouds[1]).float()[::20]
    gap = torch.cdist(moved, clouds[0]).amin(1).median()
    unmoved = torch.cdist(clouds[1][::20], clouds[0]).amin(1).median()
    assert float(gap) < 0.12
    assert float(gap) < 0.7 * float(unmoved)


def test_times_are_those_of_the_file(drive):
    assert drive[1].timestamp_ns == 103_735_900
    assert drive[1].views[0].timestamp_ns == 103_735_900


def test_splits_and_options(realdata):
    root = realdata / "semantickitti"
    assert len(open_dataset("semantickitti", root, "train")) == 6
    assert len(open_dataset("semantickitti", root, ["00"], keyframes=[0, 5])) == 2
    with pytest.raises(
        DataError, match="split of semantickitti must be train, val, test or sequences on disk, 00; got val"
    ):
        open_dataset("semantickitti", root, "val")
    with pytest.raises(DataError, match=r"keyframes of sequence 00 must be on disk; got \[17\]"):
        open_dataset("semantickitti", root, keyframes=[17])
    with pytest.raises(ConfigError, match="labels of semantickitti must be 'semantic' or None; got 'panoptic'"):
        open_dataset("semantickitti", root, labels="panoptic")
    with pytest.raises(ConfigError, match="cameras must be some of image_2, image_3; got image_0"):
        open_dataset("semantickitti", root, cameras=["image_0"])


@pytest.fixture
def broken(realdata, tmp_path):
    shutil.copytree(realdata / "semantickitti/sequences/00", tmp_path / "00")
    return tmp_path


def test_broken_folders_are_explained(broken):
    (broken / "00/velodyne/000001.bin").write_bytes(b"123")
    np.array([10], dtype="<u4").tofile(broken / "00/labels/000002.label")
    (broken / "00/image_2/000003.png").write_bytes(b"no picture")
    drive = open_dataset("semantickitti", broken, labels="semantic")
    with pytest.raises(DataError, match="file of lidar of sample 00-000001 must hold whole records"):
        _ = drive[1]
    with pytest.raises(DataError, match="labels of lidar of sample 00-000002 must be as many as its points"):
        _ = drive[2]
    with pytest.raises(DataError, match="image of image_2 of sample 00-000003 must be readable"):
        _ = drive[3]
    with pytest.raises(DataError, match="labels must be readable"):
        drive.dense_labels(0)
    (broken / "00/poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(DataError, match="poses of sequence 00 must cover its scans; got 1 for scan 4"):
        _ = open_dataset("semantickitti", broken)[4]
    (broken / "00/calib.txt").write_text("P2: 1 2 3\n")
    with pytest.raises(DataError, match="calibration must hold P0 to P3 and Tr"):
        open_dataset("semantickitti", broken)
    with pytest.raises(DataError, match="root of semantickitti must hold sequences"):
        open_dataset("semantickitti", broken / "00/velodyne")
