"""Pictures of a scene without OpenGL, a window or a display: numpy paints, Pillow writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from lexivox.files import write_atomically
from lexivox.geometry.grid import VoxelGrid
from lexivox.view.colors import BACKGROUND, CAR, MUTED, PLAIN, Theme, heat_ramp, quantize
from lexivox.view.hits import centers
from lexivox.view.raster import paint
from lexivox.view.scene import ClassLayer, Layer, VoxelScene, layer_named
from lexivox.view.viewpoint import Viewpoint, ViewpointName, forward_rad, viewpoint

# Outward normal, corners in order around the face, brightness: the same light as the page's.
FACES = (
    ((1, 0, 0), ((1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)), 0.88),
    ((-1, 0, 0), ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)), 0.80),
    ((0, 1, 0), ((0, 1, 0), (0, 1, 1), (1, 1, 1), (1, 1, 0)), 0.72),
    ((0, -1, 0), ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)), 0.76),
    ((0, 0, 1), ((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)), 1.00),
    ((0, 0, -1), ((0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)), 0.50),
)


def render_scene(
    scene: VoxelScene,
    layer: str | None = None,
    *,
    size_wh: tuple[int, int] = (1200, 800),
    view: ViewpointName | Viewpoint = "chase",
    truth: bool = False,
    theme: Theme = "light",
    smooth: int = 2,
) -> UInt8[np.ndarray, "H W 3"]:
    """The voxels in perspective, with lit faces and shaded corners.

    Args:
        layer: name of the layer that colours them; by default the first.
        view: ``"chase"`` (behind the car), ``"top"``, ``"driver"``, or a place of one's own.
        truth: show the truth instead of the prediction.
        smooth: paint this many times larger and average, against jagged edges.

    Raises:
        ConfigError: no such layer, or no truth.
    """
    voxels = scene.voxels(truth)
    rgb = layer_colors(layer_named(voxels, layer), len(voxels.index), theme)
    width, height = size_wh[0] * smooth, size_wh[1] * smooth
    if isinstance(view, str):
        view = viewpoint(view, scene.grid, scene.ground_m, width / height)
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = BACKGROUND[theme]
    _paint_ground(image, scene, view, theme)
    _paint_voxels(image, scene.grid, voxels.index, rgb, view)
    _paint_flat(image, car_outline(scene)[None], np.array(CAR[theme]), view)
    blocks = image.reshape(size_wh[1], smooth, size_wh[0], smooth, 3)
    return blocks.mean(axis=(1, 3)).astype(np.uint8) if smooth > 1 else image


def birds_eye(
    scene: VoxelScene,
    layer: str | None = None,
    *,
    truth: bool = False,
    theme: Theme = "light",
    scale: int = 3,
) -> UInt8[np.ndarray, "H W 3"]:
    """The highest voxel of every column from above, ``scale`` pixels each: forward is up, left is left."""
    voxels = scene.voxels(truth)
    rgb = layer_colors(layer_named(voxels, layer), len(voxels.index), theme)
    x_count, y_count, z_count = scene.grid.shape
    image = np.empty((x_count, y_count, 3), dtype=np.uint8)
    image[:] = BACKGROUND[theme]
    order = np.argsort(voxels.index[:, 2], kind="stable")  # the highest is written last and stays
    x, y, z = voxels.index[order].T
    light = 0.72 + 0.28 * z / max(1, z_count - 1)
    image[x, y] = (rgb[order] * light[:, None]).astype(np.uint8)
    # rows x, columns y -> ego: x up, y to the left; lidar: y up, x to the right.
    image = image[::-1, ::-1] if scene.grid.frame == "ego" else image.transpose(1, 0, 2)[::-1]
    return np.ascontiguousarray(image.repeat(scale, axis=0).repeat(scale, axis=1))


def save_png(image: UInt8[np.ndarray, "H W 3"], path: Path | str) -> Path:
    """Write a picture and return its path.

    Raises:
        DataError: the file cannot be written.
    """
    from PIL import Image

    # Optimising takes 3 times as long for 2 %.
    return write_atomically(Path(path), lambda file: Image.fromarray(image).save(file, "PNG"), "picture")


def layer_colors(layer: Layer | None, count: int, theme: Theme) -> UInt8[np.ndarray, "N 3"]:
    """RGB of every voxel; grey without a layer."""
    if layer is None:
        return np.full((count, 3), PLAIN, dtype=np.uint8)
    if isinstance(layer, ClassLayer):
        return layer.palette[layer.label]
    return heat_ramp(theme)[quantize(layer.score)[0]]


def dense(grid: VoxelGrid, index: Int[np.ndarray, "N 3"]) -> Bool[np.ndarray, "X2 Y2 Z2"]:
    """Where voxels are, with one free voxel on every side of the grid."""
    volume = np.zeros([n + 2 for n in grid.shape], dtype=bool)
    volume[tuple((index + 1).T)] = True
    return volume


# -------------------------------------------------------------------------------------------------- painting


def _paint_voxels(
    image: UInt8[np.ndarray, "H W 3"],
    grid: VoxelGrid,
    index: Int[np.ndarray, "N 3"],
    rgb: UInt8[np.ndarray, "N 3"],
    view: Viewpoint,
) -> None:
    """Painter's algorithm, exact on a lattice.

    Seen from the eye, a voxel can only hide another that is at least as far along every axis. Sorting by the
    distance along x, then y, then z is such an order, so no depth buffer is needed.
    """
    size = np.asarray(grid.voxel_size_m)
    steps = (centers(grid, index) - view.eye) / size
    order = np.lexsort(-np.abs(np.round(steps, 6)).T[::-1])
    index, steps, rgb = index[order], steps[order], rgb[order]
    occupied = dense(grid, index)
    rank, corners, shades = [], [], []
    for normal, around, light in FACES:
        axis = int(np.argmax(np.abs(normal)))
        faces_eye = steps[:, axis] * normal[axis] < -0.5  # the eye lies outside the plane of this face
        front = index + 1 + np.array(normal)
        rows = np.flatnonzero(faces_eye & ~occupied[tuple(front.T)])
        rank.append(rows)
        corners.append(centers(grid, index[rows])[:, None] + (np.array(around) - 0.5) * size)
        shades.append(light * _openness(occupied, front[rows], axis))
    order = np.argsort(np.concatenate(rank), kind="stable")
    xyz, shade = np.concatenate(corners)[order], np.concatenate(shades)[order]
    uv, _ = view.project(xyz.reshape(-1, 3), (image.shape[1], image.shape[0]))
    lit = (rgb[np.concatenate(rank)[order]] * shade[:, None]).astype(np.uint8)
    paint(image, uv.reshape(-1, 4, 2), lit)


def _openness(occupied: Bool[np.ndarray, "X Y Z"], front: Int[np.ndarray, "F 3"], axis: int) -> Float[np.ndarray, "F"]:
    """1 for a face in the open, less where voxels stand around the cell in front of it."""
    around = [a for a in range(3) if a != axis]
    closed = np.zeros(len(front))
    for a in around:
        for step in (-1, 1):
            beside = front.copy()
            beside[:, a] = np.clip(beside[:, a] + step, 0, occupied.shape[a] - 1)
            closed += occupied[tuple(beside.T)]
    return 1.0 - 0.09 * closed


def _paint_ground(
    image: UInt8[np.ndarray, "H W 3"], scene: VoxelScene, view: Viewpoint, theme: Theme, every_m: int = 10
) -> None:
    """Thin lines every ten metres, in pieces so that only what lies behind the eye is left out."""
    lower, upper = np.asarray(scene.grid.lower_m), np.asarray(scene.grid.upper_m)
    half = 0.0008 * view.distance_m
    strips = []
    for axis in (0, 1):
        across = np.arange(np.ceil(lower[axis] / every_m) * every_m, upper[axis] + 1e-6, every_m)
        along = np.linspace(lower[1 - axis], upper[1 - axis], 25)
        strip = np.empty((len(across), 24, 4, 3))
        strip[..., axis] = across[:, None, None] + half * np.array([-1, -1, 1, 1])
        strip[..., 1 - axis] = np.stack([along[:-1], along[1:], along[1:], along[:-1]], axis=-1)
        strip[..., 2] = scene.ground_m
        strips.append(strip.reshape(-1, 4, 3))
    ink = 0.7 * np.array(BACKGROUND[theme]) + 0.3 * np.array(MUTED[theme])
    _paint_flat(image, np.concatenate(strips), ink, view)


def _paint_flat(
    image: UInt8[np.ndarray, "H W 3"], xyz: Float[np.ndarray, "F K 3"], rgb: np.ndarray, view: Viewpoint
) -> None:
    uv, _ = view.project(xyz.reshape(-1, 3), (image.shape[1], image.shape[0]))
    paint(image, uv.reshape(*xyz.shape[:2], 2), np.tile(rgb.astype(np.uint8), (len(xyz), 1)))


def car_outline(scene: VoxelScene) -> Float[np.ndarray, "3 3"]:
    """A triangle on the ground that points where the car drives, in metres of the grid."""
    ahead = forward_rad(scene.grid)
    forward, left = np.array([np.cos(ahead), np.sin(ahead)]), np.array([-np.sin(ahead), np.cos(ahead)])
    flat = np.stack([2.4 * forward, -1.2 * forward + 1.1 * left, -1.2 * forward - 1.1 * left])
    return np.concatenate([flat, np.full((3, 1), scene.ground_m + 0.1)], axis=1)
