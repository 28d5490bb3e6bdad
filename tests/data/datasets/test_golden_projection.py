"""The readers' geometry against what the official tools compute on the same recordings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lexivox.data.datasets import open_dataset
from lexivox.geometry.camera import is_visible, pixels_from_cam
from lexivox.geometry.transform import RigidTransform


@pytest.fixture(scope="module")
def nuscenes_samples(realdata, golden):
    dataset = open_dataset("nuscenes", realdata / "nuscenes")
    case = np.load(golden / "projection_nuscenes.npz", allow_pickle=False)
    samples = {token: dataset[i] for i, token in enumerate(dataset.tokens)}
    return case, [samples[str(token)] for token in case["sample_tokens"]]


def _project(sample, view):
    cam_from_lidar = view.ego_from_cam.inverse() @ sample.ego_from_lidar
    return pixels_from_cam(cam_from_lidar.apply(sample.lidar.xyz.double()), view.image_from_cam)


@pytest.mark.parametrize("number", [0, 1])
def test_nuscenes_projection_equals_the_devkit_in_float64(nuscenes_samples, number):
    case, samples = nuscenes_samples
    for view in samples[number].views:
        uv, depth_m = _project(samples[number], view)
        visible = is_visible(uv, depth_m, view.image_hw, min_depth_m=1.0, margin_px=1.0)
        key = f"s{number}/{view.name}/devkit_"
        index = torch.from_numpy(case[key + "point_index_f64"]).long()
        assert _differing(visible.nonzero()[:, 0], index) <= 1
        assert (uv[index] - torch.from_numpy(case[key + "uv_f64"])).abs().max() <= 1e-6
        assert (depth_m[index] - torch.from_numpy(case[key + "depth_f64"])).abs().max() <= 1e-9


@pytest.mark.parametrize("number", [0, 1])
def test_nuscenes_pixels_equal_the_pop3d_cache(nuscenes_samples, number):
    """Spec POP-3D 1.6: beyond 1 m, 0 < u < W - 1, and pixels rounded half to even."""
    case, samples = nuscenes_samples
    for view in samples[number].views:
        uv, depth_m = _project(samples[number], view)
        height, width = view.image_hw
        visible = is_visible(uv, depth_m, (height - 1, width - 1), min_depth_m=1.0)
        key = f"s{number}/{view.name}/pop3d_"
        index = torch.from_numpy(case[key + "point_index"]).long()
        assert _differing(visible.nonzero()[:, 0], index) <= 2  # their chain is float32
        row_col = torch.round(uv[index].flip(-1)).long()
        expected = torch.from_numpy(case[key + "pixel_row_col"]).long()
        assert (row_col - expected).abs().max() <= 1
        assert (row_col == expected).all(dim=1).double().mean() >= 0.99


@pytest.mark.parametrize("frame", [60, 70])
def test_pandaset_projection_equals_the_devkit(golden, frame):
    case = np.load(golden / "projection_pandaset.npz", allow_pickle=False)
    world = torch.from_numpy(case[f"f{frame}/points_world"]).double()
    for camera in case["cameras"]:
        key = f"f{frame}/{camera}/"
        global_from_cam = _pose(case[key + "camera_pose_pos_xyz_quat_wxyz"])
        fx, fy, cx, cy = case[key + "fx_fy_cx_cy"].tolist()
        intrinsics = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
        uv, depth_m = pixels_from_cam(global_from_cam.inverse().apply(world), intrinsics)
        width, height = case[key + "image_wh"].tolist()
        visible = is_visible(uv, depth_m, (height, width), min_depth_m=0.0)
        index = torch.from_numpy(case[key + "point_index"]).long()
        assert _differing(visible.nonzero()[:, 0], index) <= 2
        assert (uv[index] - torch.from_numpy(case[key + "uv"])).abs().max() <= 1e-3
        assert (depth_m[index] - torch.from_numpy(case[key + "depth"])).abs().max() <= 1e-4


@pytest.mark.parametrize("frame", [60, 70])
def test_pandaset_lidar_axes_equal_the_devkit(golden, frame):
    case = np.load(golden / "projection_pandaset.npz", allow_pickle=False)
    global_from_pose = _pose(case[f"f{frame}/lidar_pose_pos_xyz_quat_wxyz"])
    world = torch.from_numpy(case[f"f{frame}/points_world"][:500]).double()
    expected = torch.from_numpy(case[f"f{frame}/points_lidar_first500"])
    assert (global_from_pose.inverse().apply(world) - expected).abs().max() <= 1e-4


def test_pandaset_reader_keeps_world_points_and_pixels(realdata):
    """Through our frames and back: the world points of the file, and the same pixels."""
    from lexivox.data.datasets.pandaset_drive import PandasetDrive
    from lexivox.data.datasets.restricted_pickle import read_frame

    sample = open_dataset("pandaset", realdata / "pandaset", keyframes=[55])[0]
    drive = PandasetDrive(realdata / "pandaset" / "002")
    table = read_frame(drive.lidar_path(55), ["x", "y", "z", "d"], "test")
    world = torch.from_numpy(np.stack([table[axis] for axis in "xyz"], axis=1)[table["d"] == 0])
    moved = (sample.global_from_ego @ sample.ego_from_lidar).apply(sample.lidar.xyz.double())
    assert (moved - world).abs().max() <= 1e-4  # float32 at 250 m
    for view in sample.views:
        cam_from_world = drive.camera_pose(view.name, 55).inverse()
        straight, _ = pixels_from_cam(cam_from_world.apply(world), view.image_from_cam)
        uv, depth_m = _project(sample, view)
        visible = is_visible(uv, depth_m, view.image_hw, min_depth_m=1.0)
        assert (uv - straight)[visible].abs().max() <= 0.05


def _pose(row) -> RigidTransform:
    return RigidTransform.from_quaternion(row[3:].tolist(), row[:3].tolist())


def _differing(a, b) -> int:
    return len(set(a.tolist()) ^ set(b.tolist()))
