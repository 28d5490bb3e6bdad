"""The compiled kernel and the torch fallback against the slow twin: equal voxel for voxel."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.rays import traverse
from lexivox.ops import traversal
from lexivox.ops.traversal import mark_free, mark_free_numba, mark_free_torch, mark_sampled
from tests.reference import voxel_rays as twin

GRID = VoxelGrid((-3.0, -1.0, 0.5), (0.5, 0.25, 1.0), (12, 10, 6), "ego")
needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
IMPLEMENTATIONS = [pytest.param(mark_free_numba, marks=needs_numba), mark_free_torch]

coordinate = st.one_of(
    st.floats(-9, 9, width=32, allow_subnormal=False),
    st.integers(-24, 40).map(lambda k: k * 0.25),  # on the planes of the grid: ties
    st.sampled_from([-3.0, 3.0, -1.0, 1.5, 0.5, 6.5, 1e6, -1e30]),
)
points = st.lists(st.tuples(coordinate, coordinate, coordinate), min_size=1, max_size=12)


def twin_mark_free(origins, ends):
    return torch.from_numpy(twin.mark_free(GRID.lower_m, GRID.voxel_size_m, GRID.shape, origins.numpy(), ends.numpy()))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_equal_to_the_twin_voxel_for_voxel(implementation, data):
    ends = torch.tensor(data.draw(points), dtype=torch.float32)
    origins = ends.flip(0).roll(1, 1) if data.draw(st.booleans()) else torch.tensor(data.draw(points)[0])
    assert torch.equal(implementation(GRID, origins, ends), twin_mark_free(origins.float(), ends))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_equal_to_the_twin_on_many_rays(implementation):
    generator = torch.Generator().manual_seed(3)
    ends = torch.rand(1500, 3, generator=generator) * 12 - 5
    origins = (torch.rand(1500, 3, generator=generator) * 48 - 20).round() / 4  # on borders
    assert torch.equal(implementation(GRID, origins, ends), twin_mark_free(origins, ends))


@settings(max_examples=60, deadline=None)
@given(points, points)
def test_traverse_lists_the_voxels_of_the_twin_in_order(starts, stops):
    num = min(len(starts), len(stops))
    origins, ends = torch.tensor(starts[:num]).double(), torch.tensor(stops[:num]).double()
    index, ray, length = traverse(GRID, origins, ends)
    for number in range(num):
        expected, _ = twin.walk(GRID.lower_m, GRID.voxel_size_m, GRID.shape, origins[number], ends[number])
        mine = ray == number
        assert [tuple(i) for i in index[mine].tolist()] == [voxel for voxel, _ in expected]
        assert length[mine].tolist() == pytest.approx([m for _, m in expected], abs=1e-9)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_small_cases_by_hand(implementation):
    def marked(origin, *ends):
        return implementation(GRID, torch.tensor(origin), torch.tensor(ends)).nonzero().tolist()

    # (x, y, z) voxels are 0.5 x 0.25 x 1 m from (-3, -1, 0.5)
    assert marked((-2.9, -0.9, 1.0), (-1.6, -0.9, 1.0)) == [[0, 0, 0], [1, 0, 0]]  # not (2, 0, 0)
    assert marked((-2.9, -0.9, 1.0), (-2.9, -0.9, 1.0)) == []  # zero length
    assert marked((-2.9, -0.9, 5.0), (-2.9, -0.9, 99.0)) == [[0, 0, 4], [0, 0, 5]]  # leaves the grid: all
    assert marked((50.0, 50.0, 50.0), (60.0, 50.0, 50.0)) == []  # entirely outside
    assert marked((-2.9, -0.9, 1.0), (torch.nan, 0.0, 1.0), (torch.inf, 0.0, 1.0)) == []


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_rays_mark_nothing(implementation):
    assert not implementation(GRID, torch.zeros(3), torch.zeros(0, 3)).any()
    assert not implementation(GRID, torch.zeros(0, 3), torch.zeros(0, 3)).any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_inputs_of_any_dtype_layout_and_gradient(implementation):
    ends = (torch.rand(3, 40, generator=torch.Generator().manual_seed(0)) * 8 - 3).T
    plain = implementation(GRID, torch.zeros(3), ends.contiguous())
    assert torch.equal(implementation(GRID, torch.zeros(3, requires_grad=True), ends.requires_grad_()), plain)
    assert torch.equal(implementation(GRID, torch.zeros(40, 3).double(), ends.double()), plain)


def test_without_numba_the_torch_path_serves(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(traversal, "has_compiled_kernels", lambda: False)
    monkeypatch.setattr(traversal, "mark_free_numba", None)
    assert mark_free(GRID, torch.zeros(3), torch.ones(1, 3)).any()


@needs_numba
def test_the_kernel_is_chosen_on_the_cpu(monkeypatch):
    monkeypatch.setattr(traversal, "mark_free_torch", None)
    assert mark_free(GRID, torch.zeros(3), torch.ones(1, 3)).any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_equals_cpu():
    ends = torch.rand(5000, 3, generator=torch.Generator().manual_seed(1)) * 16 - 8
    on_gpu = mark_free(GRID, torch.zeros(3).cuda(), ends.cuda())
    assert torch.equal(on_gpu.cpu(), mark_free(GRID, torch.zeros(3), ends))


def test_sampling_marks_both_ends_and_skips_broken_rays():
    ends = torch.tensor([[-1.6, -0.9, 1.0], [torch.nan, 0.0, 1.0]])
    marked = mark_sampled(GRID, torch.tensor([-2.9, -0.9, 1.0]), ends)
    assert marked.nonzero().tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert np.count_nonzero(mark_sampled(GRID, torch.zeros(3), torch.zeros(0, 3))) == 0
