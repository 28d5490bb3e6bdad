"""Whole volumes along rays: quadrature, batches, mirrored worlds, and a wall learnt from depth alone."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from lexivox.errors import ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.ops import render
from lexivox.ops.render import (
    Background,
    Density,
    extinction_from_logit,
    extinction_from_opacity,
    render_depth,
    render_weights,
)
from lexivox.ops.render_volume import render_volume, without_classes
from lexivox.ops.sampling import has_numba
from lexivox.ops.walk import walk

GRID = VoxelGrid((-8.0, -2.0, -1.0), (0.4, 0.4, 0.4), (40, 10, 5), "ego")
PATHS = [
    pytest.param("torch"),
    pytest.param("numba", marks=pytest.mark.skipif(not has_numba(), reason='no numba; pip install "lexivox[fast]"')),
]


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    monkeypatch.setattr(render, "has_numba", lambda: request.param == "numba")
    return request.param


def volumes(samples=2, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    opacity = torch.rand(samples, *GRID.shape, generator=generator) ** 4
    return opacity, torch.randn(samples, channels, *GRID.shape, generator=generator)


def rays(count=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=generator) * torch.tensor([3.0, 1.0, 0.3])
    towards = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return origins, towards


def test_a_volume_is_seen_the_same_in_any_batch(path):
    opacity, logits = volumes()
    origins, towards = rays()
    batch = torch.arange(60) % 2
    both = render_volume(GRID, opacity, {"logits": logits}, origins, towards, batch, 7.0)
    for sample in range(2):
        own = batch == sample
        alone = render_volume(
            GRID,
            opacity[sample : sample + 1],
            {"logits": logits[sample : sample + 1]},
            origins[own],
            towards[own],
            torch.zeros(30).long(),
            7.0,
        )
        assert torch.equal(alone.depth_m, both.depth_m[own])
        assert torch.equal(alone.opacity, both.opacity[own])
        torch.testing.assert_close(alone.features["logits"], both.features["logits"][own], atol=1e-6, rtol=0.0)


def test_rendering_equals_dense_quadrature(path):
    """Spec 13-3: 20,000 steps along each ray, each with the nearest voxel's values: within 1e-3 m."""
    opacity, logits = volumes(samples=1)
    origins, towards = rays(12)
    ours = render_volume(
        GRID, opacity, {"logits": logits}, origins, towards, torch.zeros(12).long(), 5.0, background="none", eps=-1.0
    )
    edges = torch.linspace(0.0, 5.0, 20_001, dtype=torch.float64)
    middles, width = (edges[1:] + edges[:-1]) / 2, 5.0 / 20_000
    index = GRID.index_from_xyz(origins[:, None].double() + middles[:, None] * towards[:, None].double())
    inside = ((index >= 0) & (index < torch.tensor(GRID.shape))).all(-1)
    flat = GRID.flat_from_index(index).where(inside, torch.tensor(0))
    tau = width * extinction_from_opacity(opacity.double().flatten(), 0.4)[flat] * inside
    weight = torch.exp(-(tau.cumsum(1) - tau)) * -torch.expm1(-tau)
    torch.testing.assert_close(ours.opacity.double(), weight.sum(1), atol=2e-3, rtol=0.0)
    torch.testing.assert_close(ours.depth_m.double(), (weight * middles).sum(1), atol=2e-3, rtol=0.0)
    read = logits[0].flatten(1).T.double()[flat]
    torch.testing.assert_close(ours.features["logits"].double(), (weight[..., None] * read).sum(1), atol=5e-3, rtol=0.0)


