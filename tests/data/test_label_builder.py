"""Labels from a window of sweeps: the world by its poses, things by their boxes, and who could see it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
import torch

from lexivox.data.classes import CITYSCAPES19, NUSCENES16
from lexivox.data.datasets import open_dataset
from lexivox.data.label_builder import OCCUPANCY, LabelPolicy, build_labels
from lexivox.data.types import Boxes, CameraView, LidarSweep, PointLabels, Sample
from lexivox.errors import ConfigError, DataError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

GRID = VoxelGrid((-10.0, -10.0, -2.0), (1.0, 1.0, 1.0), (20, 20, 4), "ego")
CAR, ROAD, WALL = (NUSCENES16.index_of(name) for name in ("car", "driveable_surface", "manmade"))
SENSOR_M = (0.0, 0.0, 0.5)


@dataclass(frozen=True)
class Drive:
    """Keyframes in memory."""

    samples: tuple[Sample, ...]
    classes: object = NUSCENES16
    name: str = "made up"

    @property
    def tokens(self):
        return [s.token for s in self.samples]

    @property
    def drives(self):
        return [s.drive for s in self.samples]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]

    def __iter__(self):
        return iter(self.samples)


def keyframe(number, points, car_at=None, *, labelled=True, drive="a"):
    """``points``: (x, y, z, class) in the ego frame of this keyframe; the car drives 2 m per keyframe along x."""
    xyz = torch.tensor([p[:3] for p in points]).reshape(-1, 3) - torch.tensor(SENSOR_M)
    label = torch.tensor([p[3] for p in points], dtype=torch.int64)
    zeros = torch.zeros(len(xyz), dtype=torch.int64)
    boxes = None
    if car_at is not None:
        one = torch.zeros(1)
        boxes = Boxes(
            torch.tensor([car_at]), torch.tensor([[4.0, 2.0, 2.0]]), one, torch.zeros(1, 2), torch.tensor([CAR]),
            torch.tensor([7]),
        )  # fmt: skip
    return Sample(
        token=f"{drive}{number}",
        drive=drive,
        timestamp_ns=number,
        views=(camera(),),
        lidar=LidarSweep(xyz, torch.zeros(len(xyz)), zeros, zeros),
        ego_from_lidar=RigidTransform(torch.eye(3).double(), torch.tensor(SENSOR_M).double()),
        global_from_ego=RigidTransform(torch.eye(3).double(), torch.tensor([2.0 * number, 0.0, 0.0]).double()),
        point_labels=PointLabels(label, zeros) if labelled else None,
        boxes=boxes,
    )


def camera():
    """Looks forward along x from the sensor, a right angle wide."""
    axes = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64)
    intrinsics = torch.tensor([[16.0, 0.0, 16.0], [0.0, 16.0, 16.0], [0.0, 0.0, 1.0]])
    pose = RigidTransform(axes, torch.tensor(SENSOR_M).double())
    return CameraView("CAM_FRONT", torch.zeros(3, 32, 32, dtype=torch.uint8), intrinsics, pose, 0)


def voxel(labels, x, y, z):
    return int(labels.label[tuple(GRID.index_from_xyz(torch.tensor([x, y, z])).tolist())])


def test_the_world_stays_where_it_is():
    # A wall at global x = 6.5: 6.5 m ahead in keyframe 0, 4.5 m ahead in keyframe 1, which alone sees it.
    drive = Drive((keyframe(0, [(3.5, 3.5, -1.5, ROAD)]), keyframe(1, [(4.5, 0.5, 0.5, WALL)])))
    labels = build_labels(drive, 0, GRID).labels
    assert voxel(labels, 6.5, 0.5, 0.5) == WALL
    assert voxel(labels, 3.5, 3.5, -1.5) == ROAD
    assert voxel(labels, 4.5, 0.2, 0.5) == NUSCENES16.free  # the ray of keyframe 1 passed here
    assert voxel(labels, 9.5, 0.5, 0.5) == NUSCENES16.ignore  # nobody looked behind the wall
    alone = build_labels(drive, 0, GRID, LabelPolicy(before=0, after=0)).labels
    assert voxel(alone, 6.5, 0.5, 0.5) == NUSCENES16.ignore


def test_things_move_with_their_boxes():
    # The car stands at ego (4, 0) in keyframe 0; in keyframe 1 it is seen at ego (6, 4), its rear at 4.5.
    drive = Drive(
        (keyframe(0, [(0.5, 8.5, 0.5, WALL)], (4.0, 0.0, 0.0)), keyframe(1, [(4.5, 4.5, 0.5, CAR)], (6.0, 4.0, 0.0)))
    )
    labels = build_labels(drive, 0, GRID).labels
    assert voxel(labels, 2.5, 0.5, 0.5) == CAR  # 1.5 m behind the centre, as it was seen
    assert voxel(labels, 6.5, 4.5, 0.5) != CAR  # not where it went


def test_a_moving_box_leaves_no_trail():
    """A car drives 3 m a keyframe, seen at its rear and its side each time: in every keyframe it is in its box only."""
    frames = []
    for number in range(4):
        x = -6.0 + 3.0 * number - 2.0 * number  # in the ego frame, which itself moves on by 2 m
        seen = [(x - 1.9, 0.3, 0.5, CAR), (x + 0.5, -0.9, 0.5, CAR), (x + 1.8, 0.9, 1.5, CAR)]
        frames.append(keyframe(number, [*seen, (8.5 - 2.0 * number, 6.5, -1.5, ROAD)], (x, 0.0, 0.5)))
    drive = Drive(tuple(frames))
    for number in range(4):
        labels = build_labels(drive, number, GRID, LabelPolicy(box_margin_m=0.0)).labels
        places = GRID.xyz_from_index((labels.label == CAR).nonzero())
        assert len(places) == 3  # the same three places of the car, as if it had stood still
        away = (places[:, 0] - (-6.0 + number)).abs()
        assert float(away.max()) <= 2.0 + 0.5  # half a car and half a voxel
        assert float(places[:, 1].abs().max()) <= 1.0 + 0.5
        assert voxel(labels, 8.5 - 2.0 * number, 6.5, -1.5) == ROAD


def test_rays_of_other_times_do_not_empty_a_thing():
    # In keyframe 0 a car stands in the way, seen at its rear (2.5); in keyframe 1 it is gone and a wall is seen there.
    first = keyframe(0, [(2.5, 0.5, 0.5, CAR)], (4.0, 0.0, 0.5))
    second = keyframe(1, [(6.5, 0.5, 0.5, WALL)], (-5.0, 7.0, 0.5))
    labels = build_labels(Drive((first, second)), 0, GRID).labels
    assert voxel(labels, 2.5, 0.5, 0.5) == CAR
    assert voxel(labels, 8.5, 0.5, 0.5) == WALL
    assert voxel(labels, 7.5, 0.4, 0.5) == NUSCENES16.free
    assert voxel(labels, 4.5, 0.3, 0.5) == NUSCENES16.ignore  # inside the car, whatever passed here later
    later = build_labels(Drive((first, second)), 1, GRID).labels
    assert voxel(later, 2.5, 0.3, 0.5) == NUSCENES16.free  # the same place once it is gone


def test_masks_are_those_of_the_definition():
    """LiDAR: every voxel that a ray passes or ends in. Camera: of these, what a pixel's ray meets up to a wall."""
    wall = [(5.5, y / 2, z / 2, WALL) for y in range(-6, 7) for z in range(-3, 4)]
    sample = keyframe(0, [*wall, (3.5, 3.5, -1.5, ROAD)])
    labels = build_labels(Drive((sample,)), 0, GRID, LabelPolicy(pixel_stride=1)).labels
    lidar, camera = torch.zeros(GRID.shape, dtype=torch.bool), torch.zeros(GRID.shape, dtype=torch.bool)
    start = torch.tensor(SENSOR_M).double()
    steps = torch.arange(4001)[:, None].double()
    for point in sample.lidar.xyz.double() + start:
        places = GRID.index_from_xyz(start + (point - start) * steps / 4000.0)
        lidar[tuple(places.T)] = True
    assert not bool((lidar & ~labels.seen_by_lidar).any())  # steps may jump over corners
    assert int((labels.seen_by_lidar & ~lidar).sum()) <= 2
    solid = labels.seen_by_lidar & (labels.label != NUSCENES16.free)
    for row in range(32):
        for column in range(32):
            ahead = torch.tensor([1.0, -(column + 0.5 - 16.0) / 16.0, -(row + 0.5 - 16.0) / 16.0]).double()
            places = GRID.index_from_xyz(start + ahead * steps[:2001] / 100.0)
            places = places[GRID.contains_index(places)]
            hits = solid[tuple(places.T)].nonzero()
            camera[tuple(places[: int(hits[0]) + 1 if len(hits) else None].T)] = True
    wanted = camera & labels.seen_by_lidar
    assert int((wanted ^ labels.seen_by_camera).sum()) <= 2


