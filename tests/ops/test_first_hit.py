"""First hits: compiled and torch walks agree, and both agree with small steps."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.rays import traverse
from lexivox.ops.first_hit import (
    cast,
    first_hits_numba,
    first_hits_torch,
    mark_until_hit,
    mark_until_hit_numba,
    mark_until_hit_torch,
)

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")


def scene(seed):
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand(9, 7, 5, generator=generator) < 0.06
    origins = torch.rand(6, 3, generator=generator, dtype=torch.float64) * torch.tensor([9.0, 7.0, 5.0])
    directions = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    return occupied, origins, (directions / directions.norm(dim=1, keepdim=True)).expand(6, 50, 3)


@needs_numba
@pytest.mark.parametrize("seed", range(4))
def test_compiled_equals_torch(seed):
    compiled, torch_ = first_hits_numba(*scene(seed)), first_hits_torch(*scene(seed))
    assert torch.equal(compiled[0], torch_[0])
    torch.testing.assert_close(compiled[1], torch_[1])


@needs_numba
@pytest.mark.parametrize("seed", range(4))
def test_compiled_equals_torch_from_outside(seed):
    occupied, origins, directions = scene(seed)
    outside = origins * 3.0 - torch.tensor([9.0, 7.0, 5.0])
    compiled, torch_ = first_hits_numba(occupied, outside, directions), first_hits_torch(occupied, outside, directions)
    assert torch.equal(compiled[0], torch_[0])
    assert 0 < int((compiled[0] < 0).sum()) < compiled[0].numel()
    torch.testing.assert_close(compiled[1], torch_[1])


@needs_numba
def test_rays_along_axes_and_diagonals():
    occupied = torch.zeros(6, 6, 6, dtype=torch.bool)
    occupied[4] = True
    origins = torch.tensor([[0.5, 0.5, 0.5]], dtype=torch.float64)
    directions = torch.tensor([[[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0.0, 0, 1.0]]], dtype=torch.float64)
    for walk in (first_hits_numba, first_hits_torch):
        voxel, distance = walk(occupied, origins, directions)
        assert voxel[0].tolist() == [4 * 36, 0, 5 * 6, 5]
        # The wall at 4 is left at 5; a ray that meets nothing leaves the grid.
        assert distance[0].tolist() == [4.5, 0.5, 5.5, 5.5]


def test_agrees_with_small_steps():
    occupied, origins, directions = scene(7)
    voxel, _ = first_hits_torch(occupied, origins, directions)
    agree = 0
    for o, origin in enumerate(origins):
        for r, direction in enumerate(directions[o]):
            agree += int(voxel[o, r]) == stepped(occupied, origin, direction)
    assert agree >= 0.98 * voxel.numel()  # steps jump over corners that the exact walk visits


def stepped(occupied, origin, direction, step=0.005):
    """The last cell of a ray in tiny steps, as a flat index."""
    cells = (origin + torch.arange(4000)[:, None] * step * direction).floor().long()
    size = torch.tensor(occupied.shape)
    outside = ((cells < 0) | (cells >= size)).any(1)
    cells = cells[: int(outside.nonzero()[0])]
    flat = (cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2]
    hits = occupied.reshape(-1)[flat].nonzero()
    return int(flat[hits[0] if len(hits) else -1])


def test_the_cell_of_the_origin_counts():
    occupied = torch.zeros(3, 3, 3, dtype=torch.bool)
    occupied[1, 1, 1] = True
    origins = torch.tensor([[1.25, 1.5, 1.5]], dtype=torch.float64)
    voxel, distance = first_hits_torch(occupied, origins, torch.tensor([[[1.0, 0.0, 0.0]]], dtype=torch.float64))
    assert voxel.item() == 13
    assert distance.item() == 0.75


GRID = VoxelGrid((0.0, 0.0, 0.0), (1.0, 2.0, 1.0), (9, 7, 5), "ego")


@needs_numba
@pytest.mark.parametrize("seed", range(3))
def test_marks_of_both_walks_agree(seed):
    occupied, origins, directions = scene(seed)
    places = origins[:, None].expand(directions.shape).reshape(-1, 3)
    towards = directions.reshape(-1, 3)
    compiled = mark_until_hit_numba(occupied, places, towards)
    assert torch.equal(compiled, mark_until_hit_torch(occupied, places, towards))
    assert 10 < int(compiled.sum()) < compiled.numel()


def test_marks_stop_at_the_first_wall():
    occupied = torch.zeros(GRID.shape, dtype=torch.bool)
    occupied[4] = True
    seen = mark_until_hit(GRID, occupied, torch.tensor([0.5, 5.0, 2.5]), torch.tensor([[2.0, 0.0, 0.0]]))
    assert seen.nonzero().tolist() == [[x, 2, 2] for x in range(5)]


def test_rays_from_outside_start_where_they_enter():
    occupied = torch.zeros(GRID.shape, dtype=torch.bool)
    origin = torch.tensor([-3.0, 1.0, 0.5])
    seen = mark_until_hit(GRID, occupied, origin, torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert seen.nonzero().tolist() == [[x, 0, 0] for x in range(9)]


@needs_numba
def test_torch_keeps_its_threads():
    before = torch.get_num_threads()
    first_hits_numba(*scene(0))
    assert torch.get_num_threads() == before


BRICKS = VoxelGrid((-2.0, -2.0, 0.0), (1.0, 1.0, 0.5), (6, 4, 4), "ego")


def test_metres_by_hand():
    """A wall fills 2 <= x < 3. A ray from (-1, 0.5, 0.25) straight ahead enters at 3 m and leaves at 4 m."""
    occupied = torch.zeros(BRICKS.shape, dtype=torch.bool)
    occupied[4] = True
    ahead, up, slope = [1.0, 0.0, 0.0], [0.0, 0.0, 2.0], [3.0, 0.0, 0.75]
    hits = cast(BRICKS, occupied, torch.tensor([-1.0, 0.5, 0.25]), torch.tensor([ahead, up, slope]))
    assert hits.voxel.tolist() == [4 * 16 + 2 * 4, -1, 4 * 16 + 2 * 4 + 2]
    # Up it leaves the grid at z = 2. The slope climbs a quarter: at x = 2 it is at z = 1, 3 m * sqrt(17) / 4 away.
    long = 3.0 * 17**0.5 / 4
    assert hits.enter_m.tolist() == pytest.approx([3.0, 1.75, long], abs=1e-6)
    assert hits.leave_m.tolist() == pytest.approx([4.0, 1.75, long * 4 / 3], abs=1e-6)


def test_from_outside_the_grid():
    occupied = torch.zeros(BRICKS.shape, dtype=torch.bool)
    occupied[4] = True
    directions = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    hits = cast(BRICKS, occupied, torch.tensor([-7.0, 0.5, 0.25]), directions)
    assert hits.voxel.tolist() == [4 * 16 + 2 * 4, -1, -1]
    assert hits.enter_m.tolist() == [9.0, 0.0, 0.0]
    assert hits.is_hit.tolist() == [True, False, False]
    occupied[:] = False
    through = cast(BRICKS, occupied, torch.tensor([-7.0, 0.5, 0.25]), directions)
    assert through.enter_m.tolist() == [11.0, 0.0, 0.0]


@pytest.mark.parametrize("inside", [True, False])
def test_metres_agree_with_the_traversal(inside):
    generator = torch.Generator().manual_seed(5)
    occupied = torch.rand(BRICKS.shape, generator=generator) < 0.15
    origin = torch.tensor([0.3, 0.2, 0.9] if inside else [-5.0, -3.0, 3.0], dtype=torch.float64)
    targets = torch.rand(200, 3, generator=generator, dtype=torch.float64) * torch.tensor([6.0, 4.0, 2.0])
    directions = targets + torch.tensor(BRICKS.lower_m) - origin
    hits = cast(BRICKS, occupied, origin, directions)
    ends = origin + 20.0 * directions / directions.norm(dim=1, keepdim=True)
    index, ray, length_m = traverse(BRICKS, origin.expand(200, 3), ends)
    for r in range(200):
        rows = ((ray == r) & (length_m > 1e-9)).nonzero()[:, 0]
        flat = BRICKS.flat_from_index(index[rows])
        blocked = occupied.reshape(-1)[flat].nonzero()[:, 0]
        assert int(hits.voxel[r]) == (int(flat[blocked[0]]) if len(blocked) else -1)
        if len(blocked):
            thickness = float(length_m[rows[blocked[0]]])
            assert float(hits.leave_m[r] - hits.enter_m[r]) == pytest.approx(thickness, abs=1e-7)
