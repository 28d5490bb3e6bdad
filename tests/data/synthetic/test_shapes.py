"""Ray hits of the canonical shapes against marching along the ray."""

from __future__ import annotations

import numpy as np
import pytest

from lexivox.data.synthetic.render import cast_lidar
from lexivox.data.synthetic.sensors import make_rig
from lexivox.data.synthetic.shapes import BALL, BOX, ROUND, Array, Shape, Shapes, intersect, stack, yaw_matrix


def _is_inside(shape: Shape, xyz: Array) -> Array:
    """Slow twin: the definition of the solids, point by point; ``xyz (n, 3)``."""
    q = (xyz - np.array(shape.center)) @ shape.rotation / np.array(shape.half)
    width_x, width_y = (1 - t * (q[:, 2] + 1) / 2 for t in shape.taper)
    if shape.kind == BALL:
        return (q**2).sum(axis=1) <= 1
    if shape.kind == ROUND:
        return (np.hypot(q[:, 0], q[:, 1]) <= width_x) & (np.abs(q[:, 2]) <= 1)
    return (np.abs(q[:, 0]) <= width_x) & (np.abs(q[:, 1]) <= width_y) & (np.abs(q[:, 2]) <= 1)


SHAPES = {
    "box": Shape(BOX, (4.0, 0.5, 0.2), (1.0, 0.6, 0.8), 0, 0, (0, 0, 0), rotation=yaw_matrix(0.4)),
    "roof": Shape(BOX, (4.0, 0.5, 0.2), (1.0, 0.9, 0.8), 0, 0, (0, 0, 0), taper=(0.3, 0.9)),
    "cylinder": Shape(ROUND, (4.0, 0.0, 0.1), (0.8, 0.8, 0.7), 0, 0, (0, 0, 0), rotation=yaw_matrix(1.0)[:, [2, 0, 1]]),
    "cone": Shape(ROUND, (4.0, 0.0, 0.1), (0.9, 0.9, 0.9), 0, 0, (0, 0, 0), taper=(0.85, 0.0)),
    "ball": Shape(BALL, (4.0, 0.0, 0.1), (0.9, 0.5, 0.7), 0, 0, (0, 0, 0), rotation=yaw_matrix(0.7)),
}


@pytest.mark.parametrize("name", SHAPES)
@np.errstate(all="ignore")
def test_hits_equal_marching(name: str) -> None:
    shape, rng = SHAPES[name], np.random.default_rng(3)
    rays = np.stack([np.ones(300), rng.uniform(-0.35, 0.35, 300), rng.uniform(-0.3, 0.3, 300)])
    found = intersect(stack([shape]), 0, np.zeros(3), rays)
    steps = np.arange(2.0, 6.0, 0.002)
    for ray, t in zip(rays.T, found, strict=True):
        inside = _is_inside(shape, steps[:, None] * ray)
        if inside.sum() > 2:
            assert abs(t - steps[np.argmax(inside)]) < 0.0041
        elif np.isfinite(t):  # a graze shorter than a step
            assert _is_inside(shape, (t + 1e-6) * ray[None]).all()
    assert np.isfinite(found).sum() > 20
    assert np.isinf(found).sum() > 20


def _scattered(rng: np.random.Generator) -> Shapes:
    rows = []
    for _ in range(60):
        center = tuple(rng.uniform(-20, 20, 3) * (1, 1, 0.15))
        kind, half = int(rng.integers(3)), tuple(rng.uniform(0.2, 3.0, 3))
        half = (half[0], half[0], half[2]) if kind == ROUND else half
        taper = tuple(rng.uniform(0, 0.9, 2))
        rows.append(Shape(kind, center, half, 0, 0, (0, 0, 0), taper=taper, rotation=yaw_matrix(rng.uniform(0, 6))))
    return stack(rows)


@np.errstate(all="ignore")
def test_lidar_windows_lose_nothing() -> None:
    """Casting with windows equals trying every shape on every beam."""
    rng = np.random.default_rng(11)
    shapes, rig = _scattered(rng), make_rig(rng, (16, 16), 180)
    turn, origin = yaw_matrix(0.3), np.array([0.3, -0.2, 0.1])
    hits = cast_lidar(shapes, shapes.corners(), turn, origin, rig.lidar_directions, rig.elevation_rad)
    rays = turn @ rig.lidar_directions.reshape(3, -1)
    brute = np.min([intersect(shapes, i, origin, rays) for i in range(len(shapes))], axis=0)
    np.testing.assert_allclose(hits.t.reshape(-1), brute)
