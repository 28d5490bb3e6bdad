"""The smallest rectangle: known ones, turned ones, and the brute-force area."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import grounding as slow

from lexivox.errors import ShapeError
from lexivox.geometry.footprint import convex_hull, min_area_rectangle


def test_a_rectangle_along_the_axes():
    found = min_area_rectangle(torch.tensor([[1.0, 1.0], [5.0, 1.0], [5.0, 3.0], [1.0, 3.0], [2.0, 2.0]]))
    assert (found.center, found.size_m, found.yaw_rad) == ((3.0, 2.0), (4.0, 2.0), 0.0)
    upright = min_area_rectangle(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 6.0], [0.0, 6.0]]))
    assert upright.size_m == pytest.approx((6.0, 1.0))
    assert upright.yaw_rad == pytest.approx(math.pi / 2)


@given(st.floats(-1.5, 1.5), st.floats(1.0, 9.0), st.floats(0.1, 0.9))
@settings(max_examples=50, deadline=None)
def test_a_turned_rectangle_is_found_again(yaw, length, ratio):
    across, along = torch.meshgrid(torch.linspace(-0.5, 0.5, 4), torch.linspace(-0.5, 0.5, 5), indexing="ij")
    xy = torch.stack([along.ravel() * length, across.ravel() * length * ratio], 1).double()
    turn = torch.tensor([[math.cos(yaw), math.sin(yaw)], [-math.sin(yaw), math.cos(yaw)]], dtype=torch.float64)
    found = min_area_rectangle(xy @ turn + torch.tensor([7.0, -3.0]))
    assert found.center == pytest.approx((7.0, -3.0), abs=1e-6)
    assert found.size_m == pytest.approx((length, length * ratio), rel=1e-6)
    assert math.cos(2 * (found.yaw_rad - yaw)) == pytest.approx(1.0, abs=1e-6)
    assert -math.pi / 2 < found.yaw_rad <= math.pi / 2


def test_no_direction_has_less_area():
    for seed in range(5):
        xy = torch.randn(30, 2, generator=torch.Generator().manual_seed(seed)).double()
        found = min_area_rectangle(xy)
        assert math.prod(found.size_m) <= slow.smallest_area(xy.numpy()) + 1e-6
        assert math.prod(found.size_m) == pytest.approx(slow.smallest_area(xy.numpy()), rel=1e-3)


def test_points_and_lines():
    point = min_area_rectangle(torch.tensor([[2.0, 3.0]]))
    assert (point.center, point.size_m, point.yaw_rad) == ((2.0, 3.0), (0.0, 0.0), 0.0)
    line = min_area_rectangle(torch.tensor([[0.0, 0.0], [3.0, 3.0], [1.0, 1.0]]))
    assert line.size_m == pytest.approx((math.sqrt(18), 0.0), abs=1e-9)
    assert line.yaw_rad == pytest.approx(math.pi / 4)
    with pytest.raises(ShapeError, match="at least one point"):
        min_area_rectangle(torch.zeros(0, 2))


def test_the_hull_has_corners_only_and_turns_left():
    grid = torch.tensor([[x, y] for x in range(4) for y in range(3)]).double()
    hull = convex_hull(grid)
    assert {tuple(p) for p in hull.tolist()} == {(0, 0), (3, 0), (3, 2), (0, 2)}
    x, y = hull.T.numpy()
    assert 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) == 6.0
