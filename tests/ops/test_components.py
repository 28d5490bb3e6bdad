"""Voxels that touch are one component, whatever their order, shape and place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import grounding as slow

from lexivox.ops.components import connected_components


@given(st.lists(st.tuples(*[st.integers(-4, 4)] * 3), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_equals_flood_fill(voxels):
    index = torch.tensor(voxels)
    assert connected_components(index).tolist() == slow.components(index.numpy()).tolist()


@pytest.mark.parametrize(
    ("step", "joined"),
    [((1, 0, 0), True), ((1, -1, 0), True), ((-1, 1, 1), True), ((2, 0, 0), False), ((0, 0, 2), False)],
)
def test_faces_edges_and_corners_join(step, joined):
    index = torch.tensor([[5, 5, 5], [5 + step[0], 5 + step[1], 5 + step[2]]])
    assert connected_components(index).tolist() == ([0, 0] if joined else [0, 1])


def test_a_long_line_and_a_spiral_are_one():
    line = torch.stack([torch.arange(3000), torch.zeros(3000).long(), torch.zeros(3000).long()], 1)
    mixed = line[torch.randperm(3000, generator=torch.Generator().manual_seed(0))]
    assert connected_components(mixed).unique().tolist() == [0]
    comb = torch.tensor([(x, y, 0) for x in range(40) for y in range(40) if x % 2 == 0 or y == 39 * ((x // 2) % 2)])
    assert connected_components(comb).unique().tolist() == [0]


def test_lines_do_not_wrap():
    """The last voxel of a line and the first of the next are far apart."""
    index = torch.tensor([[0, 0, 7], [0, 1, 0], [0, 7, 7], [3, 0, 0]])
    assert connected_components(index).tolist() == [0, 1, 2, 3]


def test_nothing_and_twice_the_same():
    assert connected_components(torch.zeros(0, 3, dtype=torch.int64)).tolist() == []
    assert connected_components(torch.tensor([[3, 3, 3], [9, 9, 9], [3, 3, 3]])).tolist() == [0, 1, 0]


def test_order_does_not_matter():
    generator = torch.Generator().manual_seed(1)
    index = torch.randint(0, 12, (300, 3), generator=generator)
    order = torch.randperm(300, generator=generator)
    one, two = connected_components(index)[order], connected_components(index[order])
    assert torch.equal(one[:, None] == one[None], two[:, None] == two[None])
