"""The walk of rays against the scalar twin, and rays that are hard to do right."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import rendering

from lexivox.geometry.grid import VoxelGrid
from lexivox.ops import walk as walks
from lexivox.ops.traversal import has_compiled_kernels
from lexivox.ops.walk import Segments, unique_rows, walk

GRID = VoxelGrid((-2.0, 1.0, -1.5), (0.5, 1.0, 0.75), (8, 4, 5), "lidar")  # x -2..2, y 1..5, z -1.5..2.25
PATHS = [
    pytest.param("torch"),
    pytest.param(
        "numba", marks=pytest.mark.skipif(not has_compiled_kernels(), reason='no numba; pip install "lexivox[fast]"')
    ),
]
on_border = st.integers(-12, 20).map(lambda k: k * 0.25)
coordinate = st.one_of(st.floats(-8, 12, allow_subnormal=False), on_border)
place = st.tuples(coordinate, coordinate, coordinate)
step = st.one_of(st.floats(-1, 1, allow_subnormal=False), st.sampled_from([0.0, 1.0, -1.0, 0.5]))
direction = st.tuples(step, step, step).filter(lambda d: math.hypot(*d) > 1e-3)


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    monkeypatch.setattr(walks, "has_compiled_kernels", lambda: request.param == "numba")
    return request.param


def one(origin, towards, far_m=math.inf, grid=GRID):
    rays = (torch.tensor([x], dtype=torch.float64) for x in (origin, towards))
    return walk(grid, *rays, far_m)


def listed(segments):
    """Voxels as (x, y, z), distances as tuples."""
    voxels = [tuple(i) for i in GRID.index_from_flat(segments.voxel).tolist()]
    return voxels, segments.start_m.tolist(), segments.stop_m.tolist()


@settings(max_examples=300, deadline=None)
@given(place, direction, st.sampled_from([0.0, 0.3, 2.0, 7.5, math.inf]))
@pytest.mark.parametrize("compiled", PATHS)
def test_equal_to_the_scalar_twin(compiled, origin, towards, far_m):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks, "has_compiled_kernels", lambda: compiled == "numba")
        segments = one(origin, towards, far_m)
    expected = rendering.segments(GRID.lower_m, GRID.voxel_size_m, GRID.shape, origin, towards, far_m)
    voxels, start_m, stop_m = listed(segments)
    # A ray along a border or through a corner may round either way, in pieces without length: compare the others.
    ours = [(v, a, b) for v, a, b in zip(voxels, start_m, stop_m, strict=True) if b - a > 1e-7]
    theirs = [(v, a, b) for v, a, b in expected if b - a > 1e-7]
    assert [v for v, *_ in ours] == [v for v, *_ in theirs]
    assert [x for _, *ab in ours for x in ab] == pytest.approx([x for _, *ab in theirs for x in ab], abs=1e-6)


@pytest.mark.skipif(not has_compiled_kernels(), reason='no numba; pip install "lexivox[fast]"')
@pytest.mark.parametrize("threads", [1, 3])
def test_ten_thousand_rays_by_both_paths(threads, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    origins = torch.rand(10_000, 3, generator=generator) * 12 - 4
    towards = torch.randn(10_000, 3, generator=generator)
    towards[::7, 0], towards[::11, 1], towards[::13, 2] = 0.0, 0.0, 0.0
    origins[::3] = (origins[::3] * 4).round() / 4
    far_m = torch.rand(10_000, generator=generator) * 20
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    compiled = walk(GRID, origins, towards, far_m)
    monkeypatch.setattr(walks, "has_compiled_kernels", lambda: False)
    plain = walk(GRID, origins, towards, far_m)
    assert torch.equal(compiled.count, plain.count)
    assert torch.equal(compiled.voxel, plain.voxel)
    for name in ("start_m", "stop_m"):
        assert getattr(plain, name).dtype == torch.float32
        torch.testing.assert_close(getattr(compiled, name), getattr(plain, name), atol=1e-6, rtol=0.0)


def test_lengths_sum_to_the_clipped_ray_and_pieces_meet(path):
    generator = torch.Generator().manual_seed(1)
    origins = torch.rand(500, 3, generator=generator, dtype=torch.float64) * 10 - 4
    towards = torch.nn.functional.normalize(torch.randn(500, 3, generator=generator, dtype=torch.float64), dim=-1)
    segments = walk(GRID, origins, towards)
    lower, upper = origins.new_tensor(GRID.lower_m), origins.new_tensor(GRID.upper_m)
    a, b = (lower - origins) / towards, (upper - origins) / towards
    near, far = torch.minimum(a, b).amax(1).clamp_min(0), torch.maximum(a, b).amin(1)
    torch.testing.assert_close(segments.sum(segments.length_m), (far - near).clamp_min(0), atol=1e-9, rtol=0.0)
    same = segments.ray[1:] == segments.ray[:-1]
    assert torch.equal(segments.start_m[1:][same], segments.stop_m[:-1][same])
    torch.testing.assert_close(segments.exit_m, torch.where(far > near, far, 0.0), atol=1e-9, rtol=0.0)
    inside = GRID.flat_from_index(GRID.index_from_xyz(segments.middles(origins, towards)))
    assert (inside == segments.voxel)[segments.length_m > 1e-9].all()


def test_from_outside_through_and_out(path):
    # 3 m before the grid, along +x: four metres in eight pieces of half a metre
    voxels, start_m, stop_m = listed(one((-5.0, 1.5, 0.2), (2.0, 0.0, 0.0)))
    assert voxels == [(x, 0, 2) for x in range(8)]
    assert start_m == pytest.approx([3.0 + 0.5 * k for k in range(8)])
    assert stop_m == pytest.approx([3.5 + 0.5 * k for k in range(8)])


def test_from_inside_and_stopped_early(path):
    voxels, start_m, stop_m = listed(one((0.1, 1.5, 0.2), (-1.0, 0.0, 0.0), 0.75))
    assert voxels == [(4, 0, 2), (3, 0, 2), (2, 0, 2)]
    assert start_m == pytest.approx([0.0, 0.1, 0.6])
    assert stop_m == pytest.approx([0.1, 0.6, 0.75])


def test_on_a_face_the_ray_is_in_the_upper_voxel(path):
    assert listed(one((-1.5, 0.0, 0.0), (0.0, 1.0, 0.0)))[0] == [(1, y, 2) for y in range(4)]
    assert len(one((2.0, 0.0, 0.0), (0.0, 1.0, 0.0))) == 0  # in the grid's upper face, which is outside


def test_an_origin_on_a_corner_of_the_grid(path):
    towards = (0.5, 1.0, 0.75)  # along the diagonal of the voxels: three planes at once
    voxels, start_m, stop_m = listed(one((-2.0, 1.0, -1.5), towards))
    length = math.hypot(*towards)
    long = [(v, b - a) for v, a, b in zip(voxels, start_m, stop_m, strict=True) if b - a > 1e-9]
    assert [v for v, _ in long] == [(k, k, k) for k in range(4)]
    assert [metres for _, metres in long] == pytest.approx([length] * 4)


NAN, INF = math.nan, math.inf
HOPELESS = [
    ((9.0, 9.0, 9.0), (1.0, 0.0, 0.0), INF),  # beside the grid
    ((9.0, 3.0, 0.0), (1.0, 0.0, 0.0), INF),  # looks away from it
    ((-9.0, 3.0, 0.0), (1.0, 0.0, 0.0), 6.9),  # ends before it
    ((0.1, 3.0, 0.0), (0.0, 0.0, 0.0), INF),  # looks nowhere
    ((0.1, 3.0, 0.0), (NAN, 0.0, 1.0), INF),
    ((0.1, NAN, 0.0), (1.0, 0.0, 0.0), INF),
    ((0.1, INF, 0.0), (1.0, 0.0, 0.0), INF),
    ((0.1, 3.0, 0.0), (INF, 0.0, 1.0), INF),
    ((0.1, 3.0, 0.0), (1.0, 0.0, 0.0), NAN),
]


@pytest.mark.parametrize(("origin", "towards", "far_m"), HOPELESS)
def test_rays_that_touch_nothing_have_no_segments(path, origin, towards, far_m):
    segments = one(origin, towards, torch.tensor([far_m]))
    assert segments.count.tolist() == [0]
    assert len(segments) == 0
    assert segments.exit_m.tolist() == [0.0]


def test_a_broken_ray_changes_nothing_for_its_neighbours(path):
    origins = torch.tensor([[0.1, 1.5, 0.2], [NAN, 0.0, 0.0], [0.1, 1.5, 0.2]])
    towards = torch.tensor([[1.0, 0.0, 0.0]] * 3)
    segments = walk(GRID, origins, towards, torch.tensor([INF, 1.0, -3.0]))
    assert segments.count.tolist() == [4, 0, 1]  # a distance below 0 counts as 0: the origin's own voxel
    assert segments.ray.tolist() == [0, 0, 0, 0, 2]
    assert float(segments.length_m[-1]) == 0.0
    assert segments.exit_m.tolist() == pytest.approx([1.9, 0.0, 0.0], abs=1e-6)


def test_no_rays(path):
    segments = walk(GRID, torch.zeros(0, 3), torch.zeros(0, 3))
    assert (len(segments), segments.num_rays, len(segments.ray), len(segments.exit_m)) == (0, 0, 0, 0)
    assert segments.offsets.tolist() == [0]


def test_select_keeps_the_numbers_of_the_rays():
    segments = Segments(torch.tensor([2, 0, 1]), torch.tensor([4, 5, 6]), torch.arange(3.0), torch.arange(3.0) + 1)
    kept = segments.select(torch.tensor([False, True, True]))
    assert kept.count.tolist() == [1, 0, 1]
    assert kept.voxel.tolist() == [5, 6]
    assert kept.ray.tolist() == [0, 2]
    assert kept.sum(torch.tensor([3.0, 4.0])).tolist() == [3.0, 0.0, 4.0]


def test_rows_of_several_volumes():
    segments = Segments(torch.tensor([2, 0, 1]), torch.tensor([4, 5, 6]), torch.arange(3.0), torch.arange(3.0) + 1)
    assert segments.rows(torch.tensor([100, 0, 200])).tolist() == [104, 105, 206]


def test_unique_rows_are_those_of_torch():
    row = torch.randint(0, 30, (50,), generator=torch.Generator().manual_seed(0))
    rows, place = unique_rows(row, 40)
    expected_rows, expected_place = row.unique(return_inverse=True)
    assert torch.equal(rows, expected_rows)
    assert torch.equal(place, expected_place)
    assert [len(x) for x in unique_rows(row[:0], 40)] == [0, 0]