def test_gradcheck_of_a_volume(path):
    small = VoxelGrid((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (3, 2, 2), "ego")
    generator = torch.Generator().manual_seed(0)
    opacity = (torch.rand(1, 3, 2, 2, generator=generator).double() * 0.8 + 0.1).requires_grad_()
    logits = torch.randn(1, 2, 3, 2, 2, generator=generator).double().requires_grad_()
    origins = torch.tensor([[-1.0, 0.3, 0.3], [0.7, 0.6, 0.2]]).double()
    towards = torch.tensor([[1.0, 0.2, 0.1], [-0.3, 0.1, 0.9]]).double()

    def outputs(opacity, logits):
        seen = render_volume(small, opacity, {"f": logits}, origins, towards, torch.zeros(2).long(), eps=-1.0)
        return seen.depth_m, seen.opacity, seen.features["f"]

    assert gradcheck(outputs, (opacity, logits))


def test_volumes_must_cover_the_grid():
    opacity, logits = volumes()
    with pytest.raises(ShapeError, match=r"logits must cover 2 samples of a grid of \(40, 10, 5\) voxels; got \(1, 3,"):
        render_volume(GRID, opacity, {"logits": logits[:1]}, *rays(4), torch.zeros(4).long())


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_a_mirrored_world_looks_the_same(axes):
    """Spec 13-6: flip the volume and the rays together: the same to 1e-5."""
    grid = VoxelGrid((-4.0, -4.0, -1.0), (0.4, 0.4, 0.4), (20, 20, 5), "ego")
    generator = torch.Generator().manual_seed(0)
    opacity = torch.rand(1, *grid.shape, generator=generator) ** 4
    logits = torch.randn(1, 3, *grid.shape, generator=generator)
    origins, towards = rays(60)
    batch, flip = torch.zeros(60).long(), torch.ones(3)
    flip[list(axes)] = -1.0
    plain = render_volume(grid, opacity, {"f": logits}, origins, towards, batch)
    flipped = opacity.flip([1 + a for a in axes]), logits.flip([2 + a for a in axes])
    mirrored = render_volume(grid, flipped[0], {"f": flipped[1]}, origins * flip, towards * flip, batch)
    torch.testing.assert_close(mirrored.depth_m, plain.depth_m, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(mirrored.features["f"], plain.features["f"], atol=1e-5, rtol=0.0)


def test_a_quarter_turn_about_the_vertical_looks_the_same():
    grid = VoxelGrid((-4.0, -4.0, -1.0), (0.4, 0.4, 0.4), (20, 20, 5), "ego")
    opacity = torch.rand(1, *grid.shape, generator=torch.Generator().manual_seed(0)) ** 4
    origins, towards = rays(60)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    plain = render_volume(grid, opacity, {}, origins, towards, torch.zeros(60).long())
    turned = render_volume(
        grid, opacity.rot90(1, (1, 2)), {}, origins @ turn.T, towards @ turn.T, torch.zeros(60).long()
    )
    torch.testing.assert_close(turned.depth_m, plain.depth_m, atol=1e-5, rtol=0.0)


def test_an_eighth_of_a_half_turn_looks_the_same():
    """Spec 13-6: under 22.5 degrees a ball, moved by T, is moved by T' = A T A^-1, and the camera sees it as before.

    Voxels of a turned world are others: with edges of 0.1 m depth agrees to half of that on average.
    """
    grid = VoxelGrid((-4.0, -4.0, -1.0), (0.1, 0.1, 0.1), (80, 80, 20), "ego")
    bda = RigidTransform.from_yaw(math.radians(22.5))
    grid_from_cam = RigidTransform.from_yaw(0.3, (-3.0, 0.2, 0.1))
    motion, ball = RigidTransform.from_yaw(0.2, (0.5, 0.1, 0.0)), torch.tensor([[0.8, 0.2, 0.0]])
    moved = motion.apply(ball)[0]
    turned = (bda @ motion @ bda.inverse()).apply(bda.apply(ball))[0]
    assert (moved - turned).norm() > 0.3
    draw = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    towards_cam = F.normalize(torch.cat([torch.ones(200, 1), 0.5 * draw], dim=1), dim=1)
    seen = []
    for center, pose in ((moved, grid_from_cam), (turned, bda @ grid_from_cam)):
        opacity = ((grid.centers() - center).norm(dim=-1) < 0.9).float()[None] * 0.9997
        towards = towards_cam @ pose.rotation.float().T
        origins = pose.translation.float().expand(200, 3)
        seen.append(render_volume(grid, opacity, {}, origins, towards, torch.zeros(200).long(), background="none"))
    hit = (seen[0].opacity > 0.5) & (seen[1].opacity > 0.5)
    assert hit.sum() > 60
    assert ((seen[0].opacity > 0.5) == (seen[1].opacity > 0.5)).float().mean() > 0.95
    gap = (seen[0].depth_m - seen[1].depth_m)[hit].abs()
    assert float(gap.mean()) < 0.05
    assert float(gap.quantile(0.95)) < 0.15


def learnt_wall(density: Density, background: Background) -> list[float]:
    """Fit density to the depth of a wall at 10 m, seen from many places; where each line first looks occupied."""
    grid = VoxelGrid((0.0, -4.0, -0.4), (0.4, 0.4, 0.4), (35, 20, 2), "ego")
    generator = torch.Generator().manual_seed(0)
    origins = torch.rand(600, 3, generator=generator) * torch.tensor([9.0, 6.0, 0.4]) - torch.tensor([0.0, 3.0, 0.2])
    angle = (torch.rand(600, generator=generator) - 0.5) * 2.2
    towards = torch.stack([angle.cos(), angle.sin(), torch.zeros(600)], dim=1)
    depth = (10.0 - origins[:, 0]) / towards[:, 0]
    meets = (origins[:, 1] + depth * towards[:, 1]).abs() < 3.9
    segments = walk(grid, origins[meets], towards[meets])
    logit = torch.full((grid.num_voxels,), -2.0, requires_grad=True)
    optimizer = torch.optim.Adam([logit], lr=0.3)
    for _ in range(250):
        weights = render_weights(extinction_from_logit(logit, 0.4, density)[segments.voxel], segments)
        loss = (render_depth(weights, segments, background) - depth[meets]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    occupied = (logit.detach().view(grid.shape) > 0).any(dim=2)[:, 4:16]
    assert occupied.any(dim=0).all()
    return (occupied.float().argmax(dim=0) * 0.4 + 0.2).tolist()


@pytest.mark.parametrize("background", ["none", "exit"])
def test_a_wall_is_learnt_where_it_stands(background):
    """Spec 13-5: half of a voxel's light stopped is occupied; the first such voxel is at 10 +- 0.4 m."""
    assert learnt_wall("voxel_alpha", background) == pytest.approx([10.0] * 12, abs=0.4)


def test_the_published_density_draws_the_wall_nearer():
    """A1: at most 1 / m of extinction needs a metre of wall, so the learnt one begins more than half a metre early."""
    begins = learnt_wall("sigmoid_per_metre", "none")
    assert sum(begins) / len(begins) < 9.5


def test_predicted_classes_are_looked_through():
    """Spec 3.2: voxels of the filtered classes let rays of other moments pass; the others keep their gradient."""
    extinction = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = torch.zeros(1, 4, 3, 2, 2)
    logits[0, 3, 0], logits[0, 1, 1], logits[0, 2, 2] = 1.0, 1.0, 1.0
    static = without_classes(extinction, logits, torch.tensor([1, 3]))
    assert not static[0, :2].any()
    assert torch.equal(static[0, 2], extinction[0, 2])
    (slope,) = torch.autograd.grad(static.sum(), extinction)
    assert slope[0].flatten(1).amax(1).tolist() == [0.0, 0.0, 1.0]
