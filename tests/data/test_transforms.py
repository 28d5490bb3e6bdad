"""Augmentations: a LiDAR point must fall on the same picture content before and after."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import IMAGE_HW, make_sample

from lexivox.data.transforms import Augment, mirror, recolor, resize_images, turn
from lexivox.supervision.targets import project_lidar


def reverse(sample):
    return mirror(sample, "front-back")


def test_both_mirrors_are_half_a_turn():
    """Swapping left and right, front and back, is turning by half a circle: no picture is mirrored in the end."""
    sample = make_sample()
    both = reverse(mirror(sample))
    assert torch.equal(both.views[0].image, sample.views[0].image)
    half = turn(sample, math.pi)
    points = [one.ego_from_lidar.apply(one.lidar.xyz) for one in (both, half, sample)]
    torch.testing.assert_close(points[0], points[2] * torch.tensor([-1.0, -1.0, 1.0]))
    # the turn is about the LiDAR, the mirrors about the ego frame's origin
    sensors = [one.ego_from_lidar.translation.float() for one in (both, half)]
    torch.testing.assert_close(points[0] - sensors[0], points[1] - sensors[1], atol=1e-4, rtol=0)
    facing = [one.boxes.yaw_rad.remainder(2 * math.pi) for one in (both, half)]
    torch.testing.assert_close(facing[0], facing[1])


def test_turning_the_axes_moves_no_point_in_any_image():
    sample = make_sample()
    uv, visible = project_lidar(sample)
    turned_uv, turned_visible = project_lidar(turn(sample, 0.4))
    assert torch.equal(visible, turned_visible)
    torch.testing.assert_close(uv[visible], turned_uv[visible], atol=1e-3, rtol=1e-4)


def test_turning_moves_the_points_of_the_ego_frame_counter_clockwise_about_the_lidar():
    sample = make_sample()
    sensor = sample.ego_from_lidar.translation
    before = sample.ego_from_lidar.apply(sample.lidar.xyz) - sensor
    turned = turn(sample, 0.5)
    torch.testing.assert_close(turned.ego_from_lidar.translation, sensor)
    after = turned.ego_from_lidar.apply(turned.lidar.xyz) - sensor
    angle = torch.atan2(after[:, 1], after[:, 0]) - torch.atan2(before[:, 1], before[:, 0])
    torch.testing.assert_close(torch.remainder(angle, 2 * torch.pi), torch.full_like(angle, 0.5), atol=1e-3, rtol=0)


def test_the_world_stays_when_the_axes_turn():
    sample = make_sample()
    turned = turn(sample, 0.4)
    before = (sample.global_from_ego @ sample.ego_from_lidar).apply(sample.lidar.xyz.double())
    after = (turned.global_from_ego @ turned.ego_from_lidar).apply(turned.lidar.xyz.double())
    torch.testing.assert_close(before, after, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("sides", "signs"), [("left-right", (1.0, -1.0, 1.0)), ("front-back", (-1.0, 1.0, 1.0))])
def test_mirroring_mirrors_pixels_and_the_ego_frame(sides, signs):
    sample = make_sample()
    uv, visible = project_lidar(sample)
    flipped = mirror(sample, sides)
    flipped_uv, flipped_visible = project_lidar(flipped)
    assert torch.equal(visible, flipped_visible)
    expected = uv[visible].clone()
    expected[:, 0] = IMAGE_HW[1] - expected[:, 0]
    torch.testing.assert_close(flipped_uv[flipped_visible], expected, atol=1e-3, rtol=1e-4)
    before = sample.ego_from_lidar.apply(sample.lidar.xyz)
    after = flipped.ego_from_lidar.apply(flipped.lidar.xyz)
    torch.testing.assert_close(after, before * torch.tensor(signs))


@pytest.mark.parametrize("change", [mirror, reverse, lambda s: turn(s, 0.3)])
def test_changed_poses_stay_rotations(change):
    changed = change(make_sample())
    transforms = [changed.ego_from_lidar, changed.global_from_ego, *(v.ego_from_cam for v in changed.views)]
    for transform in transforms:
        torch.testing.assert_close(torch.linalg.det(transform.rotation), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("change", [mirror, reverse])
def test_mirroring_twice_changes_nothing(change):
    sample = make_sample()
    twice = change(change(sample))
    assert torch.equal(twice.views[1].image, sample.views[1].image)
    torch.testing.assert_close(twice.lidar.xyz, sample.lidar.xyz)
    torch.testing.assert_close(twice.boxes.yaw_rad.cos(), sample.boxes.yaw_rad.cos())
    torch.testing.assert_close(twice.boxes.yaw_rad.sin(), sample.boxes.yaw_rad.sin())
    torch.testing.assert_close(twice.ego_from_lidar.matrix(), sample.ego_from_lidar.matrix())


def test_resizing_scales_pixels_with_the_image():
    sample = make_sample()
    uv, _ = project_lidar(sample)
    small_uv, _ = project_lidar(resize_images(sample, (16, 12)))
    scale = torch.tensor([12 / IMAGE_HW[1], 16 / IMAGE_HW[0]])
    finite = uv.abs().amax(dim=-1) < 1e4
    torch.testing.assert_close(small_uv[finite], (uv * scale)[finite], atol=1e-3, rtol=1e-4)


def test_recolouring_changes_pixels_only():
    sample = make_sample()
    changed = recolor(sample, 0.3, torch.Generator().manual_seed(0))
    assert not torch.equal(changed.views[0].image, sample.views[0].image)
    assert changed.lidar is sample.lidar


def test_sides_are_swapped_as_often_as_asked():
    """Each of the four worlds a quarter of the time; what asks for no reversal draws what it always drew."""
    sample, augment = make_sample(num_points=50), Augment(mirror_prob=0.5, reverse_prob=0.5, color=0.0)
    generator, seen = torch.Generator().manual_seed(0), []
    before = sample.ego_from_lidar.apply(sample.lidar.xyz)
    for _ in range(80):
        changed = augment(sample, generator)
        after = changed.ego_from_lidar.apply(changed.lidar.xyz)
        seen.append(tuple((after / before).median(dim=0).values.sign().tolist()))
    counts = [seen.count((x, y, 1.0)) for x in (1.0, -1.0) for y in (1.0, -1.0)]
    assert sum(counts) == 80
    assert min(counts) > 10
    one, two = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    Augment(color=0.0)(sample, one)
    torch.rand(3, generator=two)
    assert torch.equal(one.get_state(), two.get_state())


def test_the_grid_is_turned_before_sides_are_swapped():
    """The published order: flip after rotation."""
    sample, generator = make_sample(), torch.Generator().manual_seed(5)
    angle = 2.0 * float(torch.rand(3, generator=torch.Generator().manual_seed(5))[1]) - 1.0
    changed = Augment(mirror_prob=1.0, turn_rad=1.0, color=0.0)(sample, generator)
    expected = mirror(turn(sample, angle))
    torch.testing.assert_close(changed.ego_from_lidar.matrix(), expected.ego_from_lidar.matrix())


def test_augmentation_repeats_with_its_seed():
    augment = Augment(mirror_prob=0.5, turn_rad=0.5, color=0.2, drop_view_prob=0.5)
    one = augment(make_sample(), torch.Generator().manual_seed(3))
    two = augment(make_sample(), torch.Generator().manual_seed(3))
    assert all(torch.equal(a.image, b.image) for a, b in zip(one.views, two.views, strict=True))
    assert torch.equal(one.lidar.xyz, two.lidar.xyz)
