from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from lexivox.ops.sampling import (
    axis_cells,
    bilinear_gather,
    deformable_gather,
    gather_ragged_rows,
    gather_rows,
    multi_scale_deformable_sampling,
    trilinear_gather,
)
from tests.reference import sampling as slow


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kind", "atol", "grad_atol"), [("f32", 1e-5, 1e-5), ("f64", 1e-12, 1e-10)])
def test_golden_deformable_sampling(golden: Path, kind: str, atol: float, grad_atol: float) -> None:
    with np.load(golden / "msda.npz", allow_pickle=False) as archive:
        case = {name[4:]: torch.from_numpy(archive[name]) for name in archive.files if name.startswith(kind)}
    inputs = [case[n].requires_grad_() for n in ("value", "sampling_locations", "attention_weights")]
    level_hw = [(h, w) for h, w in case["spatial_shapes"].tolist()]
    output = multi_scale_deformable_sampling(inputs[0], level_hw, inputs[1], inputs[2])
    torch.testing.assert_close(output.detach(), case["output"], atol=atol, rtol=0.0)
    (output * case["cotangent"]).sum().backward()
    for leaf, name in zip(inputs, ("value", "sampling_locations", "attention_weights"), strict=True):
        expected = case[f"grad_{name}"]
        scale = max(1.0, float(expected.abs().max())) if kind == "f32" else 1.0
        torch.testing.assert_close(leaf.grad, expected, atol=grad_atol * scale, rtol=0.0)


def test_deformable_gather_equals_the_slow_twin() -> None:
    level_hw = [(3, 4), (2, 2)]
    value, places, weights = (
        rand(3, 16, 2, 3),
        rand(7, 2, 2, 3, 2, seed=1) * 1.6 - 0.3,
        rand(7, 2, 2, 3, seed=2),
    )
    count = [4, 0, 3]
    ours = deformable_gather(value, level_hw, places, weights, count)
    expected = [
        slow.deformable(value[n].numpy(), level_hw, places[own].numpy(), weights[own].numpy())
        for n, own in ((0, slice(0, 4)), (2, slice(4, 7)))
    ]
    np.testing.assert_allclose(ours.numpy(), np.concatenate(expected), atol=1e-12)


def test_bilinear_gather_equals_the_slow_twin() -> None:
    maps, xy, owner = rand(2, 3, 4, 5), rand(30, 2, seed=1) * 3 - 1.5, torch.arange(30) % 2
    ours = bilinear_gather(maps, xy, owner)
    for p in range(30):
        place = (xy[p].numpy()[::-1] + 1) / 2 * (4, 5)
        np.testing.assert_allclose(ours[p].numpy(), slow.linear(maps[owner[p]].numpy(), place), atol=1e-12)


def test_trilinear_gather_equals_the_slow_twin() -> None:
    volume, place, batch = rand(2, 3, 4, 5, 2), rand(40, 3, seed=1) * 8 - 1, torch.arange(40) % 2
    ours = trilinear_gather(volume, place, batch)
    for p in range(40):
        expected = slow.linear(volume[batch[p]].numpy(), place[p].numpy())
        np.testing.assert_allclose(ours[p].numpy(), expected, atol=1e-12)


def test_cells_far_away_weigh_nothing() -> None:
    cell, weight = axis_cells(torch.tensor([-1e30, -0.6, 0.5, 3.5, 4.6, 1e30]), 4)
    assert cell.min() >= 0
    assert cell.max() <= 3
    assert weight.sum(-1).tolist() == [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]


def test_gradcheck_of_every_gather() -> None:
    maps, xy, owner = (
        rand(2, 3, 4, 5).requires_grad_(),
        (rand(6, 2, seed=1) * 2 - 1).requires_grad_(),
        torch.arange(6) % 2,
    )
    assert gradcheck(lambda m, p: bilinear_gather(m, p, owner), (maps, xy))
    volume, place = rand(2, 2, 3, 3, 2).requires_grad_(), (rand(6, 3, seed=3) * 2).requires_grad_()
    assert gradcheck(lambda v, p: trilinear_gather(v, p, owner), (volume, place))
    value, where, weight = rand(2, 6, 2, 2), rand(3, 2, 1, 2, 2, seed=4), rand(3, 2, 1, 2, seed=5)
    inputs = (value.requires_grad_(), where.requires_grad_(), weight.requires_grad_())
    assert gradcheck(lambda v, p, w: deformable_gather(v, [(2, 3)], p, w, [2, 1]), inputs)


def test_ragged_rows_equal_separate_sums() -> None:
    table, rows, weight = rand(5, 2), torch.tensor([0, 4, 2, 2]), rand(4, seed=1)
    ours = gather_ragged_rows(table, rows, weight, torch.tensor([3, 0, 1]))
    expected = torch.stack([(table[rows[:3]] * weight[:3, None]).sum(0), torch.zeros(2), table[2] * weight[3]])
    torch.testing.assert_close(ours, expected.double())


def test_nothing_to_read() -> None:
    none = torch.zeros(0, 4, dtype=torch.int64)
    assert gather_rows(rand(3, 2), none, rand(0, 4)).shape == (0, 2)
    assert gather_rows(rand(0, 2), none, rand(0, 4)).shape == (0, 2)
    assert gather_ragged_rows(rand(0, 2), none[:, 0], rand(0), torch.zeros(7, dtype=torch.int64)).shape == (
        7,
        2,
    )
    value = rand(2, 6, 2, 3)
    assert deformable_gather(value, [(2, 3)], rand(0, 2, 1, 4, 2), rand(0, 2, 1, 4), [0, 0]).shape == (0, 6)