def test_things_without_boxes_are_taken_from_their_own_sweep_only():
    drive = Drive((keyframe(0, [(3.5, 0.5, 0.5, CAR)]), keyframe(1, [(5.5, 5.5, 0.5, CAR)])))
    labels = build_labels(drive, 0, GRID).labels
    assert int((labels.label == CAR).sum()) == 1
    assert voxel(labels, 3.5, 0.5, 0.5) == CAR


def test_boxes_alone_name_things():
    points = [(4.5, 0.5, 0.5, 0), (4.5, 5.5, 0.5, 0)]
    labels = build_labels(Drive((keyframe(0, points, (4.0, 0.0, 0.0), labelled=False),)), 0, GRID).labels
    names = labels.classes.names
    assert names[voxel(labels, 4.5, 0.5, 0.5)] == "car"
    assert names[voxel(labels, 4.5, 5.5, 0.5)] == "background"
    assert names[voxel(labels, 2.5, 2.9, 0.5)] == "free"


def test_nothing_but_sweeps_says_occupied_or_free():
    labels = build_labels(Drive((keyframe(0, [(4.5, 0.5, 0.5, 0)], labelled=False),)), 0, GRID).labels
    assert labels.classes is OCCUPANCY
    assert voxel(labels, 4.5, 0.5, 0.5) == 1
    assert voxel(labels, 2.5, 0.4, 0.5) == 0
    assert voxel(labels, 8.5, 0.5, 0.5) == OCCUPANCY.ignore


