"""Laws of the voxel grid, for bounds of any sign."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import grid_sample

from lexivox.errors import ShapeError
from lexivox.geometry.grid import OCC3D, OPENOCCUPANCY, POP3D, VoxelGrid

laws = settings(max_examples=60, deadline=None)
three = lambda of: st.tuples(of, of, of)  # noqa: E731
grids = st.builds(
    VoxelGrid,
    three(st.floats(-100, 100)),
    three(st.floats(0.05, 4)),
    three(st.integers(1, 7)),
    st.just("ego"),
)


@laws
@given(grids)
def test_indices_survive_the_round_trip(grid):
    index = grid.indices()
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(grid.index_from_xyz(grid.xyz_from_index(index, dtype)), index)
    assert grid.contains(grid.centers()).all()
    assert torch.equal(grid.flat_from_index(index).flatten(), torch.arange(grid.num_voxels))
    assert torch.equal(grid.index_from_flat(grid.flat_from_index(index)), index)


@pytest.mark.parametrize("grid", [POP3D, OCC3D, OPENOCCUPANCY])
def test_presets_survive_the_round_trip(grid):
    last = torch.tensor(grid.shape) - 1
    index = torch.stack([torch.zeros(3, dtype=torch.int64), last, last // 2])
    assert torch.equal(grid.index_from_xyz(grid.xyz_from_index(index)), index)


@laws
@given(grids, three(st.floats(-200, 200)))
def test_contains_agrees_with_the_index(grid, xyz):
    xyz = torch.tensor(xyz, dtype=torch.float64)
    assert bool(grid.contains(xyz)) == bool(grid.contains_index(grid.index_from_xyz(xyz)))


@pytest.mark.parametrize("lower", [(-3.0, -4.0, -5.0), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0)])
def test_cells_are_half_open(lower):
    grid = VoxelGrid(lower, (0.5, 0.25, 1.0), (2, 4, 3), "lidar")
    low, high = torch.tensor(lower, dtype=torch.float64), torch.tensor(grid.upper_m, dtype=torch.float64)
    assert grid.index_from_xyz(low).tolist() == [0, 0, 0]
    assert grid.contains(low)
    assert not grid.contains(high)
    assert not grid.contains(torch.nextafter(low, low - 1))
    assert grid.index_from_xyz(torch.nextafter(high, low)).tolist() == [1, 3, 2]
    inner_border = low + torch.tensor([0.5, 0.25, 1.0])
    assert grid.index_from_xyz(inner_border).tolist() == [1, 1, 1]


def test_what_is_not_a_place_is_nowhere():
    bad = torch.tensor([[math.nan, 0.0, 0.0], [math.inf, 0.0, 0.0], [0.0, -math.inf, 0.0]])
    assert not POP3D.contains(bad).any()


@laws
@given(grids, three(st.floats(0, 1)))
def test_grid_sample_of_a_ramp_returns_the_coordinate(grid, fraction):
    """The volume holds each voxel's own centre: sampled between the outer centres it gives the place back."""
    ramp = grid.centers(dtype=torch.float64).permute(3, 0, 1, 2)[None]  # (1, 3, X, Y, Z)
    first, last = ramp[0, :, 0, 0, 0], ramp[0, :, -1, -1, -1]
    xyz = first + torch.tensor(fraction, dtype=torch.float64) * (last - first)
    place = grid.normalized_from_xyz(xyz).flip(-1)[None, None, None, None]  # grid_sample wants z, y, x here
    sampled = grid_sample(ramp, place, align_corners=False, padding_mode="border").flatten()
    torch.testing.assert_close(sampled, xyz, atol=1e-9, rtol=1e-9)


@laws
@given(grids)
def test_normalized_corners_are_one(grid):
    corners = torch.tensor([grid.lower_m, grid.upper_m], dtype=torch.float64)
    expected = torch.tensor([[-1.0] * 3, [1.0] * 3], dtype=torch.float64)
    torch.testing.assert_close(grid.normalized_from_xyz(corners), expected, atol=1e-9, rtol=0)


@laws
@given(grids, st.integers(1, 4))
def test_refine_keeps_the_box_and_coarsen_undoes_it(grid, factor):
    fine = grid.refine(factor)
    assert fine.upper_m == pytest.approx(grid.upper_m)
    assert torch.equal(grid.index_from_xyz(fine.centers(dtype=torch.float64)), fine.indices() // factor)
    back = fine.coarsen(factor)
    assert back.shape == grid.shape
    assert back.voxel_size_m == pytest.approx(grid.voxel_size_m)


def test_golden_coordinates_of_the_spec():
    # spec pop3d 11
    xyz = torch.tensor([[0.0, 0.0, 0.0], [10.0, -3.5, -1.2]], dtype=torch.float64)
    expected = torch.tensor([[50, 50, 5], [59.765625, 46.58203125, 3.8]], dtype=torch.float64)
    torch.testing.assert_close(POP3D.coordinate_from_xyz(xyz), expected)
    normalized = torch.tensor([0.1953125, -0.068359375, -0.05], dtype=torch.float64)
    torch.testing.assert_close(POP3D.normalized_from_xyz(xyz[1]), normalized)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lower_m": (0.0, math.nan, 0.0)}, "lower_m of a grid must be finite"),
        ({"voxel_size_m": (1.0, 0.0, 1.0)}, "voxel_size_m of a grid must be above 0"),
        ({"shape": (1, 0, 1)}, "shape of a grid must hold whole numbers above 0"),
    ],
)
def test_impossible_grids_are_refused(change, message):
    values = {"lower_m": (0.0, 0.0, 0.0), "voxel_size_m": (1.0, 1.0, 1.0), "shape": (1, 1, 1), "frame": "ego"}
    with pytest.raises(ShapeError, match=message):
        VoxelGrid(**{**values, **change})


def test_impossible_factors_are_refused():
    with pytest.raises(ShapeError, match="factor of coarsen must divide"):
        POP3D.coarsen(3)
    with pytest.raises(ShapeError, match="factor of refine must be"):
        POP3D.refine(0)
