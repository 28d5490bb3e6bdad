"""Pictures without OpenGL: right way round, hidden things hidden, fast enough."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from streets import LETTER, letter_scene, read_letter

from lexivox.errors import ConfigError, DataError
from lexivox.geometry.grid import VoxelGrid
from lexivox.view.figure import contact_sheet, figure, overlay_lidar
from lexivox.view.pack import jpeg_bytes
from lexivox.view.picture import birds_eye, render_scene, save_png
from lexivox.view.raster import paint
from lexivox.view.scene import ClassLayer, HeatLayer, NamedImage, VoxelScene
from lexivox.view.viewpoint import Viewpoint, viewpoint

FRAMES = ("ego", "lidar")


@pytest.mark.parametrize("frame", FRAMES)
def test_letter_is_not_mirrored_from_above(frame: Any) -> None:
    scene = letter_scene(frame)
    assert read_letter(birds_eye(scene, scale=5)) == LETTER
    assert read_letter(render_scene(scene, view="top", size_wh=(400, 300))) == LETTER


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", ["chase", "driver"])
def test_left_of_the_car_is_left_in_the_picture(frame: Any, name: Any) -> None:
    # Red 3 m to the left, blue 3 m to the right, both 8 m ahead of the car.
    grid = VoxelGrid((-20.0, -20.0, -1.0), (1.0, 1.0, 1.0), (40, 40, 4), frame)
    ego = np.array([[28, 23, 1], [28, 16, 1]])
    index = ego if frame == "ego" else np.stack([39 - ego[:, 1], ego[:, 0], ego[:, 2]], axis=1)
    palette = np.array([[255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    scene = VoxelScene(grid, index, (ClassLayer("c", np.array([0, 1]), ("left", "right"), palette),))
    image = render_scene(scene, view=name, size_wh=(300, 200), smooth=1).astype(int)
    red = np.argwhere((image[..., 0] > 100) & (image[..., 1:].max(axis=-1) == 0))
    blue = np.argwhere((image[..., 2] > 100) & (image[..., :2].max(axis=-1) == 0))
    assert red[:, 1].max() < blue[:, 1].min()
    assert red[:, 0].mean() < 150  # ahead is further up


def test_a_convex_polygon_fills_the_pixels_whose_centres_it_holds() -> None:
    image = np.zeros((4, 5, 3), dtype=np.uint8)
    square = np.array([[[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]]])
    paint(image, square, np.array([[9, 9, 9]], dtype=np.uint8))
    expected = np.zeros((4, 5), dtype=bool)
    expected[1:3, 1:3] = True
    np.testing.assert_array_equal(image[..., 0] == 9, expected)


def test_polygons_equal_a_test_of_every_pixel() -> None:
    rng = np.random.default_rng(0)
    triangles = rng.uniform(-8, 24, (40, 3, 2))
    rgb = rng.integers(1, 255, (40, 3), dtype=np.uint8)
    image, slow = np.zeros((16, 16, 3), dtype=np.uint8), np.zeros((16, 16, 3), dtype=np.uint8)
    paint(image, triangles, rgb)
    for (a, b, c), color in zip(triangles, rgb, strict=True):
        for y in range(16):
            for x in range(16):
                p = np.array([x + 0.5, y + 0.5])
                sides = [np.linalg.det(np.stack([v - u, p - u])) for u, v in ((a, b), (b, c), (c, a))]
                if all(s >= 0 for s in sides) or all(s <= 0 for s in sides):
                    slow[y, x] = color
    np.testing.assert_array_equal(image, slow)


def test_nearest_voxel_of_every_pixel_is_seen() -> None:
    """Against one ray per pixel marched in small steps."""
    rng = np.random.default_rng(1)
    grid = VoxelGrid((-3.0, -3.0, -3.0), (1.0, 1.0, 1.0), (6, 6, 6), "ego")
    index = np.argwhere(rng.random((6, 6, 6)) < 0.25)
    palette = np.stack([np.arange(len(index)) + 1, np.zeros(len(index)), np.zeros(len(index))], -1)
    layer = ClassLayer("id", np.arange(len(index)), tuple(map(str, index)), (palette * 3).astype(np.uint8))
    scene = VoxelScene(grid, index, (layer,), ground_z_m=-50.0)
    eye = Viewpoint((0.0, 0.0, 0.0), 12.0, 2.6, 0.5)
    image = render_scene(scene, view=eye, size_wh=(40, 40), smooth=1, theme="dark")
    seen = image[..., 1] == 0
    focal = 20 / np.tan(np.deg2rad(21.0))
    right, down, forward = eye.axes()
    owner = np.full((6, 6, 6), -1)
    owner[tuple(index.T)] = np.arange(len(index))
    wrong = 0
    for y in range(40):
        for x in range(40):
            ray = forward + right * (x + 0.5 - 20) / focal + down * (y + 0.5 - 20) / focal
            steps = eye.eye + np.arange(5, 22, 0.01)[:, None] * ray
            cell = np.floor(steps + 3).astype(int)
            inside = ((cell >= 0) & (cell < 6)).all(axis=1)
            met = owner[tuple(cell[inside].T)]
            met = met[met >= 0]
            assert seen[y, x] == (len(met) > 0) or wrong < 20
            if len(met) and seen[y, x]:
                full = 3 * (met[0] + 1)
                wrong += not 0.4 * full - 1 <= image[y, x, 0] <= full
    assert wrong < 8  # rays through an edge may choose either side


def test_heat_and_no_layer_and_no_voxels_paint() -> None:
    scene = letter_scene("ego")
    bare = VoxelScene(scene.grid, scene.index)
    assert np.unique(render_scene(bare, size_wh=(90, 60)).reshape(-1, 3), axis=0).shape[0] > 5
    hot = VoxelScene(scene.grid, scene.index, (HeatLayer("q", np.linspace(0, 1, len(scene.index))),))
    assert render_scene(hot, size_wh=(90, 60), theme="dark").shape == (60, 90, 3)
    empty = VoxelScene(scene.grid, scene.index[:0], (HeatLayer("q", np.zeros(0)),))
    assert render_scene(empty, size_wh=(90, 60)).shape == (60, 90, 3)
    assert figure(empty, width_px=300).shape[1] == 300
    with pytest.raises(ConfigError, match="layer must be one of"):
        render_scene(hot, "nothing")


def test_an_eye_among_the_voxels_sees_without_a_crash() -> None:
    scene = letter_scene("ego")
    inside = Viewpoint((0.0, 0.0, 0.5), 1.0, 0.3, 0.1)
    assert render_scene(scene, view=inside, size_wh=(60, 40)).shape == (40, 60, 3)


def test_viewpoints_fit_narrow_pictures() -> None:
    scene = letter_scene("ego")
    wide, tall = (viewpoint("top", scene.grid, 0.0, aspect) for aspect in (2.0, 0.5))
    assert tall.distance_m == pytest.approx(2 * wide.distance_m)


def test_figure_has_all_its_parts(scene: VoxelScene, tmp_path) -> None:
    for layer, theme in (("classes", "light"), ("a parked car", "dark")):
        image = figure(scene, layer, width_px=600, theme=theme)
        path = save_png(image, tmp_path / f"{theme}.png")
        assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(DataError, match="picture must be writable"):
        save_png(image, tmp_path / "light.png" / "x.png")


def test_contact_sheet_places_the_cameras() -> None:
    colors = {"CAM_BACK": (0, 0, 250), "CAM_FRONT": (250, 0, 0), "CAM_FRONT_LEFT": (0, 250, 0)}
    images = [NamedImage(n, np.full((90, 160, 3), c, dtype=np.uint8)) for n, c in colors.items()]
    sheet = contact_sheet(images, width_px=616)
    assert sheet[60, 100].tolist() == [0, 250, 0]
    assert sheet[60, 300].tolist() == [250, 0, 0]
    assert sheet[60, 500].tolist() == [0, 0, 250]
    encoded = [NamedImage("CAM_FRONT", jpeg_bytes(images[1].data))]  # type: ignore[arg-type]
    assert contact_sheet(encoded, width_px=300).shape[1] == 300
    assert contact_sheet([], width_px=300).shape == (1, 300, 3)


def test_lidar_lands_on_its_pixel() -> None:
    image = np.full((20, 30, 3), 7, dtype=np.uint8)
    intrinsics = np.array([[10.0, 0, 15], [0, 10, 10], [0, 0, 1]])
    # The first lies 5 m ahead, 1 m right, 0.5 m down: (15 + 2, 10 + 1); the second behind the camera.
    xyz = np.array([[1.02, 0.52, 5.0], [0.0, 0.0, -5.0]])
    out = overlay_lidar(image, xyz, intrinsics, radius_px=0)
    assert np.argwhere((out != 7).any(axis=-1)).tolist() == [[11, 17]]
    assert (image == 7).all()


def test_fifty_thousand_voxels_take_less_than_two_seconds(scene: VoxelScene) -> None:
    assert len(scene.index) > 50_000
    began = time.perf_counter()
    render_scene(scene, size_wh=(1200, 800), smooth=1)
    assert time.perf_counter() - began < 2.0
