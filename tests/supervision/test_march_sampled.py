"""Sampled rays through a scene against the renderer of volumes that reproduces the official numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_rendering import GRID, batch_with, car_and_wall, driving, rays_of, straight, volume_scene
from torch import Tensor

from lexivox.data.types import Rays
from lexivox.ops.render import extinction_from_logit
from lexivox.ops.render_sampled import PUBLISHED, Sampling, render_sampled
from lexivox.ops.render_volume import Rendered, without_classes
from lexivox.supervision.march import Optics
from lexivox.supervision.march_sampled import march_sampled
from lexivox.supervision.rendering import Rendering

FEW = {"far_m": 12.0, "num_proposals": 20, "num_samples": 30}
SAMPLINGS = [replace(Sampling(), **FEW), replace(PUBLISHED, **FEW)]


def random_volume() -> Tensor:
    """Logits of density, then four classes."""
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(2, 5, *GRID.shape, generator=generator)
    volume[:, 0] -= 2.0
    return volume.requires_grad_()


def random_rays(count: int = 50) -> Rays:
    generator = torch.Generator().manual_seed(1)
    draw = torch.rand(2, count, 3, generator=generator)
    size = torch.tensor([14.0, 3.6, 3.6])
    lower = torch.tensor([1.0, -1.8, -1.8])
    known = {"batch": torch.arange(count) % 2, "offset": torch.arange(count) % 3 - 1}
    return rays_of(lower + draw[0] * size, lower + draw[1] * size, label=torch.arange(count) % 4, **known)


def rendered(volume: Tensor, rays: Rays, sampling: Sampling, transparent: tuple[int, ...]) -> Rendered:
    """The same by the renderer of volumes."""
    extinction = extinction_from_logit(volume[:, 0], 0.4)
    static = without_classes(extinction, volume[:, 1:], torch.tensor(transparent, dtype=torch.int64))
    seen = rays.batch + 2 * (rays.offset != 0)
    return render_sampled(
        GRID,
        torch.cat([extinction, static]),
        {"semantic": volume[:, 1:]},
        rays.origins,
        rays.directions,
        rays.batch,
        sampling,
        seen=seen,
        background="none",
    )


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["default", "published"])
@pytest.mark.parametrize("transparent", [(), (1, 3)], ids=["all", "filtered"])
def test_a_scene_is_sampled_as_its_volume(sampling, transparent):
    volume, rays = random_volume(), random_rays()
    optics = Optics(sampling=sampling, transparent=transparent, eps=0.0)
    followed = march_sampled(volume_scene(volume, semantic=(1, 5)), GRID, rays, None, optics)
    expected = rendered(volume, rays, sampling, transparent)
    torch.testing.assert_close(followed.weights.weight, expected.weights.weight, atol=2e-5, rtol=0.0)
    torch.testing.assert_close(followed.weights.moment_m, expected.depth_m, atol=2e-4, rtol=0.0)
    ours, theirs = followed.seen("semantic"), expected.features["semantic"]
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0.0)
    slopes = [torch.autograd.grad(x.square().sum(), volume, retain_graph=True)[0] for x in (ours, theirs)]
    torch.testing.assert_close(slopes[0], slopes[1], atol=2e-4, rtol=0.0)


def test_the_supervision_takes_samples_where_told():
    volume, rays = random_volume(), random_rays()
    scene, batch = volume_scene(volume, semantic=(1, 5)), batch_with(rays)
    exact, sampled = (
        Rendering(semantic=1.0, distortion=0.01, optics=Optics(far_m=12.0, sampling=s))(scene, batch)
        for s in (None, SAMPLINGS[0])
    )
    assert exact.keys() == sampled.keys()
    for name, loss in sampled.items():
        assert float(loss.detach()) != float(exact[name].detach())
        assert float(loss.detach()) == pytest.approx(float(exact[name].detach()), rel=0.5)
    (slope,) = torch.autograd.grad(torch.stack(list(sampled.values())).sum(), volume)
    assert slope.isfinite().all()
    assert slope[:, 0].any()
    assert slope[:, 1:].any()


@pytest.mark.parametrize("match_class", [False, True])
def test_samples_follow_what_moves(match_class):
    """The car of now stands at 8 m, at the keyframes beside at 4 m; samples see it there, to a step."""
    rays = straight(2, offset=torch.tensor([0, 1]))
    scene = volume_scene(car_and_wall(), semantic=(1, 3))
    optics = Optics(sampling=Sampling(far_m=15.0, num_proposals=75, num_samples=150), match_class=match_class)
    depth_m = march_sampled(scene, GRID, rays, driving(), optics).weights.moment_m
    assert depth_m.tolist() == pytest.approx([8.0, 4.0], abs=0.3)
    still = march_sampled(scene, GRID, rays, None, optics).weights.moment_m
    assert still.tolist() == pytest.approx([8.0, 8.0], abs=0.3)


def test_no_rays_are_no_trouble():
    nothing = random_rays(0)
    followed = march_sampled(volume_scene(random_volume(), semantic=(1, 5)), GRID, nothing, None, Optics())
    assert followed.seen("semantic").shape == (0, 4)