def test_noise_makes_nothing_occupied():
    labels = build_labels(Drive((keyframe(0, [(4.5, 0.5, 0.5, NUSCENES16.ignore)]),)), 0, GRID).labels
    assert voxel(labels, 4.5, 0.5, 0.5) == NUSCENES16.ignore
    assert voxel(labels, 2.5, 0.4, 0.5) == NUSCENES16.free


def test_other_drives_lend_nothing():
    drive = Drive((keyframe(0, [(3.5, 3.5, -1.5, ROAD)]), keyframe(1, [(4.5, 0.5, 0.5, WALL)], drive="b")))
    built = build_labels(drive, 0, GRID)
    assert built.manifest["sweeps"] == ["a0"]
    assert int((built.labels.label == WALL).sum()) == 0


def test_few_returns_do_not_make_a_voxel():
    points = [(4.5, 0.5, 0.5, WALL), (4.5, 3.5, 0.5, WALL), (4.6, 3.6, 0.6, WALL)]
    labels = build_labels(Drive((keyframe(0, points),)), 0, GRID, LabelPolicy(min_points=2)).labels
    assert voxel(labels, 4.5, 0.5, 0.5) == NUSCENES16.ignore
    assert voxel(labels, 4.5, 3.5, 0.5) == WALL


def test_closing_fills_pinholes_of_static_classes_only():
    ring = [(5.5, y, z, WALL) for y in (-0.5, 0.5, 1.5) for z in (-1.5, -0.5, 0.5) if (y, z) != (0.5, -0.5)]
    cars = [(-5.5, y, z, CAR) for y in (-0.5, 0.5, 1.5) for z in (-1.5, -0.5, 0.5) if (y, z) != (0.5, -0.5)]
    drive = Drive((keyframe(0, ring + cars),))
    before, after = (build_labels(drive, 0, GRID, LabelPolicy(close=c)).labels for c in (False, True))
    assert voxel(before, 5.5, 0.5, -0.5) == NUSCENES16.ignore
    assert voxel(after, 5.5, 0.5, -0.5) == WALL
    assert voxel(after, -5.5, 0.5, -0.5) == NUSCENES16.ignore
    assert int((after.label == WALL).sum()) == 9


