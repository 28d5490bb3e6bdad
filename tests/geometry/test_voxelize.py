from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lexivox.errors import ShapeError
from lexivox.geometry.grid import POP3D, VoxelGrid
from lexivox.geometry.voxelize import (
    clamp_to_grid,
    majority_label,
    occupancy_counts,
    scatter_mean,
    voxels_of_points,
)

GRID = VoxelGrid((-1.0, -1.0, 0.0), (1.0, 1.0, 0.5), (2, 2, 2), "ego")


def test_counts_drop_what_is_outside_or_broken():
    xyz = torch.tensor([[-0.5, -0.5, 0.1], [-0.9, -0.1, 0.4], [0.5, 0.5, 0.9], [9.0, 0, 0], [torch.nan, 0, 0]])
    counts = occupancy_counts(GRID, xyz)
    assert counts[0, 0, 0] == 2
    assert counts[1, 1, 1] == 1
    assert counts.sum() == 3


def test_points_of_voxels_are_named():
    kept, flat = voxels_of_points(GRID, torch.tensor([[9.0, 0, 0], [0.5, -0.5, 0.6]]))
    assert kept.tolist() == [1]
    assert flat.tolist() == [5]  # (1, 0, 1) -> (1 * 2 + 0) * 2 + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 4)), max_size=40))
def test_majority_equals_counting_with_ties_to_the_smallest(points):
    flat = torch.tensor([voxel for voxel, _ in points], dtype=torch.int64)
    label = torch.tensor([label for _, label in points], dtype=torch.int64)
    xyz = GRID.xyz_from_index(GRID.index_from_flat(flat)).reshape(-1, 3)
    index, winner = majority_label(GRID, xyz, label, 5)
    expected = {}
    for voxel in sorted(set(flat.tolist())):
        votes = Counter(lab for v, lab in points if v == voxel)
        expected[voxel] = min(votes, key=lambda lab: (-votes[lab], lab))
    assert dict(zip(GRID.flat_from_index(index).tolist(), winner.tolist(), strict=True)) == expected


def test_labels_out_of_range_are_refused():
    with pytest.raises(ShapeError, match=r"labels of points must lie in 0..2; got 1..3. Map them"):
        majority_label(GRID, torch.zeros(2, 3), torch.tensor([1, 3]), 3)


def test_clamped_coordinates_of_the_spec():
    # spec pop3d 11: (80, 0, 5) -> (99.9990234, 50, 7.999)
    xyz = clamp_to_grid(POP3D, torch.tensor([[80.0, 0.0, 5.0], [10.0, -3.5, -1.2]]))
    expected = torch.tensor([[99.9990234, 50, 7.999], [59.765625, 46.58203125, 3.8]], dtype=torch.float64)
    torch.testing.assert_close(POP3D.coordinate_from_xyz(xyz), expected, atol=1e-6, rtol=0)


def test_scatter_mean_and_its_gradient():
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.float64, requires_grad=True)
    row = torch.tensor([2, 2, 0])
    mean = scatter_mean(values, row, 4)
    assert mean.tolist() == [[5.0, 6.0], [0.0, 0.0], [2.0, 3.0], [0.0, 0.0]]
    assert torch.autograd.gradcheck(lambda v: scatter_mean(v, row, 4), (values,))
