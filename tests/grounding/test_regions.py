"""Regions: boxes by hand, of turned things, ranked."""

from __future__ import annotations

import math

import pytest
import torch
from grounding_words import GRID, asker, calibrated

from lexivox.geometry.grid import VoxelGrid
from lexivox.grounding.phrase import parse_phrase
from lexivox.grounding.regions import Box, box_around, connect


def test_boxes_and_ranks_by_hand():
    index = torch.tensor([[0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 9, 3], [9, 10, 3]])
    score = torch.tensor([0.5, 0.9, 0.7, 0.8, 0.9])
    best, second = connect(GRID, index, score)
    assert best.score == pytest.approx(0.85)  # the mean of two
    assert second.score == pytest.approx(0.7)  # of three
    assert second.index.tolist() == [[1, 0, 0], [2, 0, 0], [0, 0, 0]]
    # voxels of 1 m from (-8, -8, -1)
    assert second.box == Box((-6.5, -7.5, -0.5), (3.0, 1.0, 1.0), 0.0, "ego")
    assert best.box.center == pytest.approx((1.5, 2.0, 2.5))
    assert best.box.size_m == pytest.approx((2.0, 1.0, 1.0))
    assert best.box.yaw_rad == pytest.approx(math.pi / 2)


@pytest.mark.parametrize("yaw", [-1.2, -0.6, 0.3, 0.9])
def test_a_turned_thing_has_a_turned_box(yaw):
    fine = VoxelGrid((-8.0, -8.0, 0.0), (0.1, 0.1, 0.5), (160, 160, 2), "lidar")
    x, y = fine.centers()[..., 0], fine.centers()[..., 1]
    along, across = x * math.cos(yaw) + y * math.sin(yaw), -x * math.sin(yaw) + y * math.cos(yaw)
    box = box_around(fine, ((along.abs() < 2.25) & (across.abs() < 0.9)).nonzero())
    assert box.frame == "lidar"
    assert box.size_m == pytest.approx((4.5, 1.8, 1.0), abs=0.25)
    assert math.cos(2 * (box.yaw_rad - yaw)) > 0.99
    assert box.center == pytest.approx((0.0, 0.0, 0.5), abs=0.06)


def test_corners_lie_around_the_box():
    corners = Box((1.0, 2.0, 3.0), (4.0, 2.0, 1.0), math.pi / 2, "ego").corners()
    assert corners.mean(0).tolist() == pytest.approx([1.0, 2.0, 3.0])
    assert corners[0].tolist() == pytest.approx([2.0, 0.0, 2.5])  # behind right, turned left by a quarter
    assert corners[4].tolist() == pytest.approx([2.0, 0.0, 3.5])
    assert (corners.amax(0) - corners.amin(0)).tolist() == pytest.approx([2.0, 4.0, 1.0])


def test_a_thing_in_a_map_becomes_one_region():
    answer = asker(calibrated(), seed=3).ask(parse_phrase("automobile"), 0.05)
    first = answer.regions()[0]
    assert first.box == Box((-4.0, -4.0, 0.0), (4.0, 4.0, 2.0), 0.0, "ego")
    assert len(first) == 32
    assert all(len(region) >= 5 for region in answer.regions(min_voxels=5))


def test_nothing_has_no_regions():
    assert connect(GRID, torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0)) == []
