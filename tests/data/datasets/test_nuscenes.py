"""The nuScenes reader on a made dataroot, on the real one, and on broken ones."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
import torch

from lexivox.data.datasets import open_dataset
from lexivox.data.datasets.nuscenes import NuscenesDataset
from lexivox.data.types import SampleDataset
from lexivox.errors import ConfigError, DataError


def test_samples_come_in_order_of_drive_and_time(tiny):
    dataset = open_dataset("nuscenes", tiny)
    assert isinstance(dataset, SampleDataset)
    assert list(dataset.tokens) == ["s00", "s01", "s02", "s10", "s11", "s12"]
    assert list(dataset.drives) == ["scene-0"] * 3 + ["scene-1"] * 3
    assert [sample.token for sample in dataset] == list(dataset.tokens)
    assert dataset[-1].token == "s12"
    with pytest.raises(IndexError):
        dataset[6]


def test_cameras_keep_the_fixed_order_and_carry_the_motion(tiny):
    """The camera fires 40 ms before the LiDAR at 4 m/s: 0.16 m behind its place on the car at LiDAR time."""
    sample = open_dataset("nuscenes", tiny)[1]
    assert [view.name for view in sample.views] == ["CAM_FRONT", "CAM_BACK"]
    view = sample.views[0]
    assert view.image.shape == (3, 24, 32)
    torch.testing.assert_close(view.ego_from_cam.translation, torch.tensor([0.84, 0.0, 1.8]).double())
    torch.testing.assert_close(view.ego_from_cam.rotation[:, 2], torch.tensor([1.0, 0.0, 0.0]).double())
    assert view.timestamp_ns - sample.timestamp_ns == -40_000_000


def test_labels_and_boxes_only_when_asked_for(tiny):
    plain = open_dataset("nuscenes", tiny)[0]
    assert plain.point_labels is None
    assert plain.boxes is None
    dataset = NuscenesDataset(tiny, labels="lidarseg", boxes=True)
    sample = dataset[1]
    assert sample.point_labels.label[[9, 17, 24]].tolist() == [1, 4, 11]  # spec POP-3D 1.7
    assert dataset.raw_labels(1)[:4].tolist() == [0, 1, 2, 3]
    box = sample.boxes
    assert box.label.tolist() == [4]
    torch.testing.assert_close(box.center, torch.tensor([[32.0 - 2.0, 5.0, 1.0]]))
    torch.testing.assert_close(box.size_m, torch.tensor([[4.0, 2.0, 1.5]]))
    torch.testing.assert_close(box.velocity, torch.tensor([[4.0, 0.0]]))  # 2 m in 0.5 s
    assert float(box.yaw_rad) == 0.0


def test_sweeps_are_moved_into_the_keyframe(tiny):
    dataset = NuscenesDataset(tiny, num_sweeps=2, labels="lidarseg")
    plain = NuscenesDataset(tiny)
    assert dataset[0].lidar.num_points == 40  # nothing comes before a drive's first sweep
    sample = dataset[1]
    assert sample.lidar.num_points == 120
    # the second sweep back is the first keyframe, 2 m of driving behind
    expected = plain[0].lidar.xyz - torch.tensor([2.0, 0.0, 0.0])
    torch.testing.assert_close(sample.lidar.xyz[80:], expected, atol=1e-4, rtol=0)
    assert sample.point_labels.label[40:].eq(0).all()


def test_splits(tiny, tmp_path):
    assert len(open_dataset("nuscenes", tiny, split="val")) == 3
    assert len(open_dataset("nuscenes", tiny, split=["scene-1"])) == 3
    names = tmp_path / "names.txt"
    names.write_text("scene-0\nscene-1\n")
    assert len(open_dataset("nuscenes", tiny, split=str(names))) == 6
    with pytest.raises(DataError, match=r"split must be one of all, train, val, .* put the official lists as"):
        open_dataset("nuscenes", tiny, split="trian")
    with pytest.raises(DataError, match=r"split must name scenes of v1\.0-tiny; got 'mini_val'"):
        open_dataset("nuscenes", tiny, split="mini_val")


def test_points_that_are_not_finite_are_dropped_and_counted(tiny, caplog):
    path = tiny / "samples" / "LIDAR_TOP" / "s00.bin"
    records = np.fromfile(path, "<f4").reshape(-1, 5)
    records[3, 1], records[7, 0] = np.nan, np.inf
    records.tofile(path)
    with caplog.at_level(logging.WARNING):
        sample = NuscenesDataset(tiny, labels="lidarseg")[0]
    assert sample.lidar.num_points == 38
    assert sample.point_labels.label.shape == (38,)
    assert "dropped 2 of 40 points that are not finite: LIDAR_TOP of sample s00" in caplog.text


def test_a_dataset_travels_to_workers(tiny):
    dataset = pickle.loads(pickle.dumps(open_dataset("nuscenes", tiny, split="val")))
    assert dataset.tokens == ["s10", "s11", "s12"]


def _cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


BROKEN_FILES = {
    "truncated sweep": (
        lambda root: _cut(root / "samples/LIDAR_TOP/s00.bin", 799),
        "file of LIDAR_TOP of sample s00 must hold whole records of 20 bytes; got 799 bytes",
    ),
    "empty cloud": (
        lambda root: _cut(root / "samples/LIDAR_TOP/s00.bin", 0),
        "cloud of LIDAR_TOP of sample s00 must hold at least one finite point; got 0 points",
    ),
    "truncated image": (
        lambda root: _cut(root / "samples/CAM_BACK/s00.png", 900),
        "image of CAM_BACK of sample s00 must be readable; got: ",
    ),
    "not an image": (
        lambda root: (root / "samples/CAM_BACK/s00.png").write_bytes(b"hello"),
        "image of CAM_BACK of sample s00 must be readable; got: cannot identify image file. Fetch it again: /",
    ),
    "missing image": (
        lambda root: (root / "samples/CAM_BACK/s00.png").unlink(),
        "image of CAM_BACK of sample s00 must exist; got none. Complete the data set: /",
    ),
    "too few labels": (
        lambda root: _cut(root / "lidarseg/s00.bin", 39),
        "labels of LIDAR_TOP of sample s00 must be as many as its points, 40; got 39",
    ),
    "unknown label": (
        lambda root: (root / "lidarseg/s00.bin").write_bytes(bytes([77] * 40)),
        "lidarseg of sample s00 must hold classes 0 to 31; got 77",
    ),
}


@pytest.mark.parametrize("kind", BROKEN_FILES)
def test_a_broken_file_is_one_clear_line(tiny, kind):
    damage, message = BROKEN_FILES[kind]
    damage(tiny)
    with pytest.raises(DataError) as caught:
        NuscenesDataset(tiny, labels="lidarseg")[0]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def _without(column):
    return lambda rows: [{key: value for key, value in row.items() if key != column} for row in rows]


BROKEN_TABLES = {
    "column": ("sample_data", _without("is_key_frame"), "table sample_data must have the column is_key_frame; got"),
    "pose": ("ego_pose", lambda rows: rows[:-1], "table ego_pose must hold the pose of every file; got 1 without"),
    "sample": ("sample", lambda rows: rows[1:], "must name an existing sample; got token 's12'"),
    "not rows": ("scene", lambda rows: [1, 2], "table scene must be a JSON array of records; got a record of type"),
    "not a list": ("scene", lambda rows: {"a": 1}, "table scene must be a JSON array of records; got a start of"),
    "no cameras": (
        "sample_data",
        lambda rows: [row for row in rows if "CAM" not in row["filename"]],
        "tables must name at least one camera image",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN_TABLES)
def test_a_broken_table_is_one_clear_line(tiny, edit, kind):
    table, change, message = BROKEN_TABLES[kind]
    edit(table, change)
    with pytest.raises(DataError) as caught:
        NuscenesDataset(tiny)
    assert message in str(caught.value)


def test_missing_parts_are_named(tiny, edit):
    edit("sample_data", lambda rows: [row for row in rows if row["filename"] != "samples/CAM_BACK/s01.png"])
    with pytest.raises(DataError, match="sample s01 must have a keyframe of CAM_BACK; got none"):
        NuscenesDataset(tiny)[1]
    assert len(NuscenesDataset(tiny, cameras=["CAM_FRONT"])[1].views) == 1
    assert NuscenesDataset(tiny, cameras=[])[1].views == ()
    with pytest.raises(DataError, match="panoptic labels must be in the tables when asked for"):
        NuscenesDataset(tiny, labels="panoptic")
    (tiny / "v1.0-tiny" / "sample_annotation.json").unlink()
    NuscenesDataset(tiny)
    with pytest.raises(DataError, match="boxes must be in the tables when asked for"):
        NuscenesDataset(tiny, boxes=True)
    (tiny / "v1.0-tiny" / "ego_pose.json").unlink()
    with pytest.raises(DataError, match="table ego_pose must exist; got none"):
        NuscenesDataset(tiny)


def test_wrong_roots_and_options(tiny, tmp_path):
    with pytest.raises(DataError, match="root of nuscenes must be a folder; got none"):
        open_dataset("nuscenes", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"root of nuscenes must hold a folder v1.0-\* of tables; got none"):
        open_dataset("nuscenes", tmp_path)
    with pytest.raises(DataError, match=r"version must be one of the folders of tables; got v1\.0-mini, found"):
        open_dataset("nuscenes", tiny, version="v1.0-mini")
    with pytest.raises(ConfigError, match="options of nuscenes must be ones that the reader knows; got 'boxs'"):
        open_dataset("nuscenes", tiny, boxs=True)
    with pytest.raises(
        ConfigError, match="kind of a data set must be one of nuscenes, pandaset, semantickitti; got 'kitti'"
    ):
        open_dataset("kitti", tiny)
    with pytest.raises(ConfigError, match="cameras must be some of CAM_FRONT, CAM_BACK; got CAM_TOP"):
        open_dataset("nuscenes", tiny, cameras=["CAM_TOP"])


def test_the_real_dataroot(realdata):
    dataset = NuscenesDataset(realdata / "nuscenes", boxes=True)
    assert len(dataset) == 2
    sample = dataset[0]
    assert [view.name for view in sample.views][:3] == ["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT"]
    assert sample.lidar.num_points == 34688
    assert sample.boxes.center.shape == (68, 3)
    assert len(NuscenesDataset(realdata / "nuscenes", "mini_train")) == 1


def test_the_boxes_of_the_real_dataroot_hold_as_many_points_as_the_annotators_counted(realdata):
    dataset = NuscenesDataset(realdata / "nuscenes", boxes=True)
    for sample in dataset:
        xyz = sample.ego_from_lidar.apply(sample.lidar.xyz)
        boxes = sample.boxes
        offset = xyz[None] - boxes.center[:, None]
        cos, sin = boxes.yaw_rad.cos()[:, None], boxes.yaw_rad.sin()[:, None]
        own = torch.stack(
            [
                offset[..., 0] * cos + offset[..., 1] * sin,
                offset[..., 1] * cos - offset[..., 0] * sin,
                offset[..., 2],
            ],
            dim=-1,
        )
        count = (own.abs() <= boxes.size_m[:, None] / 2).all(-1).sum(1)
        row = dataset.tokens.index(sample.token)
        tables = dataset._tables
        expected = torch.tensor(tables.box_num_points[tables.box_start[row] : tables.box_start[row + 1]])
        assert ((count - expected).abs() <= 2 + 0.1 * expected).float().mean() > 0.9
