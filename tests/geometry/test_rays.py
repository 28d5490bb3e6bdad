"""Exact traversal against brute force; clipping; sampling."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lexivox.geometry.grid import POP3D, VoxelGrid
from lexivox.geometry.rays import clip_to_box, sample_segments, traverse

GRID = VoxelGrid((-2.0, 1.0, -1.5), (0.5, 1.0, 0.75), (8, 4, 5), "lidar")  # x -2..2, y 1..5, z -1.5..2.25
anywhere = st.floats(-8, 12, allow_subnormal=False)
# Voxel borders and corners are where implementations differ: half of the coordinates lie on a plane.
on_border = st.integers(-12, 20).map(lambda k: k * 0.25)
coordinate = st.one_of(anywhere, on_border)
point = st.tuples(coordinate, coordinate, coordinate)


def visits(origin, end, grid=GRID):
    index, ray, length = traverse(
        grid, torch.tensor([origin], dtype=torch.float64), torch.tensor([end], dtype=torch.float64)
    )
    assert (ray == 0).all()
    return [tuple(i) for i in index.tolist()], length


def clipped_length(origin, end, grid=GRID):
    """Length inside the box, by intervals."""
    near, far = 0.0, 1.0
    for o, e, low, high in zip(origin, end, grid.lower_m, grid.upper_m, strict=True):
        if o == e:
            if not low <= o < high:
                return 0.0
        else:
            near, far = (
                max(near, min((low - o) / (e - o), (high - o) / (e - o))),
                min(far, max((low - o) / (e - o), (high - o) / (e - o))),
            )
    return max(far - near, 0.0) * math.dist(origin, end)


@settings(max_examples=150, deadline=None)
@given(point, point)
def test_traversal_equals_brute_force_stepping(origin, end):
    voxels, length = visits(origin, end)
    # Every voxel that small steps find deep inside (not within 1e-9 of a border) is listed ...
    steps = torch.linspace(0, 1, 3001, dtype=torch.float64)[:, None]
    begin, goal = torch.tensor([origin, end], dtype=torch.float64)
    xyz = begin * (1 - steps) + goal * steps
    coordinate = GRID.coordinate_from_xyz(xyz)
    is_deep = ((coordinate - coordinate.round()).abs() > 1e-9).all(-1) & GRID.contains(xyz)
    stepped = {tuple(i) for i in GRID.index_from_xyz(xyz[is_deep]).tolist()}
    assert stepped <= set(voxels)
    # ... and what is listed besides is shorter than two steps or runs along a border.
    step_m = math.dist(origin, end) / 3000
    on_plane = not bool(is_deep[1:-1].any())
    for voxel, metres in zip(voxels, length.tolist(), strict=True):
        assert on_plane or voxel in stepped or metres <= 2 * step_m + 1e-9


@settings(max_examples=200, deadline=None)
@given(point, point)
def test_lengths_sum_to_the_clipped_segment_and_steps_are_neighbours(origin, end):
    voxels, length = visits(origin, end)
    assert (length >= 0).all()
    assert math.isclose(float(length.sum()), clipped_length(origin, end), abs_tol=1e-9)
    assert len(set(voxels)) == len(voxels)
    for a, b in pairwise(voxels):
        assert sum(abs(p - q) for p, q in zip(a, b, strict=True)) == 1
    assert all(0 <= i < n for voxel in voxels for i, n in zip(voxel, GRID.shape, strict=True))


@settings(max_examples=100, deadline=None)
@given(point, point)
def test_ends_inside_lie_in_the_first_and_last_voxel(origin, end):
    voxels, _ = visits(origin, end)
    for xyz, place in ((origin, 0), (end, -1)):
        xyz = torch.tensor(xyz, dtype=torch.float64)
        if GRID.contains(xyz):
            assert voxels[place] == tuple(GRID.index_from_xyz(xyz).tolist())


def test_known_rays():
    # along +x through the middle of y voxel 0 and z voxel 2: 8 voxels of half a metre, 4 m of 10 m inside
    voxels, length = visits((-5.0, 1.5, 0.2), (5.0, 1.5, 0.2))
    assert voxels == [(x, 0, 2) for x in range(8)]
    assert length.tolist() == pytest.approx([0.5] * 8)
    # backwards along z, from above into the floor
    voxels, _ = visits((0.1, 4.5, 9.0), (0.1, 4.5, -9.0))
    assert voxels == [(4, 3, z) for z in (4, 3, 2, 1, 0)]
    # through an edge of voxels, x and y crossed together: x first, the voxel between has no length
    voxels, length = visits((-1.75, 1.5, 0.0), (-1.25, 2.5, 0.0))
    assert voxels == [(0, 0, 2), (1, 0, 2), (1, 1, 2)]
    assert length[1] == 0.0
    # on a border plane the ray belongs to the upper voxel, half-open cells
    assert visits((-1.5, 1.5, 0.0), (-1.5, 3.5, 0.0))[0] == [(1, 0, 2), (1, 1, 2), (1, 2, 2)]


def test_zero_length_outside_and_grazing_rays():
    assert visits((0.1, 1.1, 0.1), (0.1, 1.1, 0.1)) == ([(4, 0, 2)], torch.zeros(1, dtype=torch.float64))
    assert visits((9.0, 9.0, 9.0), (9.0, 9.0, 9.0))[0] == []
    assert visits((9.0, 1.5, 0.0), (9.0, 4.5, 0.0))[0] == []  # beside the box
    assert visits((2.0, 1.5, 0.0), (2.0, 4.5, 0.0))[0] == []  # in its upper face, which is outside
    assert visits((-5.0, 1.5, 0.0), (-3.0, 1.5, 0.0))[0] == []  # stops before it
    assert visits((-5.0, 1.5, 0.0), (-2.0, 1.5, 0.0))[0] == [(0, 0, 2)]  # ends on its lower face


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_broken_rays_are_dropped_and_the_others_keep_their_number(bad):
    origins = torch.tensor([[0.1, 1.1, 0.1], [bad, 1.1, 0.1], [0.1, 1.1, 0.1]])
    ends = torch.tensor([[bad, 1.1, 0.1], [0.1, 1.1, 0.1], [0.1, 1.2, 0.1]])
    index, ray, length = traverse(GRID, origins, ends)
    assert index.tolist() == [[4, 0, 2]]
    assert ray.tolist() == [2]
    assert length.tolist() == pytest.approx([0.1], abs=1e-6)


def test_no_rays():
    index, ray, length = traverse(GRID, torch.zeros(0, 3), torch.zeros(0, 3))
    assert index.shape == (0, 3)
    assert ray.shape == length.shape == (0,)


def test_clip_to_box_by_hand():
    lower, upper = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([2.0, 2.0, 2.0])
    origins = torch.tensor([[-1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 5.0, 1.0], [3.0, 1.0, 1.0]])
    directions = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    near, far, hit = clip_to_box(origins, directions, lower, upper)
    assert hit.tolist() == [True, True, False, False]
    assert near[:2].tolist() == [2.0, 0.0]
    assert far[:2].tolist() == [6.0, 1.0]


@pytest.mark.parametrize(
    ("end", "sampled", "dense"), [((10.0, -3.5, -1.2), 15, (16, 16)), ((49.0, 47.0, 2.0), 74, (94, 96))]
)
def test_published_sampling_misses_corners(end, sampled, dense):
    """Spec pop3d 11: distinct voxels; the first ray also touches one in its corner, at the origin."""
    origin, end = torch.zeros(1, 3), torch.tensor([end])
    voxels = {tuple(i) for i in sample_segments(POP3D, origin, end, 100)[0].tolist()}
    index, _, _ = traverse(POP3D, origin, end)
    assert len(voxels) == sampled
    assert dense[0] <= len(index) <= dense[1]
    assert voxels <= {tuple(i) for i in index.tolist()}