def test_the_camera_sees_neither_behind_walls_nor_behind_itself():
    wall = [(5.5, y / 2, z / 2, WALL) for y in range(-12, 13) for z in range(-3, 4)]
    points = [*wall, (8.5, 0.5, 0.5, WALL), (-5.5, 0.5, 0.5, WALL)]
    labels = build_labels(Drive((keyframe(0, points),)), 0, GRID, LabelPolicy(pixel_stride=1)).labels
    seen = labels.seen_by_camera
    index = [tuple(GRID.index_from_xyz(torch.tensor([x, 0.5, 0.5])).tolist()) for x in (3.5, 5.5, 8.5, -5.5)]
    assert [bool(seen[i]) for i in index] == [True, True, False, False]
    assert not bool((seen & ~labels.seen_by_lidar).any())


def test_the_manifest_says_how():
    built = build_labels(Drive((keyframe(0, [(3.5, 3.5, -1.5, ROAD)]),)), 0, GRID, LabelPolicy(before=2))
    manifest = json.loads(json.dumps(built.manifest))
    assert manifest["keyframe"] == "a0"
    assert manifest["policy"]["before"] == 2
    assert manifest["grid"]["frame"] == "ego"
    assert manifest["unobserved"] == NUSCENES16.ignore
    assert len(manifest["label_sha256"]) == 64


def test_bad_input():
    drive = Drive((keyframe(0, [(3.5, 3.5, -1.5, ROAD)]),))
    with pytest.raises(ConfigError, match="before of a label policy must be at least 0; got -1"):
        build_labels(drive, 0, GRID, LabelPolicy(before=-1))
    with pytest.raises(DataError, match="classes to label space with must include free; got cityscapes19"):
        build_labels(replace(drive, classes=CITYSCAPES19), 0, GRID)


def test_an_empty_cloud_labels_nothing():
    labels = build_labels(Drive((keyframe(0, []),)), 0, GRID).labels
    assert labels.label.unique().tolist() == [NUSCENES16.ignore]


def test_a_real_drive_gets_denser_with_its_neighbours(realdata):
    drive = open_dataset("pandaset", realdata / "pandaset", keyframes=[40, 45, 50], labels="semseg", boxes=True)
    grid = VoxelGrid((-25.6, -25.6, -1.6), (0.8, 0.8, 0.8), (64, 64, 8), "ego")
    alone, window = (build_labels(drive, 1, grid, LabelPolicy(n, n, pixel_stride=16)).labels for n in (0, 1))
    shares = [float(labels.seen_by_lidar.float().mean()) for labels in (alone, window)]
    assert shares[1] > shares[0] + 0.02
    both = alone.seen_by_lidar & window.seen_by_lidar
    occupied = [(labels.label != labels.classes.free) & both for labels in (alone, window)]
    agreement = float((occupied[0] & occupied[1]).sum() / occupied[0].sum())
    assert agreement == 1.0  # what was hit stays occupied
