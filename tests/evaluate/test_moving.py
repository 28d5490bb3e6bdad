"""What moves, apart: paths and counts by hand."""

from __future__ import annotations

import pytest
import torch

from lexivox.data.benchmark_classes import OCC3D
from lexivox.data.types import VoxelLabels
from lexivox.evaluate.moving import MovingScore, swept
from lexivox.geometry.grid import VoxelGrid

ROW = VoxelGrid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (12, 3, 1), "ego")
FREE, CAR, BUS, ROAD = 17, OCC3D.names.index("car"), OCC3D.names.index("bus"), OCC3D.names.index("driveable_surface")


def street(**cars):
    """A car at x = key[1:] that drives at the given speed along x, in the middle row."""
    label, flow = torch.full(ROW.shape, FREE), torch.zeros(*ROW.shape, 2)
    for place, speed in cars.items():
        label[int(place[1:]), 1, 0], flow[int(place[1:]), 1, 0, 0] = CAR, speed
    return VoxelLabels(ROW, label, flow, FREE)


def test_a_path_is_where_a_thing_was_and_will_be():
    truth = street(x5=2.0)
    path = swept(ROW, truth.label == CAR, truth.flow, 1.5)
    assert path.nonzero().tolist() == [[x, 1, 0] for x in range(2, 9)]  # 3 m before and after
    assert not swept(ROW, truth.label == BUS, truth.flow, 1.5).any()
    at_the_border = street(x11=-2.0)
    assert swept(ROW, at_the_border.label == CAR, at_the_border.flow, 1.0).nonzero()[:, 0].tolist() == [9, 10, 11]


def test_hand_computed():
    """A car drives at x = 5 (path 2..8 without 5: six voxels), another stands at x = 10."""
    truth = street(x5=2.0, x10=0.0)
    said = truth.label.clone()
    score = MovingScore(OCC3D, "moving")
    score.update(said, truth, token="right")
    perfect = score.compute().values
    assert [perfect[name] for name in ("iou", "iou_class", "recall_class", "standing_recall_class")] == [1.0] * 4
    assert [perfect[name] for name in ("trail", "trail_dynamic")] == [0.0, 0.0]

    smeared = said.clone()
    smeared[2:5, 1, 0], smeared[6, 1, 0] = CAR, ROAD  # a trail of three, and something else
    smeared[10, 1, 0] = FREE
    score.update(smeared, truth, token="smeared")
    wrong = said.clone()
    wrong[5, 1, 0], wrong[0, 0, 0] = BUS, CAR  # what lies beside the path is not counted
    score.update(wrong, truth, token="wrong")
    got = score.compute()
    # Moving: 3 voxels, 3 occupied, 2 cars. Path: 18, 4 filled, 3 of them with a class that moves. Standing: 2 of 3.
    expected = {
        "iou": 3 / 7, "iou_class": 2 / 6, "recall": 1.0, "recall_class": 2 / 3, "standing_recall": 2 / 3,
        "standing_recall_class": 2 / 3, "trail": 4 / 18, "trail_dynamic": 3 / 18,
    }  # fmt: skip
    assert got.values == pytest.approx(expected)
    assert got.counts == {"samples": 3, "moving_voxels": 3, "standing_voxels": 3, "path_voxels": 18}


def test_only_what_is_counted_counts():
    truth = street(x5=2.0)
    counted = torch.zeros(ROW.shape, dtype=torch.bool)
    counted[:5] = True
    score = MovingScore(OCC3D, "moving")
    score.update(torch.full(ROW.shape, CAR), truth, counted)
    assert score.counts.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 3]]


def test_slow_things_stand():
    truth = street(x5=0.4)
    score = MovingScore(OCC3D, "moving")
    score.update(truth.label, truth)
    assert score.counts.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert score.compute().values["iou"] is None
