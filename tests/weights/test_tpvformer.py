from __future__ import annotations

import torch

from lexivox.geometry.grid import VoxelGrid
from lexivox.weights.tpvformer import released_places

GRID = VoxelGrid((0.0, -5.0, 0.0), (1.0, 2.0, 1.0), (11, 5, 3), "lidar")


def test_points_are_rounded_down_in_a_grid_of_one_voxel_less() -> None:
    # Steps 11 / 10, 10 / 4 and 3 / 2 metres; the corners of voxels 4, 1 and 1 lie at 4, -3 and 1.
    place = released_places(GRID, torch.tensor([[5.0, -2.0, 1.6]]))
    torch.testing.assert_close(place, torch.tensor([[4.0, -3.0, 1.0]]))


def test_points_outside_are_moved_to_the_border() -> None:
    places = released_places(GRID, torch.tensor([[-7.0, -9.0, -1.0], [70.0, 90.0, 10.0]]))
    torch.testing.assert_close(places, torch.tensor([[0.0, -5.0, 0.0], [10.0, 3.0, 2.0]]))


def test_every_place_is_a_corner_of_a_voxel() -> None:
    xyz = torch.rand(200, 3) * torch.tensor([11.0, 10.0, 3.0]) + torch.tensor(GRID.lower_m)
    corner = (released_places(GRID, xyz) - torch.tensor(GRID.lower_m)) / torch.tensor(GRID.voxel_size_m)
    torch.testing.assert_close(corner, corner.round())
    assert (corner < torch.tensor([9.5, 3.5, 1.5])).all()  # the last voxel along an axis is never met inside
