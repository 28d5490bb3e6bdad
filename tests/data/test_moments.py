"""Clips: neighbouring keyframes come into the grid's frame of the current one, and augmentation changes one world."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import make_sample

from lexivox.data.collate import collate, grid_from_ego
from lexivox.data.transforms import Augment, mirror, resize_images
from lexivox.data.types import IGNORED, Boxes, Clip, LidarSweep, PointFeatures, PointLabels, Sample, VoxelLabels
from lexivox.geometry.camera import pixels_from_cam
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

EGO = VoxelGrid((-8.0, -8.0, -2.0), (1.0, 1.0, 1.0), (16, 16, 4), "ego")
LIDAR = replace(EGO, frame="lidar")
GRIDS = pytest.mark.parametrize("grid", [EGO, LIDAR], ids=["ego", "lidar"])
AUGMENTS = {
    "none": Augment(mirror_prob=0.0, color=0.0),
    "mirror": Augment(mirror_prob=1.0, color=0.0),
    "reverse": Augment(mirror_prob=0.0, reverse_prob=1.0, color=0.0),
    "turn": Augment(mirror_prob=0.0, turn_rad=0.6, color=0.0),
    "both": Augment(mirror_prob=1.0, turn_rad=0.6, color=0.3),
}
WORLD = torch.tensor([[108.0, -13.0, 1.0], [96.0, -25.0, 0.6], [104.0, -22.0, 2.5]], dtype=torch.float64)
"""Three things that stand still, in the global frame."""


def pose(offset: int) -> RigidTransform:
    """Where the car is: it drives, climbs and turns, 1.5 m and 0.1 rad from keyframe to keyframe."""
    return RigidTransform.from_yaw(0.7 + 0.1 * offset, (100.0 + 1.5 * offset, -20.0 + 0.4 * offset, 0.5 + 0.1 * offset))


def keyframe(offset: int, seed: int = 0) -> Sample:
    """A keyframe whose sweep and boxes are the things that stand still; its feature and label say which is which."""
    sample, global_from_ego = make_sample(seed + 10 * offset), pose(offset)
    xyz = (global_from_ego @ sample.ego_from_lidar).inverse().apply(WORLD).float()
    rows, numbers = torch.arange(3), torch.zeros(3, dtype=torch.int64)
    return replace(
        sample,
        token=f"{seed}/{offset}",
        timestamp_ns=10_000_000_000 + 500_000_000 * offset,
        global_from_ego=global_from_ego,
        lidar=LidarSweep(xyz, rows.float(), numbers, numbers),
        point_labels=PointLabels(rows + 1, numbers),
        point_features=PointFeatures(rows, torch.eye(3), torch.ones(3)),
        boxes=Boxes(
            global_from_ego.inverse().apply(WORLD).float(), torch.ones(3, 3),
            torch.full((3,), 0.3) - (0.7 + 0.1 * offset), torch.zeros(3, 2), rows + 1, rows,
        ),
    )  # fmt: skip


def clip(offsets: tuple[int, ...] = (-2, -1, 1), seed: int = 0) -> Clip:
    return Clip(keyframe(0, seed), offsets, tuple(keyframe(offset, seed) for offset in offsets))


@GRIDS
@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
def test_what_stands_still_is_seen_at_one_place_from_every_moment(grid, augment):
    batch = collate([augment(clip(), torch.Generator().manual_seed(1))], grid)
    assert [moment.offset for moment in batch.around] == [-2, -1, 1]
    for moment in batch.around:
        torch.testing.assert_close(moment.lidar.xyz, batch.lidar.xyz, atol=1e-4, rtol=0)
        torch.testing.assert_close(moment.language.xyz, batch.lidar.xyz, atol=1e-4, rtol=0)
        torch.testing.assert_close(moment.boxes[0].center, batch.lidar.xyz, atol=1e-4, rtol=0)
        torch.testing.assert_close(moment.boxes[0].yaw_rad, batch.boxes[0].yaw_rad, atol=1e-5, rtol=0)
        assert torch.equal(moment.point_label, batch.targets.point_label)


@GRIDS
@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
def test_a_moment_knows_where_its_cameras_sat_on_the_car(grid, augment):
    changed = augment(clip(), torch.Generator().manual_seed(1))
    for moment, sample in zip(collate([changed], grid).around, changed.others, strict=True):
        own = collate([sample], grid).cameras.cam_from_grid
        back = moment.cameras.cam_from_grid @ moment.grid_from_own[:, None]
        torch.testing.assert_close(back.matrix(), own.matrix(), atol=1e-6, rtol=0)


@GRIDS
@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
def test_points_project_to_the_same_pixels_as_in_their_own_sample(grid, augment):
    """The chain through the grid and the ego motion must equal the short one from LiDAR to camera."""
    changed = augment(clip(), torch.Generator().manual_seed(1))
    batch = collate([changed], grid)
    for moment, sample in zip(batch.around, changed.others, strict=True):
        for view, known in enumerate(sample.views):
            direct = (known.ego_from_cam.inverse() @ sample.ego_from_lidar).apply(sample.lidar.xyz.double())
            through_grid = moment.cameras.cam_from_grid[0, view].apply(moment.lidar.xyz.double())
            torch.testing.assert_close(through_grid, direct, atol=1e-3, rtol=0)
            uv, depth_m = pixels_from_cam(direct, known.image_from_cam)
            own, _ = pixels_from_cam(through_grid, moment.cameras.image_from_cam[0, view])
            ahead = depth_m > 1.0
            torch.testing.assert_close(own[ahead], uv[ahead], atol=0.1, rtol=0)


@GRIDS
def test_rays_of_a_moment_start_where_its_sensor_was(grid):
    batch = collate([clip((2,))], grid)
    sensor = (pose(2) @ keyframe(2).ego_from_lidar).translation
    in_ego = pose(0).inverse().apply(sensor[None])
    expected = grid_from_ego(keyframe(0), grid).apply(in_ego)
    torch.testing.assert_close(batch.around[0].lidar_origin, expected.float())
    torch.testing.assert_close(batch.around[0].time_s, torch.tensor([1.0]))


def test_a_mirrored_box_faces_the_mirrored_way():
    """Mirrored in the ego frame of now: y and yaw change sign, whatever keyframe the box is of."""
    plain = collate([clip((1,))], EGO).around[0].boxes[0]
    flipped = collate([AUGMENTS["mirror"](clip((1,)), torch.Generator())], EGO).around[0].boxes[0]
    torch.testing.assert_close(flipped.center, plain.center * torch.tensor([1.0, -1.0, 1.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(flipped.yaw_rad, -plain.yaw_rad, atol=1e-5, rtol=0)


def test_a_plain_sample_is_a_clip_of_one():
    alone, as_clip = collate([keyframe(0)], EGO), collate([Clip(keyframe(0))], EGO)
    assert as_clip.around == ()
    assert torch.equal(alone.lidar.xyz, as_clip.lidar.xyz)
    assert torch.equal(alone.cameras.cam_from_grid.rotation, as_clip.cameras.cam_from_grid.rotation)
    augment = Augment(turn_rad=0.4, drop_view_prob=1.0, distort=True)
    one = augment(keyframe(0), torch.Generator().manual_seed(4))
    other = augment(Clip(keyframe(0)), torch.Generator().manual_seed(4)).current
    assert all(torch.equal(a.image, b.image) for a, b in zip(one.views, other.views, strict=True))


def test_the_current_keyframe_is_augmented_alike_with_and_without_neighbours():
    augment = Augment(turn_rad=0.4, drop_view_prob=1.0, distort=True)
    alone = augment(keyframe(0), torch.Generator().manual_seed(4))
    among = augment(clip(), torch.Generator().manual_seed(4))
    assert all(torch.equal(a.image, b.image) for a, b in zip(alone.views, among.current.views, strict=True))
    assert torch.equal(alone.lidar.xyz, among.current.lidar.xyz)


def test_one_camera_is_lost_in_a_whole_clip_and_colours_differ():
    augment = Augment(mirror_prob=0.0, drop_view_prob=1.0, color=0.3)
    same = replace(keyframe(0), token="copy")
    changed = augment(Clip(keyframe(0), (1,), (same,)), torch.Generator().manual_seed(0))
    samples = (changed.current, *changed.others)
    dark = [[len(view.image.flatten(1).unique(dim=1)[0]) == 1 for view in sample.views] for sample in samples]
    assert dark[0] == dark[1]
    assert sum(dark[0]) == 1
    kept = dark[0].index(False)
    assert not torch.equal(changed.current.views[kept].image, changed.others[0].views[kept].image)


def test_at_the_border_of_a_drive_a_sample_is_absent_not_repeated():
    first = clip((1,), seed=3)
    batch = collate([first, clip((-1, 1))], EGO)
    before, after = batch.around
    assert before.is_present.tolist() == [False, True]
    assert after.is_present.tolist() == [True, True]
    assert before.lidar.batch.tolist() == [1, 1, 1]
    assert before.language.batch.tolist() == [1, 1, 1]
    assert before.point_label.tolist() == [1, 2, 3]
    assert [len(boxes.track) for boxes in before.boxes] == [0, 3]
    assert before.time_s.tolist() == [0.0, -0.5]
    assert torch.equal(before.cameras.cam_from_grid.rotation[0], batch.cameras.cam_from_grid.rotation[0])
    assert torch.equal(before.cameras.images[0], batch.cameras.images[0])
    assert torch.equal(before.lidar_origin[0], batch.lidar_origin[0])


def without_pixels(sample: Sample) -> Sample:
    return replace(sample, views=tuple(replace(v, image=v.image[:0]) for v in sample.views))


@pytest.mark.parametrize("augment", [*AUGMENTS.values(), Augment(distort=True, drop_view_prob=1.0)])
def test_neighbours_without_pixels_keep_size_and_calibration(augment):
    plain = clip()
    blank = replace(plain, others=tuple(without_pixels(other) for other in plain.others))
    sized = resize_images(blank, (16, 24))
    batch = collate([augment(sized, torch.Generator().manual_seed(2)), Clip(sized.current)], EGO)
    full = collate([augment(resize_images(plain, (16, 24)), torch.Generator().manual_seed(2)), sized.current], EGO)
    for moment, expected in zip(batch.around, full.around, strict=True):
        assert not moment.cameras.has_images
        assert moment.cameras.images.shape == (2, 3, 0, 16, 24)
        torch.testing.assert_close(moment.cameras.image_from_cam[0], expected.cameras.image_from_cam[0])
        assert torch.equal(moment.cameras.cam_from_grid.translation, expected.cameras.cam_from_grid.translation)
    assert batch.cameras.has_images


def test_samples_without_labels_or_features_are_unknown_at_a_moment():
    """Thinned-out keyframes have no labels; at a moment they count as ignored beside those that have some."""
    poor = replace(keyframe(1, 5), point_labels=None, point_features=None, boxes=None)
    batch = collate([clip((1,)), Clip(keyframe(0, 5), (1,), (poor,))], EGO)
    (moment,) = batch.around
    assert moment.point_label.tolist() == [1, 2, 3, 0, 0, 0]
    assert moment.language.batch.tolist() == [0, 0, 0]
    assert [len(boxes.track) for boxes in moment.boxes] == [3, 0]
    bare = collate([Clip(keyframe(0, 5), (1,), (poor,))], EGO).around[0]
    assert bare.point_label is None
    assert bare.language is None
    assert bare.boxes is None


def test_now_is_one_moment_among_the_others():
    batch = collate([clip((1,))], EGO)
    assert batch.now.offset == 0
    assert batch.now.is_present.tolist() == [True]
    assert batch.now.lidar is batch.lidar
    assert batch.at(0).cameras is batch.cameras
    assert batch.at(1) is batch.around[0]
    assert batch.at(-3) is None


def test_a_batch_moves_with_its_moments():
    moved = collate([clip()], EGO).to("meta")
    moment = moved.around[0]
    assert moment.lidar.xyz.is_meta
    assert moment.boxes[0].center.is_meta
    assert moment.cameras.cam_from_grid.rotation.is_meta


# ------------------------------------------------------------------------------------------------ voxel labels


def labelled(seed: int = 0, grid: VoxelGrid = EGO) -> Sample:
    label = torch.randint(0, 18, grid.shape, generator=torch.Generator().manual_seed(seed))
    flow = torch.rand(*grid.shape, 2)
    seen = label > 4
    return replace(keyframe(0, seed), voxel_labels=VoxelLabels(grid, label, flow, 17, seen, ~seen))


@GRIDS
@pytest.mark.parametrize("sides", ["left-right", "front-back"])
def test_voxel_labels_are_mirrored_with_the_world(grid, sides):
    """The label at the mirrored centre is the one that was at the centre."""
    sample = labelled(grid=grid)
    flipped = mirror(sample, sides).voxel_labels
    axis = int((grid.frame == "ego") == (sides == "left-right"))  # x of the LiDAR points right
    signs = torch.ones(3)
    signs[axis] = -1.0
    index = grid.index_from_xyz(grid.centers().reshape(-1, 3) * signs)
    x, y, z = index.unbind(-1)
    before = sample.voxel_labels
    assert torch.equal(flipped.label[x, y, z], before.label.reshape(-1))
    assert torch.equal(flipped.seen_by_lidar[x, y, z], before.seen_by_lidar.reshape(-1))
    assert torch.equal(flipped.seen_by_camera[x, y, z], before.seen_by_camera.reshape(-1))
    torch.testing.assert_close(flipped.flow[x, y, z], before.flow.reshape(-1, 2) * signs[:2])


def test_voxel_labels_of_a_lopsided_grid_are_dropped():
    lopsided = replace(EGO, lower_m=(-8.0, -6.0, -2.0))
    assert mirror(labelled(grid=lopsided)).voxel_labels is None


def test_samples_without_voxel_labels_are_ignored_beside_others():
    batch = collate([labelled(), keyframe(0, 1)], EGO)
    assert batch.voxel_labels[0].free_label == 17
    assert bool((batch.voxel_labels[1].label == IGNORED).all())
    assert not batch.voxel_labels[1].seen_by_lidar.any()
    assert collate([keyframe(0)], EGO).voxel_labels is None
