"""Rays of a batch: what they are, which are chosen, how much each counts, and the official ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from golden_rays import GRID, MIRROR_X, golden_clip, read_case
from helpers import make_sample

from lexivox.data.class_counts import LIDARSEG_RAYS, OCC3D_VOXELS
from lexivox.data.collate import collate
from lexivox.data.types import IGNORED, Boxes, Clip, LidarSweep, PointFeatures, PointLabels, Rays
from lexivox.errors import ConfigError, ShapeError
from lexivox.geometry.camera import image_from_grid, project_packed
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.supervision.ray_balance import (
    by_label,
    capped_rarity,
    draw,
    draw_shared,
    even_over_voxels,
    log_inverse_frequency,
)
from lexivox.supervision.ray_geometry import PUBLISHED_GEOMETRY, RayGeometry, pixel_directions
from lexivox.supervision.rays import MovingFilter, RayChoice

BOX = VoxelGrid((-16.0, -16.0, -4.0), (2.0, 2.0, 2.0), (16, 16, 4), "ego")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clip(seed: int = 0, points: int = 400, moved_m: float = 1.0) -> Clip:
    """Three keyframes of a car that drives ahead; every point has a label, every other one a feature."""
    samples = []
    for offset in (-1, 0, 1):
        sample = make_sample(seed + 10 * offset, num_points=points)
        pose = sample.global_from_ego @ RigidTransform.from_yaw(0.0, (moved_m * offset, 0.0, 0.0))
        time_ns = 1_000_000_000 + 500_000_000 * offset
        samples.append(replace(sample, global_from_ego=pose, timestamp_ns=time_ns))
    return Clip(samples[1], (-1, 1), (samples[0], samples[2]))


# --------------------------------------------------------------------------------------------- what a ray is


@pytest.mark.parametrize("origin", ["lidar", "camera"])
def test_a_ray_ends_in_its_point(origin):
    batch = collate([clip(), clip(3)], BOX)
    rays = RayChoice(RayGeometry(origin), (-1, 1), rays_per_sample=0).of_batch(batch, generator())
    ends = rays.origins + rays.directions * rays.depth_m[:, None]
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(len(ends)), atol=1e-5, rtol=0)
    for moment in (batch.now, *batch.around):
        for item in range(2):
            own = (rays.offset == moment.offset) & (rays.batch == item)
            cloud = moment.lidar.xyz[moment.lidar.batch == item]
            assert own.sum() > 100
            assert (ends[own][:, None] - cloud).norm(dim=-1).amin(1).max() < 1e-3
    assert BOX.contains(ends).double().mean() > 0.99


def test_lidar_rays_start_at_the_sensor_and_there_is_one_per_point():
    batch = collate([clip()], BOX)
    rays = RayChoice(RayGeometry(min_depth_m=0.0), (1,), rays_per_sample=0).of_batch(batch, generator())
    later = batch.at(1)
    assert set(rays.offset.tolist()) == {0, 1}
    assert torch.equal(rays.origins[rays.offset == 1], later.lidar_origin.expand(int((rays.offset == 1).sum()), 3))
    assert int((rays.offset == 1).sum()) == int(BOX.contains(later.lidar.xyz).sum())
    assert rays.time_s.unique().tolist() == [0.0, 0.5]


def test_camera_rays_start_at_every_camera_that_sees_the_point():
    sample = make_sample(num_views=12)
    batch = collate([sample], BOX)
    rays = RayChoice(RayGeometry("camera"), rays_per_sample=0).of_batch(batch, generator())
    centers = torch.stack([view.ego_from_cam.translation for view in sample.views]).float()
    matrix = image_from_grid(batch.cameras.image_from_cam, batch.cameras.cam_from_grid)
    inside = BOX.contains(batch.lidar.xyz)
    uv, z = project_packed(batch.lidar.xyz[inside].double(), batch.lidar.batch[inside], matrix)
    height, width = batch.cameras.image_hw
    seen = (uv > 0).all(-1) & (uv < torch.tensor([width, height])).all(-1) & (z > 0)
    near = (batch.lidar.xyz[inside][:, None] - centers).norm(dim=-1) >= 1.0
    assert len(rays.batch) == int((seen & near).sum())
    assert torch.cdist(rays.origins, centers).amin(1).max() < 1e-5


def test_the_published_depth_is_shorter_than_the_ray():
    """z = distance x cosine between the ray and the optical axis."""
    batch = collate([make_sample()], BOX)
    options = {"min_depth_m": 0.0}
    ours = RayChoice(RayGeometry("camera", **options), rays_per_sample=0).of_batch(batch, generator())
    flat = RayChoice(RayGeometry("camera", "camera_z", **options), rays_per_sample=0).of_batch(batch, generator())
    axes = batch.cameras.cam_from_grid.rotation[0, :, 2].float()  # the optical axis of each camera in the grid
    centers = batch.cameras.cam_from_grid.inverse().translation[0].float()
    axis = axes[torch.cdist(ours.origins, centers).argmin(1)]
    torch.testing.assert_close(flat.depth_m, ours.depth_m * (ours.directions * axis).sum(-1), atol=1e-4, rtol=0)
    assert (flat.depth_m < ours.depth_m).all()


def test_a_pixel_offset_moves_the_ray_by_so_many_pixels():
    batch = collate([make_sample(num_views=1)], BOX)
    plain = RayChoice(RayGeometry("camera"), rays_per_sample=0).of_batch(batch, generator())
    shifted = RayChoice(RayGeometry("camera", pixel_offset_px=0.5), rays_per_sample=0).of_batch(batch, generator())
    matrix = image_from_grid(batch.cameras.image_from_cam, batch.cameras.cam_from_grid)
    before, _ = project_packed((plain.origins + plain.directions * 5).double(), plain.batch, matrix)
    after, _ = project_packed((shifted.origins + shifted.directions * 5).double(), shifted.batch, matrix)
    torch.testing.assert_close(after - before, torch.full_like(after, 0.5), atol=1e-3, rtol=0)


def test_near_far_and_outside():
    xyz = torch.tensor([[0.5, 0.0, 0.0], [6.0, 0.0, 0.0], [0.0, 12.0, 0.0], [0.0, 40.0, 0.0]])
    sample = make_sample()
    numbers = torch.zeros(4, dtype=torch.int64)
    own = RigidTransform.identity()
    sample = replace(
        sample, lidar=LidarSweep(xyz, torch.zeros(4), numbers, numbers), ego_from_lidar=own,
        point_labels=PointLabels(numbers + 4, numbers), point_features=None,
    )  # fmt: skip
    batch = collate([sample], BOX)
    dropped = RayChoice(RayGeometry(min_depth_m=1.0, max_depth_m=12.0), rays_per_sample=0).of_batch(batch, generator())
    assert dropped.depth_m.tolist() == [6.0]
    kept = RayChoice(RayGeometry(outside="keep"), rays_per_sample=0).of_batch(batch, generator())
    assert kept.depth_m.tolist() == [6.0, 12.0, 40.0]
    assert kept.label.tolist() == [4, 4, IGNORED]


# --------------------------------------------------------------------------------------------- which are chosen


def test_voxels_with_returns_are_drawn_alike():
    """Of sweep now: three returns in one voxel, one in another, one outside; of the sweep before: one in the first.

    Chances: a third each, 1, 3 voxels of 5 returns = 0.6, and 1, because it is another sweep's.
    """
    grid = VoxelGrid((-4.0, -4.0, -1.0), (1.0, 1.0, 1.0), (8, 8, 4), "ego")
    ends = torch.tensor(
        [[2.1, 0.5, 0.5], [2.5, 0.5, 0.5], [2.9, 0.2, 0.9], [-3.5, 0.5, 0.5], [0.0, 30.0, 0.5], [2.2, 0.6, 0.6]]
    )
    depth, zero = ends.norm(dim=1), torch.zeros(6, dtype=torch.int64)
    offset = torch.tensor([0, 0, 0, 0, 0, -1])
    rays = Rays(torch.zeros(6, 3), ends / depth[:, None], depth, zero, offset, torch.zeros(6), torch.ones(6))
    chance = even_over_voxels(grid, rays)
    torch.testing.assert_close(chance, torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0, 0.6, 1.0]))


def test_far_voxels_get_rays_if_these_are_drawn_evenly_over_voxels():
    """90 returns in one voxel and 5 alone: of 6 rays 5.7 are of the one on average, drawn over voxels only one."""
    near = torch.tensor([[3.5, 3.5, 0.5]]).repeat(90, 1)
    far = torch.tensor([[float(x) + 0.5, -8.5, 0.5] for x in range(-9, 1, 2)])
    sample = replace(
        make_sample(), lidar=LidarSweep(torch.cat([near, far]), torch.zeros(95), *torch.zeros(2, 95).long()),
        ego_from_lidar=RigidTransform.identity(), point_labels=None, point_features=None,
    )  # fmt: skip
    batch = collate([sample], BOX)

    def share_near(even) -> float:
        choice = RayChoice(RayGeometry(min_depth_m=0.0), rays_per_sample=6, even=even)
        drawn = [choice.of_batch(batch, generator(seed)) for seed in range(60)]
        return sum(int((rays.directions[:, :2] > 0.6).all(dim=1).sum()) for rays in drawn) / 60

    assert share_near("rays") > 5.4
    assert share_near("voxels") < 2.5


@pytest.mark.parametrize(("share_now", "expected"), [(0.3, 30), (0.5, 50), (1.0, 100), (0.0, 33)])
def test_so_many_rays_are_of_now_in_every_sample(share_now, expected):
    """Three keyframes with as many points each: drawn alike 33 of 100 are of now, a share asks for more."""
    batch = collate([clip(), clip(5)], BOX)
    choice = RayChoice(RayGeometry(min_depth_m=0.0), (-1, 1), rays_per_sample=100, share_now=share_now)
    rays = choice.of_batch(batch, generator())
    for item in range(2):
        own = rays.offset[rays.batch == item]
        assert len(own) == 100
        assert abs(int((own == 0).sum()) - max(expected, 33)) <= 1


def test_a_side_without_enough_rays_leaves_its_room():
    is_now = torch.arange(100) < 10
    rows = draw_shared(torch.ones(100), is_now, 50, 0.5, generator())
    assert int(is_now[rows].sum()) == 10
    assert len(rows.unique()) == 50
    rows = draw_shared(torch.ones(100), ~is_now, 95, 0.1, generator())
    assert len(rows) == 95
    assert int((~is_now)[rows].sum()) >= 85
    assert len(draw_shared(torch.ones(100), is_now, 500, 0.3, generator())) == 100
    assert len(draw_shared(torch.ones(0), torch.zeros(0, dtype=torch.bool), 5, 0.3, generator())) == 0


def test_drawing_alike_takes_from_all_samples_together():
    batch = collate([make_sample(0, 300), make_sample(1, 100)], BOX)
    rays = RayChoice(RayGeometry(min_depth_m=0.0), rays_per_sample=50, share_now=None).of_batch(batch, generator())
    counts = torch.bincount(rays.batch)
    assert int(counts.sum()) == 100
    assert 60 <= int(counts[0]) <= 90  # 75 expected


def test_a_draw_follows_the_chances_and_repeats_with_its_seed():
    chance = torch.tensor([1.0] * 500 + [9.0] * 500 + [0.0] * 500)
    rows = draw(chance, 100, generator(3))
    assert torch.equal(rows, draw(chance, 100, generator(3)))
    assert len(rows.unique()) == 100
    assert rows.max() < 1000
    assert 80 <= int((rows >= 500).sum()) <= 97  # 90 expected, less what is used up
    assert len(draw(chance, 5000, generator())) == 1000


def test_rare_classes_are_drawn_more_eagerly():
    sample = make_sample(num_points=2000)
    label = (torch.arange(2000) >= 1900).long() + 1
    sample = replace(sample, point_labels=PointLabels(label, torch.zeros_like(label)), point_features=None)
    chance = (1.0, 1.0, 10.0)
    rays = RayChoice(rays_per_sample=200, class_chance=chance).of_batch(collate([sample], BOX), generator())
    assert 50 <= int((rays.label == 2).sum()) <= 85  # 10 if drawn alike; 10 x 100 / (10 x 100 + 1900) of 200 are 69


def test_chances_are_capped():
    """Counts 100, 10 and 1 at a rate of 0.1: exp(0), exp(0.9), exp(9.9) = 19930."""
    torch.testing.assert_close(
        capped_rarity((100, 10, 1), 0.1, 1e9), torch.tensor([1.0, 2.4596, 19930.4]), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(
        capped_rarity((100, 10, 1), 0.1, 5.0), torch.tensor([1.0, 2.4596, 5.0]), rtol=1e-4, atol=0
    )


# --------------------------------------------------------------------------------------------- how much they count


def test_class_weights_are_those_of_the_published_table():
    """Spec occflownet 2.6, test 11: three decimals (the table's 1.147 of buses is 1.14649)."""
    published = [
        1.347, 1.202, 1.732, 1.147, 0.741, 1.413, 1.678, 1.189, 1.527, 1.166, 0.960, 0.242, 1.015, 0.501, 0.461,
        0.350, 0.330,
    ]  # fmt: skip
    torch.testing.assert_close(log_inverse_frequency(OCC3D_VOXELS), torch.tensor(published), atol=5.1e-4, rtol=0)


def test_sampling_chances_without_a_cap_are_those_of_renderocc():
    published = [1.40, 1.14, 933, 1.25, 1.03, 1.84, 14.2, 1.50, 5.25, 1.22, 1.07, 1.00, 1.16, 1.01, 1.01, 1.00, 1.00]
    found = capped_rarity(LIDARSEG_RAYS, cap=1e9)
    torch.testing.assert_close(found, torch.tensor(published), rtol=5e-3, atol=5e-3)
    share = torch.tensor(LIDARSEG_RAYS) / sum(LIDARSEG_RAYS)
    assert round(float(share[4]) * 100, 2) == 4.56


def test_a_label_outside_the_table_weighs_one():
    table, like = torch.tensor([2.0, 3.0]), torch.zeros(3)
    assert by_label(table, torch.tensor([1, 0, IGNORED]), like).tolist() == [3.0, 2.0, 1.0]
    assert by_label(table, None, like).tolist() == [1.0, 1.0, 1.0]


def test_rays_carry_label_and_weight_of_their_class():
    batch = collate([make_sample()], BOX)
    weights = tuple(float(2 + number) for number in range(17))
    rays = RayChoice(rays_per_sample=64, class_weight=weights).of_batch(batch, generator())
    assert IGNORED in rays.label.tolist()
    assert 0 not in rays.label.tolist()
    known = rays.label != IGNORED
    assert torch.equal(rays.weight[known], rays.label[known] + 2.0)
    assert set(rays.weight[~known].tolist()) == {1.0}
    everything = RayChoice(rays_per_sample=0, ignore_label=None).of_batch(batch, generator())
    assert 0 in everything.label.tolist()


def test_rays_carry_the_features_of_their_points():
    """Feature = place of the point, so that a ray's end tells what its feature must be."""

    def placed(sample):
        rows = torch.arange(0, sample.lidar.num_points, 2)
        xyz = sample.lidar.xyz[rows]
        return replace(sample, point_labels=None, point_features=PointFeatures(rows, xyz, xyz.norm(dim=-1)))

    plain = clip()
    pair = Clip(placed(plain.current), (1,), (placed(plain.others[1]),))
    batch = collate([Clip(placed(make_sample(7))), pair], BOX)
    rays = RayChoice(horizon=(1,), rays_per_sample=200).of_batch(batch, generator())
    assert rays.label is None
    told = rays.feature.abs().sum(-1) > 0
    assert 0.3 < told.double().mean() < 0.7
    ends = rays.origins + rays.directions * rays.depth_m[:, None]
    for offset, item, sample in ((0, 0, make_sample(7)), (0, 1, pair.current), (1, 1, pair.others[0])):
        own = told & (rays.offset == offset) & (rays.batch == item)
        frame = pair.current.global_from_ego.inverse() @ sample.global_from_ego if item else RigidTransform.identity()
        expected = (frame @ sample.ego_from_lidar).inverse().apply(ends[own])
        torch.testing.assert_close(rays.feature[own], expected, atol=1e-3, rtol=0)
        torch.testing.assert_close(rays.weight[own], expected.norm(dim=-1), atol=1e-3, rtol=1e-3)
    assert set(rays.weight[~told].tolist()) == {1.0}


def test_a_moment_without_features_or_labels_is_silent_beside_others():
    plain = clip()
    poor = replace(plain.others[1], point_labels=None, point_features=None)
    rays = RayChoice(horizon=(1,), rays_per_sample=100).of_batch(
        collate([Clip(plain.current, (1,), (poor,))], BOX), generator()
    )
    later = rays.offset == 1
    assert set(rays.label[later].tolist()) == {IGNORED}
    assert not rays.feature[later].any()
    assert rays.feature[~later].any()
    assert RayChoice(rays_per_sample=9).of_batch(
        collate([replace(plain.current, point_features=None)], BOX), generator()
    ).feature is None  # fmt: skip


def test_an_empty_sweep_gives_no_rays():
    sample = make_sample()
    numbers = torch.zeros(0, dtype=torch.int64)
    bare = replace(
        sample,
        lidar=LidarSweep(torch.zeros(0, 3), torch.zeros(0), numbers, numbers),
        point_labels=PointLabels(numbers, numbers),
        point_features=PointFeatures(numbers, torch.zeros(0, 8), torch.zeros(0)),
    )  # fmt: skip
    rays = RayChoice(RayGeometry("camera")).of_batch(collate([bare], BOX), generator())
    assert rays.origins.shape == (0, 3)
    assert rays.feature.shape == (0, 8)


# --------------------------------------------------------------------------------------------- what moved


def moving_clip() -> Clip:
    """In the later keyframe a box drives, one is parked, and one has no known speed; points are drawn around them."""
    plain = clip(points=4000)
    center = torch.tensor([[6.0, 0.0, 0.5], [0.0, 6.0, 0.5], [-6.0, 0.0, 0.5]])
    boxes = Boxes(
        center, torch.full((3, 3), 3.0), torch.zeros(3), torch.tensor([[4.0, 0.0], [0.1, 0.0], [float("nan")] * 2]),
        torch.full((3,), 4), torch.arange(3),
    )  # fmt: skip
    return replace(plain, others=(plain.others[0], replace(plain.others[1], boxes=boxes)))


def test_the_filter_by_speed_keeps_what_is_parked():
    batch = collate([moving_clip()], BOX)
    kept = MovingFilter("speed").kept(batch.at(1))
    boxes = batch.at(1).boxes[0]
    inside = ((batch.at(1).lidar.xyz[:, None] - boxes.center).abs() < 1.4).all(-1)
    assert inside.any(0).all()
    assert not kept[inside[:, 0]].any()
    assert kept[inside[:, 1]].all()
    assert not kept[inside[:, 2]].any()
    outside = ((batch.at(1).lidar.xyz[:, None] - boxes.center).abs() > 1.8).any(-1).all(-1)
    assert kept[outside].all()
    assert MovingFilter("speed").kept(batch.now).all()


def test_the_published_filter_drops_classes_of_other_keyframes():
    batch = collate([clip()], BOX)
    rays = RayChoice(horizon=(-1, 1), rays_per_sample=0, moving=MovingFilter("class"), ignore_label=None).of_batch(
        batch, generator()
    )
    assert {0, 4, 7} <= set(rays.label[rays.offset == 0].tolist())
    assert set(rays.label[rays.offset != 0].tolist()) <= {2, 6, 8, 11, 12, 13, 14, 15, 16}


def test_user_faults_are_named():
    bare = replace(make_sample(), point_labels=None, boxes=None)
    batch = collate([Clip(bare, (1,), (bare,))], BOX)
    with pytest.raises(ConfigError, match="a filter by class must have point labels; got none"):
        RayChoice(horizon=(1,), moving=MovingFilter("class")).of_batch(batch, generator())
    with pytest.raises(ConfigError, match="a filter by speed must have boxes; got none"):
        RayChoice(horizon=(1,), moving=MovingFilter("speed")).of_batch(batch, generator())
    with pytest.raises(ConfigError, match="rays must start at cameras to have camera_z depths"):
        RayGeometry("lidar", "camera_z")
    with pytest.raises(ShapeError, match="counts of classes must be 0 or more, two of them above 0"):
        log_inverse_frequency((0, 5, 0))


# --------------------------------------------------------------------------------------------- as published

OFFICIAL_PEDESTRIANS = 5
"""Raw lidarseg id that the official code calls a pedestrian and nuScenes leaves out (spec occflownet 2.1)."""


@pytest.mark.parametrize(("key", "by"), [("all", "none"), ("filtered", "class")])
def test_official_rays_are_reproduced(golden, key, by):
    """Case occflownet_rays: the same rays in the same order, origins and depths to 2 mm."""
    case = read_case(golden)
    batch = collate([golden_clip(case)], GRID)
    choice = RayChoice(
        replace(PUBLISHED_GEOMETRY, pixel_offset_px=0.0), (-1, 1), 0, moving=MovingFilter(by), ignore_label=None
    )
    rays = choice.of_batch(batch, generator())
    frame, camera = torch.from_numpy(case[f"{key}/frame_cam"]).long().unbind(-1)
    rows = rays.offset.argsort(stable=True)  # theirs begin with the earliest keyframe
    assert torch.equal(rays.offset[rows], frame - 1)
    torch.testing.assert_close(rays.depth_m[rows], torch.from_numpy(case[f"{key}/depth_label"]), atol=2e-3, rtol=0)
    origins = torch.from_numpy(case[f"{key}/origins"])[frame, camera]
    torch.testing.assert_close(rays.origins[rows] * MIRROR_X, origins, atol=2e-3, rtol=0)
    label = torch.from_numpy(case[f"{key}/class_label"]).long()
    differing = rays.label[rows] != label
    assert set(label[differing].tolist()) <= {7}  # of raw id 5
    assert set(rays.label[rows][differing].tolist()) <= {0}


def test_official_directions_are_reproduced(golden):
    """Half a pixel of the original image is added before a direction is made of it (A4): 1e-4."""
    case = read_case(golden)
    augmented, original = (collate([golden_clip(case, it)], GRID) for it in (True, False))
    choice = RayChoice(replace(PUBLISHED_GEOMETRY, pixel_offset_px=0.0), (-1, 1), 0, ignore_label=None)
    rays = choice.of_batch(augmented, generator())
    rows = rays.offset.argsort(stable=True)
    ends = (rays.origins + rays.directions * 20.0)[rows].double()
    frame, camera = torch.from_numpy(case["all/frame_cam"]).long().unbind(-1)
    expected = torch.from_numpy(case["all/directions"])
    for number, offset in enumerate((-1, 0, 1)):
        own, moment = frame == number, original.at(offset)
        matrix = image_from_grid(moment.cameras.image_from_cam, moment.cameras.cam_from_grid)
        uv, _ = project_packed(ends[own], torch.zeros(int(own.sum()), dtype=torch.int64), matrix)
        view = camera[own]
        raw = uv[torch.arange(len(view)), view] + 0.5
        grid_from_cam = moment.cameras.cam_from_grid.inverse()[0][view]
        found = pixel_directions(raw, moment.cameras.image_from_cam[0][view], grid_from_cam)
        found = torch.nn.functional.normalize(found, dim=-1).float() * MIRROR_X
        torch.testing.assert_close(found, expected[own], atol=1e-4, rtol=0)
        plain = rays.directions[rows][own] * MIRROR_X
        assert (plain - expected[own]).abs().max() > 2e-4  # without it they are not
