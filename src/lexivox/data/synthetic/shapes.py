"""The solids of the world: four kinds of canonical shape under a rotation and a stretch, with exact ray hits.

A shape's canonical coordinates are ``q = (xyz - center) @ rotation / half``. In them it is one of

* ``BOX``: |z| <= 1, |x| <= 1 - taper_x (z + 1) / 2, |y| <= 1 - taper_y (z + 1) / 2 (a box, a roof, a cabin);
* ``ROUND``: |z| <= 1, hypot(x, y) <= 1 - taper_x (z + 1) / 2 (a cylinder, a cone);
* ``BALL``: |q| <= 1 (an ellipsoid);
* ``PLANE``: z = 0 without end, seen from above (the ground).

Ray parameters survive the change of coordinates, so a hit is found there. Rays are ``(3, n)`` arrays: rows of
one axis lie together in memory, which is what makes plain numpy fast enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

Array = np.ndarray
Number = float | int
Colour = tuple[Number, Number, Number]
Xyz = tuple[Number, Number, Number]

BOX, ROUND, BALL, PLANE = range(4)
NUM_PARAMS = 6


class Shape(NamedTuple):
    """One solid as the builders write it down; metres, in the frame of its object."""

    kind: int
    center: Xyz
    half: Xyz
    material: int
    concept: int
    colour: Colour
    accent: Colour = (0.5, 0.5, 0.5)
    taper: tuple[Number, Number] = (0.0, 0.0)
    rotation: Array = np.eye(3)
    params: tuple[Number, ...] = ()


@dataclass(frozen=True, slots=True)
class Shapes:
    """N solids, one row each. ``raw`` is the lidarseg id of the owner (0: follows the concept)."""

    kind: Array  # (N,)
    center: Array  # (N, 3)
    rotation: Array  # (N, 3, 3) world from shape
    half: Array  # (N, 3)
    taper: Array  # (N, 2)
    material: Array  # (N,)
    concept: Array  # (N,)
    colour: Array  # (N, 3)
    accent: Array  # (N, 3)
    params: Array  # (N, NUM_PARAMS)
    raw: Array  # (N,)
    track: Array  # (N,) 0 = no actor
    velocity: Array  # (N, 2) m/s in the world

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: Array) -> Shapes:
        return Shapes(*(getattr(self, f.name)[rows] for f in fields(self)))

    def corners(self) -> Array:
        """Corners ``(N, 8, 3)`` of the oriented bounding boxes."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
        offset = np.einsum("nij,nkj->nki", self.rotation, signs[None] * self.half[:, None, :])
        return self.center[:, None, :] + offset


def stack(shapes: Sequence[Shape], raw: int = 0, track: int = 0) -> Shapes:
    """Rows of ``Shape`` as one ``Shapes``; all belong to the same actor, or to none."""
    n = len(shapes)
    params = np.zeros((n, NUM_PARAMS))
    for row, shape in zip(params, shapes, strict=True):
        row[: len(shape.params)] = shape.params
    return Shapes(
        kind=np.array([s.kind for s in shapes], dtype=np.int64),
        center=np.array([s.center for s in shapes], dtype=np.float64).reshape(n, 3),
        rotation=np.array([s.rotation for s in shapes], dtype=np.float64).reshape(n, 3, 3),
        half=np.array([s.half for s in shapes], dtype=np.float64).reshape(n, 3),
        taper=np.array([s.taper for s in shapes], dtype=np.float64).reshape(n, 2),
        material=np.array([s.material for s in shapes], dtype=np.int64),
        concept=np.array([s.concept for s in shapes], dtype=np.uint8),
        colour=np.array([s.colour for s in shapes], dtype=np.float32).reshape(n, 3),
        accent=np.array([s.accent for s in shapes], dtype=np.float32).reshape(n, 3),
        params=params,
        raw=np.full(n, raw, dtype=np.uint8),
        track=np.full(n, track, dtype=np.int64),
        velocity=np.zeros((n, 2)),
    )


def join(parts: Sequence[Shapes]) -> Shapes:
    return Shapes(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Shapes)))


