"""A synthetic drive tells one story: pictures, sweeps, boxes and voxels agree with each other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lexivox.data.synthetic.capture import Pictures, Scene, Sweep
from lexivox.data.synthetic.concepts import CLASS_FROM_RAW, CONCEPT_NAMES, FREE_LABEL, Concept
from lexivox.data.synthetic.drive import KEYFRAME_S, SyntheticDrive
from lexivox.data.synthetic.sensors import CAMERA_NAMES
from lexivox.data.synthetic.shading import edges_of
from lexivox.data.types import Sample
from lexivox.errors import ConfigError
from lexivox.geometry.camera import is_visible, pixels_from_cam
from lexivox.geometry.grid import OCC3D, POP3D, VoxelGrid

INDEX = 3


@pytest.fixture(scope="module")
def drive() -> SyntheticDrive:
    return SyntheticDrive(seed=5, num_keyframes=8, num_azimuths=360)


@pytest.fixture(scope="module")
def scene(drive: SyntheticDrive) -> Scene:
    return drive.scene(INDEX)


@pytest.fixture(scope="module")
def pictures(drive: SyntheticDrive, scene: Scene) -> Pictures:
    return drive.pictures(INDEX, scene)


@pytest.fixture(scope="module")
def sweep(drive: SyntheticDrive, scene: Scene) -> Sweep:
    return drive.sweep(INDEX, scene)


@pytest.fixture(scope="module")
def sample(drive: SyntheticDrive) -> Sample:
    return drive[INDEX]


def test_a_sample_is_complete(sample: Sample) -> None:
    assert tuple(view.name for view in sample.views) == CAMERA_NAMES
    assert all(view.image_hw == (160, 288) for view in sample.views)
    assert sample.lidar.num_points > 5000
    assert sample.point_labels is not None
    assert sample.point_labels.label.shape == (sample.lidar.num_points,)
    assert sample.point_labels.label.max() <= 16
    assert sample.boxes is not None
    assert len(sample.boxes.label) > 10
    assert sample.voxel_labels is None
    assert len(sample.token) == 32


def test_the_same_seed_gives_the_same_sample(sample: Sample) -> None:
    again = SyntheticDrive(seed=5, num_keyframes=8, num_azimuths=360)[INDEX]
    assert torch.equal(again.lidar.xyz, sample.lidar.xyz)
    assert torch.equal(again.lidar.intensity, sample.lidar.intensity)
    for a, b in zip(again.views, sample.views, strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.image_from_cam, b.image_from_cam)
    assert again.token == sample.token


def test_another_seed_gives_another_street(sample: Sample) -> None:
    other = SyntheticDrive(seed=6, num_keyframes=8, num_azimuths=360)[INDEX]
    difference = (other.views[0].image.float() - sample.views[0].image.float()).abs().mean()
    assert difference > 10
    assert other.token != sample.token


def _pixel_of_points(sample: Sample, view: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    camera = sample.views[view]
    cam_from_lidar = camera.ego_from_cam.inverse() @ sample.ego_from_lidar
    uv, depth_m = pixels_from_cam(cam_from_lidar.apply(sample.lidar.xyz), camera.image_from_cam)
    seen = torch.nonzero(is_visible(uv, depth_m, camera.image_hw, 1.0)).squeeze(1)
    return seen, uv[seen].long(), depth_m[seen]


def test_points_carry_the_label_of_their_pixel(sample: Sample, sweep: Sweep, pictures: Pictures) -> None:
    """Away from outlines, and where camera and LiDAR see the same surface (they sit at different places)."""
    agree, total = 0, 0
    row_edge = edges_of(pictures.row) | edges_of(pictures.concept)
    for view in range(6):
        point, pixel, depth_m = _pixel_of_points(sample, view)
        v, u = pixel[:, 1].numpy(), pixel[:, 0].numpy()
        same_depth = np.abs(pictures.depth_m[view, v, u] - depth_m.numpy()) < 0.05 * depth_m.numpy() + 0.1
        use = same_depth & ~row_edge[view, v, u]
        agree += (pictures.concept[view, v, u] == sweep.concept[point.numpy()])[use].sum()
        total += use.sum()
        assert same_depth.mean() > 0.8
    assert total > 1500
    assert agree / total >= 0.97


@pytest.mark.parametrize("grid", [OCC3D, POP3D], ids=["occ3d", "pop3d"])
def test_points_lie_in_occupied_voxels(drive: SyntheticDrive, sample: Sample, grid: VoxelGrid) -> None:
    truth = drive.voxel_labels(INDEX, grid)
    xyz = sample.lidar.xyz if grid.frame == "lidar" else sample.ego_from_lidar.apply(sample.lidar.xyz)
    index = grid.index_from_xyz(xyz[grid.contains(xyz)])
    occupied = (truth.label != FREE_LABEL).float()[None]
    dilated = torch.nn.functional.max_pool3d(occupied, 3, stride=1, padding=1)[0]
    exact = occupied[0][tuple(index.T)]
    assert exact.mean() >= 0.97
    assert dilated[tuple(index.T)].mean() >= 0.98


def test_the_road_is_one_layer_of_voxels(drive: SyntheticDrive) -> None:
    """Above the road ahead of the car: one driveable voxel, then free space."""
    truth = drive.voxel_labels(INDEX, OCC3D)
    x, y, ground = OCC3D.index_from_xyz(torch.tensor([[5.0, 0.0, -0.01]]))[0].tolist()
    column = truth.label[x, y]
    assert column[ground] == CLASS_FROM_RAW[24]
    assert (column == FREE_LABEL).sum() == len(column) - 1


def test_thin_poles_and_house_interiors_are_occupied(drive: SyntheticDrive, scene: Scene) -> None:
    truth = drive.voxel_labels(INDEX, OCC3D)
    ego_from_world = drive.world_from_ego(INDEX).inverse()
    for concept in (Concept.POLE, Concept.WALL):
        centers = torch.from_numpy(scene.shapes.center[scene.shapes.concept == concept])
        xyz = ego_from_world.apply(centers)
        xyz = xyz[OCC3D.contains(xyz)]
        assert len(xyz) > 3
        assert (truth.label[tuple(OCC3D.index_from_xyz(xyz).T)] != FREE_LABEL).all()


def test_boxes_contain_their_points(drive: SyntheticDrive, sample: Sample, sweep: Sweep) -> None:
    boxes, xyz = sample.boxes, sample.ego_from_lidar.apply(sample.lidar.xyz)
    assert boxes is not None
    for center, size, yaw, track in zip(boxes.center, boxes.size_m, boxes.yaw_rad, boxes.track, strict=True):
        own = xyz[torch.from_numpy(sweep.track == int(track))] - center
        c, s = torch.cos(yaw), torch.sin(yaw)
        local = torch.stack([c * own[:, 0] + s * own[:, 1], c * own[:, 1] - s * own[:, 0], own[:, 2]], dim=1)
        assert len(local) > 0
        assert (local.abs() <= size / 2 + 0.1).all()  # five deviations of the range noise


def test_velocity_is_the_motion_of_the_box(drive: SyntheticDrive) -> None:
    now, later = (drive.boxes(i, drive.sweep(i)) for i in (INDEX, INDEX + 1))
    step = drive.global_from_ego(INDEX).inverse() @ drive.global_from_ego(INDEX + 1)
    moved = step.apply(later.center)
    places = dict(zip(later.track.tolist(), moved, strict=True))
    pairs = [(i, places[t]) for i, t in enumerate(now.track.tolist()) if t in places]
    assert sum(float(now.velocity[i].norm()) > 1 for i, _ in pairs) >= 2
    for i, there in pairs:
        expected = now.center[i, :2] + KEYFRAME_S * now.velocity[i]
        torch.testing.assert_close(there[:2], expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("grid", [OCC3D, POP3D], ids=["occ3d", "pop3d"])
def test_flow_in_a_moving_box_is_its_velocity(drive: SyntheticDrive, sample: Sample, grid: VoxelGrid) -> None:
    boxes, truth = sample.boxes, drive.voxel_labels(INDEX, grid)
    assert boxes is not None
    grid_from_ego = sample.ego_from_lidar.inverse() if grid.frame == "lidar" else None
    checked = 0
    for center, velocity, label in zip(boxes.center, boxes.velocity, boxes.label, strict=True):
        xyz = center[None] if grid_from_ego is None else grid_from_ego.apply(center[None])
        if label not in (3, 4, 10) or not bool(grid.contains(xyz).all()):  # bus, car, truck: solid in the middle
            continue
        turned = torch.cat([velocity, torch.zeros(1)])
        if grid_from_ego is not None:
            turned = grid_from_ego.rotation.float() @ turned
        x, y, z = grid.index_from_xyz(xyz)[0].tolist()
        assert truth.label[x, y, z] == label
        torch.testing.assert_close(truth.flow[x, y, z], turned[:2], atol=1e-4, rtol=0)
        checked += 1
    assert checked >= 3
    assert (truth.flow[truth.label == 15] == 0).all()


def test_static_points_stay_where_they_are_in_the_world(drive: SyntheticDrive) -> None:
    """Walls of one keyframe, taken through the global frame, meet the surfaces that another sees."""
    scan, later = drive.sweep(1), drive[INDEX + 1]
    xyz = torch.from_numpy(scan.xyz[scan.concept == Concept.WALL])
    to_later = later.global_from_ego.inverse() @ drive.global_from_ego(1) @ drive.ego_from_lidar
    depth_seen = drive.pictures(INDEX + 1).depth_m
    errors = []
    for v, view in enumerate(later.views):
        uv, depth_m = pixels_from_cam((view.ego_from_cam.inverse() @ to_later).apply(xyz), view.image_from_cam)
        seen = is_visible(uv, depth_m, view.image_hw, 1.0)
        row, column = uv[seen, 1].long().numpy(), uv[seen, 0].long().numpy()
        errors.append(np.abs(depth_seen[v, row, column] - depth_m[seen].numpy()) / depth_m[seen].numpy())
    assert np.median(np.concatenate(errors)) < 0.01


def test_projection_of_the_voxel_free_line_of_sight(drive: SyntheticDrive, sample: Sample) -> None:
    """Between the sensor and 80 % of the way to a return there is mostly free space."""
    truth = drive.voxel_labels(INDEX, OCC3D)
    half_way = sample.ego_from_lidar.apply(0.8 * sample.lidar.xyz[sample.lidar.xyz.norm(dim=1) > 8])
    index = OCC3D.index_from_xyz(half_way[OCC3D.contains(half_way)])
    assert (truth.label[tuple(index.T)] == FREE_LABEL).float().mean() > 0.95


def test_fine_concepts_cover_the_vocabulary() -> None:
    seen: set[int] = set()
    for seed in range(4):
        drive = SyntheticDrive(seed, num_keyframes=2, image_hw=(80, 144), num_azimuths=90)
        seen |= set(torch.unique(drive.pixel_labels(1)).tolist())
    missing = {CONCEPT_NAMES[i] for i in range(1, len(CONCEPT_NAMES))} - {CONCEPT_NAMES[i] for i in seen}
    assert missing <= {"traffic cone", "barrier", "motorcycle", "bus"}


def test_samples_carry_voxels_when_a_grid_is_given(drive: SyntheticDrive) -> None:
    small = dataclasses.replace(OCC3D, lower_m=(-8.0, -8.0, -1.0), shape=(40, 40, 16))
    made = SyntheticDrive(5, 2, (32, 56), 60, grid=small)[0]
    assert made.voxel_labels is not None
    assert made.voxel_labels.label.shape == (40, 40, 16)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be above 0; got 0"):
        SyntheticDrive(1, num_keyframes=0)
