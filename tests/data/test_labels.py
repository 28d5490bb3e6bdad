"""Labels of a grid from one sweep: laws, hand cases, and the published volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lexivox.data.labels import (
    occupancy_from_lidar,
    semantic_from_lidar,
    training_occupancy_dense,
    training_semantic_dense,
)
from lexivox.data.types import FREE, IGNORED, OCCUPIED
from lexivox.errors import ShapeError
from lexivox.geometry.grid import POP3D, VoxelGrid
from tests.reference import voxel_rays as twin

GRID = VoxelGrid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (6, 3, 2), "lidar")
ORIGIN = torch.tensor([0.5, 1.5, 0.5])
CLASSES = {"num_classes": 17, "free_label": 17}
# Spec pop3d 1.7: raw lidarseg id -> class.
CLASS_OF_RAW = [0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3]
CLASS_OF_RAW += [3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0]

coordinate = st.one_of(st.floats(-3, 9, width=32, allow_subnormal=False), st.integers(-2, 8).map(float))
points = st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=10)


def row(volume):
    """The voxels along x in the row of the origin."""
    return volume[:, 1, 0].tolist()


def test_occupied_wins_and_the_unseen_is_ignored():
    xyz = torch.tensor([[4.5, 1.5, 0.5], [2.5, 1.5, 0.5]])  # the first ray passes through the second return
    volume = occupancy_from_lidar(GRID, ORIGIN, xyz)
    assert row(volume) == [FREE, FREE, OCCUPIED, FREE, OCCUPIED, IGNORED]
    assert (volume != IGNORED).sum() == 5


def test_a_return_outside_frees_what_it_passes():
    xyz = torch.tensor([[99.0, 1.5, 0.5]])
    assert row(occupancy_from_lidar(GRID, ORIGIN, xyz)) == [FREE] * 6
    assert row(occupancy_from_lidar(GRID, ORIGIN, xyz, "sampled100")) == [IGNORED] * 6


def test_one_origin_per_point():
    origins = torch.tensor([[0.5, 1.5, 0.5], [5.5, 0.5, 1.5]])
    xyz = torch.tensor([[1.5, 1.5, 0.5], [4.5, 0.5, 1.5]])
    volume = occupancy_from_lidar(GRID, origins, xyz)
    assert (volume != IGNORED).nonzero().tolist() == [[0, 1, 0], [1, 1, 0], [4, 0, 1], [5, 0, 1]]
    sampled = occupancy_from_lidar(GRID, origins, xyz, "sampled100")
    assert torch.equal(sampled, volume)


@pytest.mark.parametrize("protocol", ["exact", "sampled100"])
def test_broken_and_missing_points(protocol):
    empty = occupancy_from_lidar(GRID, ORIGIN, torch.zeros(0, 3), protocol)
    assert (empty == IGNORED).all()
    bad = torch.tensor([[torch.nan, 1.0, 1.0], [torch.inf, 1.5, 0.5], [1.0, -torch.inf, 0.5]])
    assert torch.equal(occupancy_from_lidar(GRID, ORIGIN, bad, protocol), empty)
    label = torch.zeros(3, dtype=torch.int64)
    assert torch.equal(semantic_from_lidar(GRID, ORIGIN, bad, label, protocol=protocol, **CLASSES), empty)
    assert (training_occupancy_dense(GRID, bad) == FREE).all()


@settings(max_examples=100, deadline=None)
@given(points)
def test_equal_to_the_slow_twin_and_blind_to_the_order_of_points(xyz):
    xyz = torch.tensor(xyz, dtype=torch.float32).reshape(-1, 3)
    volume = occupancy_from_lidar(GRID, ORIGIN, xyz)
    slow = twin.label(GRID.lower_m, GRID.voxel_size_m, GRID.shape, ORIGIN.numpy(), xyz.numpy())
    assert np.array_equal(volume.numpy(), slow)
    assert torch.equal(volume, occupancy_from_lidar(GRID, ORIGIN, xyz.flip(0)))


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ([3, 3, 5], 3),
        ([5, 3], 3),  # a tie: the smallest
        ([3, 0], 3),  # noise votes as 255, behind every class
        ([3, 0, 0], IGNORED),
        ([255], IGNORED),
    ],
)
def test_majority_with_noise_in_the_vote(votes, winner):
    xyz = torch.tensor([[2.5, 1.5, 0.5]]).expand(len(votes), 3)
    volume = semantic_from_lidar(GRID, ORIGIN, xyz, torch.tensor(votes), **CLASSES)
    assert row(volume) == [17, 17, winner, IGNORED, IGNORED, IGNORED]


def test_points_on_the_lower_border_are_not_strictly_inside():
    xyz, label = torch.tensor([[0.0, 1.5, 0.5]]), torch.tensor([4])
    assert row(semantic_from_lidar(GRID, ORIGIN, xyz, label, **CLASSES)) == [IGNORED] * 6
    exact = semantic_from_lidar(GRID, ORIGIN, xyz, label, protocol="exact", **CLASSES)
    assert row(exact) == [4] + [IGNORED] * 5


def test_border_of_the_training_target():
    xyz = torch.tensor([[99.0, 1.5, -7.0]])  # spec pop3d 11, property vii
    assert training_occupancy_dense(GRID, xyz).nonzero().tolist() == [[5, 1, 0]]
    assert not training_occupancy_dense(GRID, xyz, "drop").any()
    label = torch.tensor([2])
    assert training_semantic_dense(GRID, xyz, label, **CLASSES)[5, 1, 0] == 2
    assert (training_semantic_dense(GRID, xyz, label, border="drop", **CLASSES) == 17).all()


def test_refusals():
    with pytest.raises(ShapeError, match="labels of points must lie in"):
        semantic_from_lidar(GRID, ORIGIN, ORIGIN[None], torch.tensor([18]), **CLASSES)


@pytest.mark.parametrize("case", ["f12", "f15", "f19"])
def test_published_volumes(golden, case):
    arrays = np.load(golden / "pop3d_eval_labels.npz", allow_pickle=False)
    names = ("xyz", "lidarseg", "train_target", "eval_target", "clamped_class_target")
    stored = {name: torch.from_numpy(arrays[f"{case}/{name}"]) for name in names}
    xyz, label = stored["xyz"], torch.tensor(CLASS_OF_RAW)[stored["lidarseg"].long()]
    volume = semantic_from_lidar(POP3D, torch.zeros(3), xyz, label, **CLASSES)
    assert torch.equal(volume, stored["eval_target"])
    assert torch.equal(training_occupancy_dense(POP3D, xyz), stored["train_target"])
    clamped = training_semantic_dense(POP3D, xyz, label, **CLASSES)
    assert torch.equal(clamped, stored["clamped_class_target"])


def test_published_voxel_coordinates(golden):
    from lexivox.geometry.voxelize import clamp_to_grid

    arrays = np.load(golden / "pop3d_eval_labels.npz", allow_pickle=False)
    inside = clamp_to_grid(POP3D, torch.from_numpy(arrays["f15/xyz"]))
    coordinate = POP3D.coordinate_from_xyz(inside)
    np.testing.assert_allclose(coordinate[:2000], arrays["f15/voxel_coordinate_first2000"], atol=1e-6, rtol=0)
    assert np.array_equal(POP3D.index_from_xyz(inside), arrays["f15/voxel_index"])


def test_exact_sees_the_free_voxels_that_samples_miss(golden):
    arrays = np.load(golden / "pop3d_eval_labels.npz", allow_pickle=False)
    xyz = torch.from_numpy(arrays["f12/xyz"])
    inside = xyz[POP3D.contains(xyz)]
    exact = occupancy_from_lidar(POP3D, torch.zeros(3), inside)
    sampled = occupancy_from_lidar(POP3D, torch.zeros(3), inside, "sampled100")
    assert not ((sampled == FREE) & (exact == IGNORED)).any()
    missed = int(((exact == FREE) & (sampled == IGNORED)).sum()) / int((exact == FREE).sum())
    assert 0.0 < missed < 0.1