def yaw_matrix(yaw_rad: float) -> Array:
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def place(
    shapes: Shapes,
    xyz: Sequence[float] | Array,
    yaw_rad: float,
    velocity: Sequence[float] | Array = (0.0, 0.0),
) -> Shapes:
    """Turn an object about its own z axis and set it down at ``xyz``."""
    turn = yaw_matrix(yaw_rad)
    values = {f.name: getattr(shapes, f.name) for f in fields(Shapes)}
    values["center"] = shapes.center @ turn.T + np.asarray(xyz)
    values["rotation"] = turn @ shapes.rotation
    values["velocity"] = np.broadcast_to(np.asarray(velocity, dtype=np.float64), (len(shapes), 2))
    return Shapes(**values)


# ------------------------------------------------------------------------------------------------------- rays


def intersect(shapes: Shapes, row: int, origin: Array, directions: Array) -> Array:
    """First hit of rays ``origin + t * directions`` (``(3,)`` or ``(3, n)`` and ``(3, n)``) with one shape.

    Returns ``t (n,)``, infinite where the ray misses; a ray that starts inside sees nothing. Misses go
    through divisions by zero and roots of negative numbers: callers mute those once, with ``np.errstate``.
    """
    matrix = (shapes.rotation[row] / shapes.half[row]).T
    center = shapes.center[row] if origin.ndim == 1 else shapes.center[row][:, None]
    o = (matrix @ (origin - center)).astype(directions.dtype)
    d = matrix.astype(directions.dtype) @ directions
    kind = shapes.kind[row]
    if kind == PLANE:
        return np.where(d[2] < 0, -o[2] / d[2], np.inf)
    if kind == BALL:
        return _hit_ball(o, d)
    if kind == ROUND:
        return _hit_round(o, d, float(shapes.taper[row, 0]))
    taper_x, taper_y = shapes.taper[row]
    if taper_x == taper_y == 0:
        return _hit_box(o, d)
    return _hit_tapered(o, d, float(taper_x), float(taper_y))


def _between(near: Array, far: Array) -> Array:
    return np.where((near <= far) & (near > 0), near, np.inf)


def _hit_box(o: Array, d: Array) -> Array:
    near, far = np.full(d.shape[1:], -np.inf, d.dtype), np.full(d.shape[1:], np.inf, d.dtype)
    for axis in range(3):
        inverse = 1.0 / d[axis]
        low, high = (-1.0 - o[axis]) * inverse, (1.0 - o[axis]) * inverse
        np.maximum(near, np.minimum(low, high), out=near)
        np.minimum(far, np.maximum(low, high), out=far)
    return _between(near, far)


def _hit_tapered(o: Array, d: Array, taper_x: float, taper_y: float) -> Array:
    """Clip by the six planes ``s * x + a * z <= 1 - a`` with a = taper / 2."""
    near, far = np.full(d.shape[1:], -np.inf, d.dtype), np.full(d.shape[1:], np.inf, d.dtype)
    for axis, taper in ((0, taper_x), (1, taper_y), (2, 0.0)):
        a = taper / 2
        for sign in (1.0, -1.0):
            slope = sign * d[axis] + (a * d[2] if a else 0.0)
            room = 1.0 - a - (sign * o[axis] + (a * o[2] if a else 0.0))
            t = room / slope
            near = np.where(slope < 0, np.maximum(near, t), near)
            far = np.where(slope > 0, np.minimum(far, t), far)
    return _between(near, far)


def _hit_ball(o: Array, d: Array) -> Array:
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1.0
    root = b * b - a * c
    t = (-b - np.sqrt(root)) / a
    return np.where((root >= 0) & (t > 0), t, np.inf)


def _hit_round(o: Array, d: Array, taper: float) -> Array:
    k = taper / 2
    radius, slope = 1.0 - k * (o[2] + 1.0), -k * d[2]  # radius along the ray: radius + slope * t
    a = d[0] * d[0] + d[1] * d[1] - slope * slope
    b = o[0] * d[0] + o[1] * d[1] - radius * slope
    c = o[0] * o[0] + o[1] * o[1] - radius * radius
    root = np.sqrt(b * b - a * c)
    best = np.full(d.shape[1:], np.inf, d.dtype)
    for t in ((-b - root) / a, (-b + root) / a):
        on_side = (np.abs(o[2] + t * d[2]) <= 1.0) & (radius + slope * t >= 0) & (t > 0)
        best = np.where(on_side, np.minimum(best, t), best)
    for z in (-1.0, 1.0):
        t = (z - o[2]) / d[2]
        limit = 1.0 - k * (z + 1.0)
        x, y = o[0] + t * d[0], o[1] + t * d[1]
        best = np.where((x * x + y * y <= limit * limit) & (t > 0), np.minimum(best, t), best)
    return best
