"""Exact ray casting with a z-buffer: every shape is tried only where its bounding box can be seen.

``cast_camera``, ``cast_lidar`` and ``cast_sun`` return the ray parameter of the first hit and the row of its
shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexivox.data.synthetic.shapes import PLANE, Array, Shapes, intersect

NEAR_M = 0.05
NOTHING = -1
_EDGES = np.array([(0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7)])


@dataclass(frozen=True, slots=True)
class Hits:
    """First hits of a sensor's rays: ``t`` (infinite for none) and shape row (``NOTHING`` for none)."""

    t: Array
    row: Array


def pixel_rays(image_from_cam: Array, image_hw: tuple[int, int]) -> Array:
    """Directions ``(3, H, W)`` through pixel centres, with z = 1, so that the ray parameter is the depth."""
    height, width = image_hw
    x = (np.arange(width) + 0.5 - image_from_cam[0, 2]) / image_from_cam[0, 0]
    y = (np.arange(height) + 0.5 - image_from_cam[1, 2]) / image_from_cam[1, 1]
    grid_y, grid_x = np.meshgrid(y, x, indexing="ij")
    return np.stack([grid_x, grid_y, np.ones_like(grid_x)])


@np.errstate(all="ignore")
def cast_camera(
    shapes: Shapes, corners: Array, rotation: Array, origin: Array, image_from_cam: Array, rays: Array
) -> Hits:
    """Depth along the optical axis and shape of every pixel.

    ``rotation`` and ``origin`` are world from cam, ``rays (3, H, W)`` the turned :func:`pixel_rays`.
    """
    cam = (corners - origin) @ rotation
    windows = _image_windows(shapes, cam, image_from_cam, rays.shape[1:])
    nearest = np.where(shapes.kind == PLANE, 0.0, cam[..., 2].min(axis=1))
    hits = Hits(np.full(rays.shape[1:], np.inf, np.float32), np.full(rays.shape[1:], NOTHING, np.int32))
    for row in np.argsort(nearest, kind="stable").tolist():
        top, bottom, left, right = windows[row].tolist()
        if top < bottom and left < right:
            window = (slice(top, bottom), slice(left, right))
            _cast(hits, shapes, row, origin, rays, window, float(nearest[row]))
    return hits


def _cast(
    hits: Hits,
    shapes: Shapes,
    row: int,
    origin: Array,
    rays: Array,
    window: tuple[slice, slice],
    nearest: float,
) -> None:
    """Try one shape in its window, unless everything there is nearer than the shape can be."""
    before = hits.t[window]
    if before.max() <= nearest:
        return
    t = intersect(shapes, row, origin, rays[:, window[0], window[1]].reshape(3, -1)).reshape(before.shape)
    nearer = t < before
    before[nearer] = t[nearer]
    hits.row[window][nearer] = row


def _image_windows(shapes: Shapes, cam: Array, image_from_cam: Array, image_hw: tuple[int, ...]) -> Array:
    """Pixel bounds ``(N, 4)`` top, bottom, left, right (half-open) of boxes with corners ``cam (N, 8, 3)``.

    Boxes that reach behind the camera are cut at the near plane first.
    """
    start, end = cam[:, _EDGES[:, 0]], cam[:, _EDGES[:, 1]]
    crosses = (start[..., 2] > NEAR_M) != (end[..., 2] > NEAR_M)
    share = (NEAR_M - start[..., 2]) / (end[..., 2] - start[..., 2])
    cut = start + np.where(crosses, share, 0.0)[..., None] * (end - start)
    points = np.concatenate([cam, cut], axis=1)
    valid = np.concatenate([cam[..., 2] > NEAR_M, crosses], axis=1)
    z = np.where(valid, np.maximum(points[..., 2], NEAR_M), 1.0)
    bounds = np.empty((len(shapes), 4), dtype=np.int64)
    for column, axis, size in ((2, 0, image_hw[1]), (0, 1, image_hw[0])):
        pixel = image_from_cam[axis, axis] * points[..., axis] / z + image_from_cam[axis, 2]
        low = np.where(valid, pixel, np.inf).min(axis=1)
        high = np.where(valid, pixel, -np.inf).max(axis=1)
        bounds[:, column] = np.clip(np.floor(np.clip(low, -1, size + 1) - 0.5), 0, size)
        bounds[:, column + 1] = np.clip(np.ceil(np.clip(high, -1, size + 1) + 0.5), 0, size)
    bounds[shapes.kind == PLANE] = (0, image_hw[0], 0, image_hw[1])
    return bounds


# ------------------------------------------------------------------------------------------------------ LiDAR


@np.errstate(all="ignore")
def cast_lidar(
    shapes: Shapes, corners: Array, rotation: Array, origin: Array, directions: Array, elevation_rad: Array
) -> Hits:
    """Range and shape of every beam; ``directions (3, rings, azimuths)`` are unit vectors of the sensor.

    Column a points ``2 pi a / azimuths`` clockwise from forward (+y); elevations grow with the ring.
    """
    _, num_rings, num_azimuths = directions.shape
    rays = (rotation @ directions.reshape(3, -1)).reshape(directions.shape)
    hits = Hits(np.full((num_rings, num_azimuths), np.inf), np.full((num_rings, num_azimuths), NOTHING, np.int32))
    local = (corners - origin) @ rotation
    nearest = _ground_distance(local)
    rings, columns = _lidar_windows(shapes, local, elevation_rad, num_azimuths)
    for row in np.argsort(nearest, kind="stable").tolist():
        low, high = rings[row].tolist()
        start, count = columns[row].tolist()
        for left, right in _unwrapped(start, count, num_azimuths):
            if low < high:
                window = (slice(low, high), slice(left, right))
                _cast(hits, shapes, row, origin, rays, window, float(nearest[row]))
    return hits


