"""The doctor on real data, on a wrong calibration and on damaged files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lexivox.data.datasets import open_dataset
from lexivox.data.doctor.examine import diagnose
from lexivox.data.doctor.pictures import depth_colors
from lexivox.data.doctor.sweeps import check_ground, check_points, check_times, check_turns, check_views
from lexivox.geometry.transform import RigidTransform


@pytest.fixture(scope="module")
def drive(realdata):
    return open_dataset("pandaset", realdata / "pandaset", keyframes=[0, 55], boxes=True)


@pytest.fixture(scope="module")
def samples(drive):
    return list(drive)


def test_a_healthy_drive(drive, tmp_path):
    report = diagnose(drive, tmp_path / "out", num_samples=1)
    assert report.ok
    assert report.faults == ()
    text = report.text()
    for part in (
        "all 16 files are there",
        "the ground lies at -0.3",
        "seen by a camera",
        "-100 to -19 ms",
        "usable",
    ):
        assert part in text
    assert [path.name for path in report.pictures] == ["002-00-birds-eye.png", "002-00-cameras.png"]
    with Image.open(report.pictures[1]) as sheet:
        assert sheet.size == (2160, 810)


def test_the_real_nuscenes_samples_are_healthy(realdata, tmp_path):
    report = diagnose(open_dataset("nuscenes", realdata / "nuscenes", boxes=True), tmp_path)
    assert report.ok
    assert report.faults == ()
    assert len(report.pictures) == 4


def test_without_a_folder_no_picture_is_made(samples, tmp_path):
    assert diagnose(_Damaged(replace(samples[0], views=()), tmp_path), None, num_samples=1).pictures == ()


def test_a_wrong_frame_is_noticed(samples):
    sample = samples[0]
    raised = replace(sample, ego_from_lidar=RigidTransform.from_yaw(0.0, (0.0, 0.0, 5.0)))
    (found,) = check_ground(raised)
    assert (found.severity, found.fault) == ("warning", "ground")
    assert "expected near 0; is the pose of the LiDAR on the car right, or its inverse?" in found.text
    backwards = replace(sample.views[0], ego_from_cam=RigidTransform.from_yaw(0.0, (0.0, 0.0, 900.0)))
    _, found = check_views(replace(sample, views=(backwards,)))
    assert (found.severity, found.fault) == ("warning", "few-points")
    assert "front_camera sees 0.00% of the points" in found.text
    late = replace(sample.views[0], timestamp_ns=sample.timestamp_ns + 500_000_000)
    _, found = check_times(replace(sample, views=(late,)))
    assert found.fault == "late-camera"
    assert found.text == "front_camera fired +500 ms from the LiDAR; things that move will not line up"
    broken = replace(sample.lidar, xyz=sample.lidar.xyz * torch.nan)
    assert next(check_points(replace(sample, lidar=broken))).fault == "strange-points"


def _part(sample, kept):
    cut = {name: getattr(sample.lidar, name)[kept] for name in ("xyz", "intensity", "ring", "batch")}
    return replace(sample, lidar=replace(sample.lidar, **cut))


def test_sweeps_without_points_or_with_a_part_of_them(samples):
    sample = samples[0]
    none = _part(sample, torch.zeros(sample.lidar.num_points, dtype=torch.bool))
    (found,) = check_points(none)
    assert (found.severity, found.fault) == ("error", "empty-sweep")
    few = _part(sample, torch.arange(sample.lidar.num_points) < 500)
    assert next(check_points(few)).fault == "empty-sweep"
    half = _part(sample, sample.lidar.xyz[:, 0] > 0)
    assert list(check_turns([sample, samples[1], sample])) == []
    (found,) = check_turns([sample, samples[1], half])
    assert found.fault == "truncated-files"
    assert "with a gap of 1" in found.text  # half a turn is silent


def test_samples_without_cameras_or_ground_do_not_crash(samples):
    bare = replace(samples[0], views=())
    assert [found.severity for found in check_views(bare)] == ["unsure"]
    assert list(check_times(bare)) == []
    far = replace(bare.lidar, xyz=bare.lidar.xyz * 0 + 200.0)
    (found,) = check_ground(replace(bare, lidar=far))
    assert found.severity == "unsure"


class _Damaged:
    """A reader whose second sample cannot be read and whose files are partly missing."""

    name, classes = "damaged", None

    def __init__(self, sample, folder):
        self._sample, self._folder = sample, folder
        self.tokens, self.drives = ["a", "b"], ["d", "d"]

    def __len__(self):
        return 2

    def __iter__(self):
        return (self[i] for i in range(2))

    def __getitem__(self, index):
        from lexivox.errors import DataError

        if index == 1:
            raise DataError("image of CAM of sample b must exist; got none.")
        return self._sample

    def files(self):
        (self._folder / "there").write_text("x")
        (self._folder / "empty").touch()
        return iter(self._folder / name for name in ("there", "empty", "gone"))


def test_damage_is_listed_and_the_rest_still_examined(samples, tmp_path):
    report = diagnose(_Damaged(replace(samples[0], views=()), tmp_path), None)
    assert not report.ok
    text = report.text()
    assert "ERROR    [missing-files] 1 of 3 files are missing; complete the data set, the first:" in text
    assert "ERROR    [empty-files] 1 of 3 files are empty; fetch them again, the first:" in text
    assert "ERROR    [unreadable] image of CAM of sample b must exist; got none." in text
    assert "002-00: 106169 points" in text
    assert text.endswith("not usable as it is: missing-files, empty-files, unreadable")


def test_depth_colors_go_from_red_to_blue():
    red, *_, blue = depth_colors(torch.tensor([3.0, 10.0, 50.0])).int().numpy()
    assert red[0] > 200 > 100 > red[2]
    assert blue[2] > 200 > 100 > blue[0]
    assert np.all(depth_colors(torch.tensor([0.0])).numpy() == depth_colors(torch.tensor([3.0])).numpy())
