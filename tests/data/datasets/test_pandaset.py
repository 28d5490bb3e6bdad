"""The PandaSet reader on the real drive."""

from __future__ import annotations

import shutil

import pytest
import torch

from lexivox.data.classes import PANDASET9
from lexivox.data.datasets import open_dataset
from lexivox.data.datasets.pandaset import PandasetDataset
from lexivox.data.types import SampleDataset
from lexivox.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def root(realdata):
    return realdata / "pandaset"


@pytest.fixture(scope="module")
def sample(root):
    return PandasetDataset(root, labels="semseg", boxes=True, keyframes=[55])[0]


def test_keyframes_on_disk_in_order(root):
    dataset = open_dataset("pandaset", root)
    assert isinstance(dataset, SampleDataset)
    assert list(dataset.tokens) == [f"002-{frame:02d}" for frame in range(0, 60, 5)]
    assert set(dataset.drives) == {"002"}
    assert list(open_dataset("pandaset", root, keyframes=range(0, 20, 10)).tokens) == ["002-00", "002-10"]
    assert list(open_dataset("pandaset", root / "002", split=["002"], keyframes=[5]).tokens) == ["002-05"]


def test_frames(sample):
    """Forward is x: the front camera looks there and the road lies below."""
    front = sample.views[0]
    assert front.name == "front_camera"
    assert front.ego_from_cam.rotation[0, 2] > 0.999
    assert sample.views[4].ego_from_cam.rotation[1, 2] > 0.999  # left camera looks along y
    xyz_ego = sample.ego_from_lidar.apply(sample.lidar.xyz)
    road = sample.point_labels.label == PANDASET9.index_of("road")
    assert -0.6 < xyz_ego[road][:, 2].median() < -0.2
    assert sample.ego_from_lidar.apply(torch.zeros(1, 3))[0].tolist() == pytest.approx([1.43, -0.02, 1.75])
    offsets_ms = [(view.timestamp_ns - sample.timestamp_ns) / 1e6 for view in sample.views]
    assert all(-100 < offset < -18 for offset in offsets_ms)


def test_rays_start_at_the_optical_centre(root):
    """Seen from there the 64 beams are cones: near points gather at few elevations, from elsewhere they smear."""
    standing = PandasetDataset(root, cameras=[], keyframes=[0])[0]

    def spread(shift_z_m: float) -> float:
        xyz = standing.lidar.xyz.double() - torch.tensor([0.0, 0.0, shift_z_m])
        range_m = xyz.norm(dim=1)
        x, y, z = xyz[(range_m > 4) & (range_m < 15)].unbind(1)
        histogram = torch.histc(torch.atan2(z, torch.hypot(x, y)), bins=2000, min=-0.12, max=0.04)
        return float(torch.special.entr(histogram / histogram.sum()).sum())

    assert spread(0.0) + 0.05 < min(spread(-0.1), spread(0.1), spread(-0.3), spread(0.3))


def test_cuboids_hold_the_points_of_their_class(sample):
    xyz = sample.ego_from_lidar.apply(sample.lidar.xyz)
    boxes = sample.boxes
    offset = xyz[None] - boxes.center[:, None]
    cos, sin = boxes.yaw_rad.cos()[:, None], boxes.yaw_rad.sin()[:, None]
    along, across = offset[..., 0] * cos + offset[..., 1] * sin, offset[..., 1] * cos - offset[..., 0] * sin
    half = boxes.size_m[:, None] / 2
    inside = (along.abs() <= half[..., 0]) & (across.abs() <= half[..., 1]) & (offset[..., 2].abs() <= half[..., 2])
    car = PANDASET9.index_of("car")
    is_car = sample.point_labels.label == car
    assert inside[boxes.label == car].any(0)[is_car].float().mean() > 0.95
    assert boxes.track.unique().numel() == len(boxes.track)


