"""Pairs of segments: counted by hand, alike with and without compiled loops, any size of ids."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from lexivox.ops.overlap import overlaps, overlaps_numba, overlaps_torch

WAYS = {"torch": overlaps_torch, "numba": overlaps_numba}


@pytest.fixture(params=WAYS)
def way(request):
    if request.param == "numba":
        pytest.importorskip("numba", reason="no numba")
    return WAYS[request.param]


def pairs(found, num_classes):
    """{(class and area of one, class and area of the other): points}, as a multiset."""
    sides = [
        list(zip(side.owner[row].tolist(), side.area[row].tolist(), strict=True))
        for side, row in ((found.pred, found.pred_row), (found.true, found.true_row))
    ]
    return Counter(zip(*sides, found.points.tolist(), strict=True))


def test_hand_computed(way):
    # Four points count: object 1 of class 0 and object 2 of class 1, against objects 2 of class 0 and 1 of class 1.
    pred = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([1, 1, 2, 2, 4])
    true = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([2, 2, 2, 1, 4])
    kept = torch.tensor([True, True, True, True, False])
    found = way(pred, true, kept, 2)
    assert pairs(found, 2) == Counter({((0, 2), (0, 3), 2): 1, ((1, 2), (0, 3), 1): 1, ((1, 2), (1, 1), 1): 1})
    assert sorted(found.pred.area.tolist()) == [2, 2]
    assert sorted(found.true.area.tolist()) == [1, 3]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shift", [0, 40])
def test_both_ways_agree(seed, shift):
    pytest.importorskip("numba", reason="no numba")
    generator = torch.Generator().manual_seed(seed)
    sides = [
        (torch.randint(5, (3000,), generator=generator), torch.randint(40, (3000,), generator=generator) << shift)
        for _ in range(2)
    ]
    kept = torch.rand(3000, generator=generator) < 0.7
    one, other = (way(*sides, kept, 5) for way in WAYS.values())
    assert pairs(one, 5) == pairs(other, 5) == pairs(overlaps(*sides, kept, 5), 5)
    assert int(one.points.sum()) == int(kept.sum())


@pytest.mark.parametrize("points", [0, 1, 7, 9000])
def test_every_point_its_own_segment_and_no_point(way, points):
    own = torch.arange(points) % 3, torch.arange(points)
    found = way(own, own, torch.ones(points, dtype=torch.bool), 3)
    assert found.points.tolist() == [1] * points
    nothing = way(own, own, torch.zeros(points, dtype=torch.bool), 3)
    assert len(nothing.points) == len(nothing.pred.area) == 0
