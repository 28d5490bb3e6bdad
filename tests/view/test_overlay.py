"""Hits on images: a voxel lights the pixels it covers, what stands before it hides it."""

from __future__ import annotations

import numpy as np
import torch

from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.view.overlay import draw_boxes, overlay_heat

GRID = VoxelGrid((-8.0, -8.0, -8.0), (1.0, 1.0, 1.0), (16, 16, 16), "ego")
INTRINSICS = np.array([[40.0, 0.0, 40.0], [0.0, 40.0, 30.0], [0.0, 0.0, 1.0]])
# The camera looks along +x of the grid from its origin: x right = -y, y down = -z.
LOOK = RigidTransform(
    torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]).double(), torch.zeros(3).double()
)
GREY = np.full((60, 80, 3), 100, dtype=np.uint8)


def lit(index: list[list[int]], heat: list[float]) -> np.ndarray:
    image = overlay_heat(GREY, INTRINSICS, LOOK, GRID, np.array(index), np.array(heat))
    return (image != 100).any(axis=-1)


def test_a_voxel_lights_the_pixels_it_covers():
    # x 4..5, y 1..2, z 0..1: its near face spans u = 40 - 40 * y / 4 = 20..30 and v = 30 - 40 * z / 4 = 20..30;
    # its inner side, seen from the middle, reaches u = 40 - 40 * 1 / 5 = 32
    where = np.argwhere(lit([[12, 9, 8]], [1.0]))
    assert where.min(axis=0).tolist() == [20, 20]
    assert where.max(axis=0).tolist() == [29, 31]


def test_what_stands_before_a_hit_hides_it():
    near, far = [10, 8, 8], [14, 8, 8]
    assert lit([far], [1.0]).any()
    assert not lit([far, near], [1.0, np.nan]).any()
    assert lit([far, near], [np.nan, 1.0]).any()


def test_behind_the_camera_and_nothing_at_all():
    assert not lit([[2, 8, 8], [7, 8, 8]], [1.0, 1.0]).any()
    empty = overlay_heat(GREY, INTRINSICS, LOOK, GRID, np.zeros((0, 3), dtype=np.int64), np.zeros(0))
    assert (empty == GREY).all()
    assert (GREY == 100).all()


def test_boxes_are_drawn_and_cut_at_the_camera():
    corners = np.array(
        [[4, 1, 0], [5, 1, 0], [5, 2, 0], [4, 2, 0], [4, 1, 1], [5, 1, 1], [5, 2, 1], [4, 2, 1]], dtype=float
    )
    drawn = (draw_boxes(GREY, INTRINSICS, LOOK, [corners]) != 100).any(axis=-1)
    assert drawn[19:31, 20:33].any(axis=0).all()
    assert not drawn[:, 40:].any()
    assert drawn[20:30, 20:33].mean() < 0.8  # edges only
    around = corners - np.array([4.5, 1.5, 0.5]) + 0.0
    assert (draw_boxes(GREY, INTRINSICS, LOOK, [around * 8]) != 100).any()  # the camera inside: no failure
    assert (draw_boxes(GREY, INTRINSICS, LOOK, [corners * [-1, 1, 1]]) == 100).all()