def _ground_distance(local: Array) -> Array:
    """Least horizontal distance ``(N,)`` of boxes with corners ``(N, 8, 3)`` from the sensor."""
    low, high = local.min(axis=1), local.max(axis=1)
    return np.hypot(*np.maximum(np.maximum(low, -high), 0.0).T[:2])


def _unwrapped(start: int, count: int, size: int) -> list[tuple[int, int]]:
    if start + count <= size:
        return [(start, start + count)]
    return [(start, size), (0, start + count - size)]


def _lidar_windows(shapes: Shapes, corners: Array, elevation_rad: Array, num_azimuths: int) -> tuple[Array, Array]:
    """Ring bounds ``(N, 2)``, and column start and count ``(N, 2)``, that surely cover each box."""
    low, high = corners.min(axis=1), corners.max(axis=1)
    nearest = _ground_distance(corners)
    farthest = np.hypot(*np.maximum(np.abs(low), np.abs(high)).T[:2])
    top = np.arctan2(high[:, 2], np.where(high[:, 2] > 0, nearest, farthest))
    bottom = np.arctan2(low[:, 2], np.where(low[:, 2] > 0, farthest, nearest))
    rings = np.stack(
        [np.searchsorted(elevation_rad, bottom - 1e-6), np.searchsorted(elevation_rad, top + 1e-6)], axis=1
    )
    angle = np.arctan2(corners[..., 0], corners[..., 1])
    middle = np.arctan2(corners[..., 0].mean(axis=1), corners[..., 1].mean(axis=1))
    offset = (angle - middle[:, None] + np.pi) % (2 * np.pi) - np.pi
    step = 2 * np.pi / num_azimuths
    first = np.floor((middle + offset.min(axis=1)) / step).astype(np.int64)
    last = np.ceil((middle + offset.max(axis=1)) / step).astype(np.int64)
    columns = np.stack([first % num_azimuths, np.minimum(last - first + 1, num_azimuths)], axis=1)
    columns[(nearest <= 0) | (shapes.kind == PLANE)] = (0, num_azimuths)
    rings[shapes.kind == PLANE] = (0, len(elevation_rad))
    return rings, columns


# -------------------------------------------------------------------------------------------------------- sun


@dataclass(frozen=True, slots=True)
class ShadowMap:
    """How far up the sun's ray the last occluder of each ground cell lies (0: nothing above)."""

    lower: Array  # (2,) corner of the map on the ground
    cell_m: float
    reach_m: Array  # (n, n)
    to_sun: Array  # (3,)

    def lit_share(self, xyz: Array, bias_m: float = 0.25) -> Array:
        """Share of four neighbouring rays by which points ``(3, n)`` see the sun; 1 off the map."""
        climb = xyz[2] / self.to_sun[2]
        size, share = len(self.reach_m), np.zeros(xyz.shape[1], np.float32)
        x = (xyz[0] - climb * self.to_sun[0] - self.lower[0]) / self.cell_m
        y = (xyz[1] - climb * self.to_sun[1] - self.lower[1]) / self.cell_m
        is_off = (x < 1) | (x >= size - 1) | (y < 1) | (y >= size - 1)
        x, y = np.clip(x, 1, size - 2), np.clip(y, 1, size - 2)
        for shift_x, shift_y in ((-0.6, -0.2), (0.2, -0.6), (0.6, 0.2), (-0.2, 0.6)):
            cell = (x + shift_x).astype(np.int32), (y + shift_y).astype(np.int32)
            share += 0.25 * (self.reach_m[cell] < climb + bias_m)
        return np.where(is_off, np.float32(1.0), share)


@np.errstate(all="ignore")
def cast_sun(
    shapes: Shapes, corners: Array, to_sun: Array, middle: Array, half_m: float = 55.0, cell_m: float = 0.25
) -> ShadowMap:
    """Shadows around ``middle (2,)``: parallel rays fall from the sun onto the cells of the ground."""
    size = round(2 * half_m / cell_m)
    lower = middle - half_m
    ticks = (np.arange(size) + 0.5) * cell_m
    top_m = 100.0
    reach = np.full((size, size), top_m, np.float32)
    feet = corners[..., :2] - corners[..., 2:] / to_sun[2] * to_sun[:2]
    first = np.clip(np.floor((feet.min(axis=1) - lower) / cell_m), 0, size).astype(np.int64)
    last = np.clip(np.ceil((feet.max(axis=1) - lower) / cell_m), 0, size).astype(np.int64)
    down = -to_sun[:, None]
    for row in np.flatnonzero((first < last).all(axis=1) & (shapes.kind != PLANE)).tolist():
        x, y = (ticks[first[row, a] : last[row, a]] + lower[a] for a in range(2))
        foot = np.stack([np.repeat(x, len(y)), np.tile(y, len(x)), np.zeros(len(x) * len(y))])
        t = intersect(shapes, row, foot - top_m * down, np.broadcast_to(down, foot.shape))
        window = reach[first[row, 0] : last[row, 0], first[row, 1] : last[row, 1]]
        np.minimum(window, t.reshape(window.shape), out=window)
    return ShadowMap(lower, cell_m, np.float32(top_m) - reach, to_sun)
