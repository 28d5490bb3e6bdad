from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lexivox.errors import ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops import voxel_pool as ops
from lexivox.ops.voxel_pool import PoolPlan, voxel_pool, voxel_pool_numba, voxel_pool_torch
from tests.reference import lifting

GRID = VoxelGrid((-4.0, -3.0, -1.0), (1.0, 1.5, 0.5), (8, 4, 4), "ego")
POOLS = [voxel_pool_torch, voxel_pool_numba]


def case(size: int = 2, pixels: int = 9, bins: int = 5, channels: int = 3, seed: int = 0):
    """Points in and around the box, features and weights, in float64."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(size, pixels, bins, 3, generator=generator, dtype=torch.float64)
    lower, upper = (torch.tensor(bound, dtype=torch.float64) for bound in (GRID.lower_m, GRID.upper_m))
    xyz = lower - 1.0 + unit * (upper - lower + 2.0)
    feature = torch.randn(size * pixels, channels, generator=generator, dtype=torch.float64)
    weight = torch.rand(size * pixels, bins, generator=generator, dtype=torch.float64)
    return xyz, feature, weight


def slow(xyz, feature, weight, truncate=False):
    size = len(xyz)
    inputs = (x.unflatten(0, (size, -1)).numpy() for x in (feature, weight))
    return torch.from_numpy(lifting.pool(*inputs, xyz.numpy(), GRID.lower_m, GRID.voxel_size_m, GRID.shape, truncate))


def rows_of(pool, feature, weight, plan):
    return pool(feature, weight, plan).unflatten(0, (plan.size, *GRID.shape)).movedim(-1, 1)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("truncate", [False, True])
def test_equals_the_loop(pool, truncate) -> None:
    xyz, feature, weight = case()
    plan = PoolPlan.of(xyz, GRID, truncate=truncate)
    torch.testing.assert_close(
        rows_of(pool, feature, weight, plan), slow(xyz, feature, weight, truncate), atol=1e-12, rtol=0
    )


def alternatives(feature, weight, plan):
    """Spec 8.2 a, b, c: with a product of points x channels, a bag, a segmented sum."""
    pixel, chosen = plan.point // weight.shape[1], weight.flatten()[plan.point]
    product = feature[pixel] * chosen[:, None]
    counts = torch.diff(plan.first, append=torch.tensor([len(plan.point)]))
    owner = torch.repeat_interleave(plan.voxel, counts)
    zeros = feature.new_zeros(plan.size * GRID.num_voxels, feature.shape[1])
    yield zeros.index_add(0, owner, product)
    bags = F.embedding_bag(pixel, feature, plan.first, mode="sum", per_sample_weights=chosen)
    yield zeros.index_copy(0, plan.voxel, bags)
    yield zeros.index_copy(0, plan.voxel, torch.segment_reduce(product, "sum", lengths=counts))


@pytest.mark.parametrize("pool", POOLS)
def test_equals_the_other_ways_with_gradients(pool) -> None:
    # Spec 13, 1.
    xyz, feature, weight = case(pixels=40)
    plan = PoolPlan.of(xyz, GRID)
    feature.requires_grad_()
    weight.requires_grad_()
    cotangent = torch.randn(plan.size * GRID.num_voxels, 3, dtype=torch.float64)
    ours = pool(feature, weight, plan)
    gradients = torch.autograd.grad((ours * cotangent).sum(), (feature, weight))
    for other in alternatives(feature, weight, plan):
        torch.testing.assert_close(ours, other, atol=1e-12, rtol=0)
        expected = torch.autograd.grad((other * cotangent).sum(), (feature, weight), retain_graph=True)
        torch.testing.assert_close(gradients, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("pool", POOLS)
def test_gradcheck(pool) -> None:
    xyz, feature, weight = case(size=2, pixels=3, bins=3)
    plan = PoolPlan.of(xyz, GRID)
    inputs = feature.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda f, w: pool(f, w, plan)[plan.voxel], inputs)


def test_what_lies_just_below_the_box() -> None:
    # Spec 8.1 and 13, 1: at -40.2 m floor gives voxel -1, truncation voxel 0; at -40.5 both are outside.
    grid = VoxelGrid((-40.0, -40.0, -1.0), (0.4, 0.4, 0.4), (4, 4, 4), "ego")
    xyz = torch.tensor([-40.2, -40.0, -40.5, -38.3]).reshape(1, 4, 1, 1) * torch.tensor([1.0, 0.0, 0.0])
    xyz = xyz + torch.tensor([0.0, -39.9, -0.9])
    assert PoolPlan.of(xyz, grid).point.tolist() == [1]
    assert PoolPlan.of(xyz, grid, truncate=True).point.tolist() == [0, 1]
    assert PoolPlan.of(xyz, grid, truncate=True).voxel.tolist() == [0]


def test_a_plan_is_sorted_by_voxel() -> None:
    xyz, _, weight = case(pixels=50)
    plan = PoolPlan.of(xyz, GRID)
    rows = plan.voxel_of_point.flatten()[plan.point]
    assert bool((rows.diff() >= 0).all())
    assert torch.equal(rows[plan.first], plan.voxel)
    assert len(plan.point) == int((plan.voxel_of_point >= 0).sum()) < weight.numel()


@pytest.mark.parametrize("compiled", [False, True])
def test_nothing_inside(compiled, monkeypatch) -> None:
    monkeypatch.setattr(ops, "has_numba", lambda: compiled)
    xyz, feature, weight = case()
    feature.requires_grad_()
    volume = voxel_pool(feature, weight, PoolPlan.of(xyz + 100.0, GRID))
    volume.sum().backward()
    assert volume.shape == (2, 3, *GRID.shape)
    assert not volume.any()
    assert not feature.grad.any()
    empty = voxel_pool(feature[:0], weight[:0], PoolPlan.of(xyz[:, :0], GRID))
    assert empty.shape == (2, 3, *GRID.shape)


def test_sums_are_wide_and_volumes_channels_last() -> None:
    xyz, feature, weight = case()
    plan = PoolPlan.of(xyz, GRID)
    volume = voxel_pool(feature.bfloat16(), weight.float(), plan)
    assert volume.dtype == torch.float32
    assert volume.movedim(1, -1).is_contiguous()
    torch.testing.assert_close(volume, voxel_pool(feature.bfloat16().float(), weight.float(), plan))


def test_threads_change_nothing() -> None:
    xyz, feature, weight = case(pixels=9000, bins=8)
    plan = PoolPlan.of(xyz, GRID)
    feature, weight = feature.float().requires_grad_(), weight.float().requires_grad_()
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            volume = voxel_pool(feature, weight, plan)
            results.append((volume, *torch.autograd.grad(volume.square().sum(), (feature, weight))))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


def test_other_pixels_than_the_plans_are_refused() -> None:
    xyz, feature, weight = case()
    plan = PoolPlan.of(xyz, GRID)
    for wrong in ((feature[1:], weight), (feature, weight[:, 1:])):
        with pytest.raises(ShapeError, match=r"must have the plan's pixels and bins, \(18, 5\); got"):
            voxel_pool(*wrong, plan)
