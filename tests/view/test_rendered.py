"""The map through the cameras: nothing mirrored, distances exact, every pixel as a slow walk finds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rig import cam_from_ego

from lexivox.errors import ConfigError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.rays import traverse
from lexivox.view.rendered import DEPTH, SKY, rendered_images, rendered_sheet, rendered_view, see
from lexivox.view.scene import ClassLayer, HeatLayer, NamedImage, Pinhole, VoxelScene, VoxelSet

GRID = VoxelGrid((-16.0, -16.0, -1.0), (1.0, 1.0, 1.0), (32, 32, 6), "ego")
RED, GREEN = (220, 0, 0), (0, 200, 0)


def camera(name="CAM_FRONT", yaw_rad=0.0, place=(0.0, 0.0, 1.5), hw=(24, 40)):
    """A level camera with a focal length of 20 pixels."""
    height, width = hw
    intrinsics = np.array([[20.0, 0.0, width / 2], [0.0, 20.0, height / 2], [0.0, 0.0, 1.0]])
    return NamedImage(name, np.zeros((*hw, 3), dtype=np.uint8), Pinhole(intrinsics, cam_from_ego(yaw_rad, place)))


def scene_of(index, label=None, images=(), grid=GRID):
    index = np.asarray(index)
    label = np.zeros(len(index), dtype=np.int64) if label is None else np.asarray(label)
    layer = ClassLayer("classes", label, ("red", "green"), np.array([RED, GREEN], dtype=np.uint8))
    heat = HeatLayer("fits", np.linspace(0.0, 1.0, len(index)))
    return VoxelScene(grid, index, (layer, heat), tuple(images), VoxelSet("truth", index, (layer,)))


def wall(x, y_range, z_range=range(6)):
    return [(x, y, z) for y in y_range for z in z_range]


def is_sky(picture):
    return (picture == np.array(SKY["light"])).all(axis=-1)


@pytest.mark.parametrize("yaw_rad", [0.0, np.pi])
def test_a_red_wall_on_the_left_of_the_car_is_on_the_left_of_the_front_camera(yaw_rad):
    """x = 8 m ahead, y = 2..6 m: left. Backwards the camera sees what lies behind, and there is nothing."""
    scene = scene_of(wall(24, range(18, 22)), images=[camera(yaw_rad=yaw_rad)])
    picture = rendered_view(scene, scene.images[0])
    shown = ~is_sky(picture)
    if yaw_rad:
        assert not shown.any()
        return
    # u = 20 - 20 * y / x: the near edges stand at columns 5 and 15 of 40, the far one (x = 9 m, y = 2 m) at 15.6.
    assert np.flatnonzero(shown.any(axis=0)).tolist() == list(range(5, 16))
    assert (picture[shown][:, 0] > 150).all()
    assert (picture[shown][:, 1:] == 0).all()


def test_what_stands_on_the_ground_is_below_what_hangs():
    scene = scene_of([(24, 16, 0), (24, 16, 5)], [0, 1], [camera()])
    picture = rendered_view(scene, scene.images[0])
    colored = picture[..., 2] == 0
    red, green = (np.flatnonzero((colored & (picture[..., c] > 100)).any(axis=1)) for c in (0, 1))
    assert green.max() < 12 < red.min()  # the horizon lies at row 12


def test_depth_of_a_wall_is_exact_to_the_pixel():
    seen = see(GRID, np.array(wall(24, range(32))), camera())
    shown = seen.row >= 0
    assert shown.any()
    np.testing.assert_allclose(seen.depth_m[shown], 8.0, atol=1e-9)
    assert np.isnan(seen.depth_m[~shown]).all()


def test_a_camera_looks_out_of_the_voxel_it_stands_in():
    """The map calls the own car occupied, camera and all: the wall behind that is seen all the same."""
    outside = see(GRID, np.array(wall(24, range(32))), camera())
    inside = see(GRID, np.array([*wall(24, range(32)), (16, 16, 2)]), camera(place=(0.4, 0.4, 1.5)))
    assert set(np.unique(inside.row)) <= {-1, *range(192)}
    np.testing.assert_allclose(inside.depth_m[12, 20], outside.depth_m[12, 20] - 0.4, rtol=1e-6)


@pytest.mark.parametrize("place", [(0.2, -0.3, 1.4), (-30.0, 4.0, 2.0)])
@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (1.0, 2.0, 0.5)])
def test_every_pixel_is_what_a_slow_walk_meets_first(place, size):
    """From inside the grid and from outside, through cubes and through bricks."""
    grid = VoxelGrid((-8.0, -8.0, -1.0), size, (16, 8, 8), "ego")
    rng = np.random.default_rng(3)
    index = np.argwhere(rng.random(grid.shape) < 0.05)
    occupied = {tuple(row): number for number, row in enumerate(index.tolist())}
    image = camera(yaw_rad=0.05, place=place, hw=(10, 16))
    seen = see(grid, index, image)
    met = 0
    for v in range(10):
        for u in range(16):
            in_cam = torch.tensor([(u + 0.5 - 8) / 20, (v + 0.5 - 5) / 20, 1.0], dtype=torch.float64)
            start = torch.tensor(place, dtype=torch.float64)
            end = image.pinhole.cam_from_grid.inverse().apply(80.0 * in_cam[None])
            voxels, _, length_m = traverse(grid, start[None], end)
            rows = [occupied.get(tuple(v), -1) for v, m in zip(voxels.tolist(), length_m, strict=True) if m > 1e-9]
            first = next((row for row in rows if row >= 0), -1)
            assert seen.row[v, u] == first
            if first >= 0:
                met += 1
                nearest = start + seen.depth_m[v, u] * (end[0] - start) / 80.0
                lower = torch.tensor(grid.lower_m) + torch.tensor(index[first]) * torch.tensor(size)
                assert bool(((nearest - lower).min() > -1e-6) & ((nearest - lower - torch.tensor(size)).max() < 1e-6))
    assert met > 10


def test_strips_hold_the_image_and_one_picture_for_each_layer():
    images = [camera("CAM_FRONT"), camera("CAM_BACK", np.pi), NamedImage("drawn", np.zeros((4, 4, 3), dtype=np.uint8))]
    scene = scene_of(wall(24, range(32)), images=images)
    strips = rendered_images(scene, (DEPTH, "classes", "fits"))
    assert [strip.name for strip in strips] == ["CAM_FRONT", "CAM_BACK"]  # nothing can be seen through a drawing
    assert {strip.data.shape for strip in strips} == {(4 * 24 + 3 * 3, 40, 3)}
    assert rendered_sheet(scene, truth=True, width_px=300).shape[1] == 300


def test_an_empty_map_is_all_sky():
    scene = scene_of(np.zeros((0, 3), dtype=np.int64), images=[camera()])
    for layer in (None, DEPTH, "fits"):
        assert is_sky(rendered_view(scene, scene.images[0], layer)).all()


def test_wrong_questions_say_what_is_wrong():
    scene = scene_of([(24, 16, 0)], images=[camera()])
    with pytest.raises(ConfigError, match=r"image drawn must have a pinhole to be looked through; got none\."):
        rendered_view(scene, NamedImage("drawn", np.zeros((4, 4, 3), dtype=np.uint8)))
    with pytest.raises(ConfigError, match="layer must be one of the prediction's; got 'flow'"):
        rendered_view(scene, scene.images[0], "flow")