def test_tracks_and_velocities(root):
    first, second = PandasetDataset(root, boxes=True, cameras=[], keyframes=[40, 45])
    tracks = {int(track): i for i, track in enumerate(first.boxes.track)}
    shared = [(tracks[int(track)], i) for i, track in enumerate(second.boxes.track) if int(track) in tracks]
    assert len(shared) > 80
    a, b = (torch.tensor(column) for column in zip(*shared, strict=True))
    before = first.global_from_ego.apply(first.boxes.center[a].double())
    after = second.global_from_ego.apply(second.boxes.center[b].double())
    dt_s = (second.timestamp_ns - first.timestamp_ns) * 1e-9
    speed = (after - before).norm(dim=1) / dt_s
    fast = speed > 3.0
    assert fast.sum() > 5
    told = (first.boxes.velocity[a].norm(dim=1) + second.boxes.velocity[b].norm(dim=1)) / 2
    assert (told[fast] - speed[fast]).abs().median() < 0.5
    # fast things go where they point, forwards
    heading = torch.stack([second.boxes.yaw_rad.cos(), second.boxes.yaw_rad.sin()], dim=1)[b]
    direction = torch.nn.functional.normalize(second.boxes.velocity[b], dim=1)
    assert (heading * direction).sum(1)[fast].median() > 0.95


def test_options(root, sample):
    plain = PandasetDataset(root, keyframes=[55], cameras=["back_camera"])[0]
    assert plain.point_labels is None
    assert plain.boxes is None
    assert [view.name for view in plain.views] == ["back_camera"]
    both = PandasetDataset(root, keyframes=[55], cameras=[], sensor="both", labels="semseg")
    assert both[0].lidar.num_points == 171181 > sample.lidar.num_points
    assert both.raw_labels(0).shape == (171181,)
    with pytest.raises(DataError, match=r"keyframes of drive 002 must be on disk; got \[3\], found \[0, 5,"):
        PandasetDataset(root, keyframes=[3])
    with pytest.raises(DataError, match="split of pandaset must name drives, some of 002; got train"):
        PandasetDataset(root, "train")
    with pytest.raises(ConfigError, match="sensor of pandaset must be 'pandar64' or 'both'; got 'gt'"):
        PandasetDataset(root, sensor="gt")
    with pytest.raises(ConfigError, match=r"cameras must be some of front_camera, .*; got CAM_FRONT"):
        PandasetDataset(root, cameras=["CAM_FRONT"])


@pytest.fixture
def copy(root, tmp_path):
    """Frame 00 of the drive, to break."""
    target = tmp_path / "002"
    for path in (root / "002").rglob("*"):
        if path.is_file() and (path.suffix == ".json" or path.name.startswith("00.")):
            place = target / path.relative_to(root / "002")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    return target


def test_broken_drives_are_one_clear_line(copy, tmp_path):
    def error() -> str:
        with pytest.raises(DataError) as caught:
            PandasetDataset(tmp_path, labels="semseg", boxes=True)[0]
        return str(caught.value)

    PandasetDataset(tmp_path, labels="semseg", boxes=True)[0]
    image = copy / "camera/left_camera/00.jpg"
    image.write_bytes(image.read_bytes()[:50_000])
    assert "image of left_camera of sample 002-00 must be readable; got: image file is truncated" in error()
    (copy / "annotations/semseg/00.pkl.gz").unlink()
    assert "file of semseg of sample 002-00 must exist; got none" in error()
    (copy / "lidar/poses.json").write_text("[]")
    assert "lidar/poses.json of drive 002 must cover frame 0; got less" in error()
    (copy / "lidar/poses.json").write_text('[{"heading": 3}]')
    assert "lidar/poses.json of drive 002 must follow PandaSet's layout; got: " in error()
    (copy / "lidar/poses.json").unlink()
    assert "lidar/poses.json of drive 002 must exist; got none" in error()
    shutil.rmtree(copy / "lidar")
    assert "root of pandaset must hold drives such as 002/lidar; got none" in error()
