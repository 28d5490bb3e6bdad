from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lexivox.data.types import Batch, LidarSweep, Targets
from lexivox.encoders.lifted import LiftedDepth, LiftedField
from lexivox.errors import ConfigError
from lexivox.fields import DenseField
from lexivox.geometry.frustum import DepthBins
from lexivox.model import Scene
from lexivox.supervision.base import Supervision
from lexivox.supervision.camera_depth import CameraDepth, depth_loss
from tests.rig import GRID, batch_of, points, ring

BINS = DepthBins(1.0, 9.0, 8)


def scene(cameras, prob: torch.Tensor) -> Scene:
    field = LiftedField(GRID, torch.zeros(len(prob), 1, *GRID.shape), LiftedDepth(prob, BINS, cameras))
    return Scene(field, {}, len(prob))


def batch_with(cameras, xyz: torch.Tensor, owner: torch.Tensor) -> Batch:
    none = torch.zeros(len(xyz))
    return replace(batch_of(cameras), lidar=LidarSweep(xyz, none, none.long(), owner))


def slow_labels(cameras, xyz, owner, cells_hw) -> torch.Tensor:
    (height, width), (h, w) = cameras.image_hw, cells_hw
    nearest = torch.full((len(cameras.images), len(cameras.names), h, w), math.inf)
    for p in range(len(xyz)):
        b = int(owner[p])
        for v in range(len(cameras.names)):
            x, y, z = cameras.cam_from_grid[b, v].apply(xyz[p : p + 1].double())[0].tolist()
            if z < 1.0:
                continue
            matrix = cameras.image_from_cam[b, v].double()
            u, r = matrix[0, 0] * x / z + matrix[0, 2], matrix[1, 1] * y / z + matrix[1, 2]
            if 0 <= u < width and 0 <= r < height:
                j, i = int(r * h // height), int(u * w // width)
                nearest[b, v, j, i] = min(float(nearest[b, v, j, i]), z)
    return BINS.index(nearest)


def test_labels_are_those_of_the_nearest_returns() -> None:
    cameras, xyz = ring(2), points(300, seed=3)
    owner = torch.arange(300) % 2
    batch = batch_with(cameras, xyz, owner)
    depth = scene(cameras, torch.full((2, 3, 8, 4, 8), 1 / 8)).field.depth
    found = CameraDepth().labels(depth, batch)
    assert torch.equal(found, slow_labels(cameras, xyz, owner, (4, 8)))
    assert 20 < int((found >= 0).sum()) < 192


def test_loss_by_hand() -> None:
    # One cell of three bins, label 1: -ln 0.5 - ln(1 - 0.2) - ln(1 - 0.3) = 1.27297; the other cell is not known.
    prob = torch.tensor([[0.2, 0.9], [0.5, 0.05], [0.3, 0.05]]).reshape(1, 1, 3, 1, 2)
    loss = depth_loss(prob, torch.tensor([1, -1]).reshape(1, 1, 1, 2))
    torch.testing.assert_close(loss, torch.tensor(1.27297), atol=1e-5, rtol=0)


def test_without_any_return_nothing_is_learnt() -> None:
    cameras = ring(1)
    prob = torch.full((1, 3, 8, 4, 8), 1 / 8, requires_grad=True)
    terms = CameraDepth()(scene(cameras, prob), batch_of(cameras))
    terms["camera_depth/bce"].backward()
    assert terms["camera_depth/bce"] == 0.0
    assert not prob.grad.any()


def test_the_right_depth_costs_least() -> None:
    cameras, xyz = ring(1), points(200)
    batch = batch_with(cameras, xyz, torch.zeros(200, dtype=torch.int64))
    flat = torch.full((1, 3, 8, 4, 8), 1 / 8)
    supervision = CameraDepth(weight=0.1)
    label = supervision.labels(scene(cameras, flat).field.depth, batch)
    right = torch.nn.functional.one_hot(label.clamp_min(0), 8).movedim(-1, 2).float()
    costs = [float(supervision(scene(cameras, prob), batch)["camera_depth/bce"]) for prob in (right, flat)]
    assert costs[0] == 0.0
    # Seven bins of -ln(7/8) and one of -ln(1/8), times the weight.
    assert costs[1] == pytest.approx(0.1 * (math.log(8) + 7 * math.log(8 / 7)), rel=1e-5)


def test_it_is_a_supervision_for_encoders_with_depth() -> None:
    supervision, batch = CameraDepth(), batch_of(ring(1))
    assert isinstance(supervision, Supervision)
    assert supervision.prepare(batch, torch.Generator()).targets == Targets()
    with pytest.raises(ConfigError, match="camera depth must be learnt by an encoder that lifts images; got one"):
        supervision(Scene(DenseField(GRID, torch.zeros(1, 1, *GRID.shape)), {}, 1), batch)
