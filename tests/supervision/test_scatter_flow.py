"""Rays through scattered voxels: what is rendered without a copy equals what the published copies give."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_march_sampled import FEW, random_rays, random_volume
from test_rendering import GRID, batch_with, car_and_wall, driving, straight, volume_scene
from torch import Tensor

from lexivox.config import RaysConfig, RenderingConfig
from lexivox.data.motion import BoxPairs, Motion
from lexivox.data.types import Rays
from lexivox.ops.render import extinction_from_logit
from lexivox.ops.render_sampled import PUBLISHED, Sampling, render_sampled
from lexivox.ops.render_volume import Rendered, render_volume
from lexivox.recipes import occflownet_2d_flow, released
from lexivox.supervision.march import Optics, march
from lexivox.supervision.march_sampled import march_sampled
from lexivox.supervision.motion import PUBLISHED_FLOW
from lexivox.supervision.rendering import Rendering
from lexivox.supervision.scatter_flow import scatter_nearest

COPIES = {(0, 0): 0, (1, 0): 1, (0, -1): 2, (0, 1): 3, (1, -1): 4, (1, 1): 5}
"""Which copy of the volumes a sample is rendered in at a keyframe: those of now, then one for each neighbour."""


def crossing() -> Motion:
    """Boxes of classes 1 to 3 in two samples and two keyframes: they turn, cross, leave the grid, and vanish."""
    then = [(5.0, 0.3, 0.1), (9.0, -0.5, 0.0), (15.6, 0.0, 0.0), (4.0, 0.0, 0.0), (6.0, 1.0, 0.0), (7.0, 0.0, 0.4)]
    now = [(7.3, 0.0, 0.2), (6.1, 0.4, 0.0), (13.0, 0.0, 0.0), (9.0, 0.0, 0.0), (6.0, 0.2, 0.0), (10.0, 0.0, 0.0)]
    return Motion.of_pairs(
        GRID,
        (-1, 1),
        2,
        BoxPairs(
            group=torch.tensor([0, 0, 1, 2, 3, 3]),
            center_then=torch.tensor(then),
            yaw_then=torch.tensor([0.4, 1.5, 0.0, 0.0, math.pi / 2, 0.0]),
            center_now=torch.tensor(now),
            yaw_now=torch.tensor([0.0, 1.2, 0.0, 0.0, 0.0, 0.3]),
            half_m=torch.tensor([[1.0, 0.6, 0.7]] * 6),
            label=torch.tensor([1, 2, 3, 1, 1, 2]),
            has_then=torch.tensor([True, True, True, True, True, False]),
            has_now=torch.tensor([True, True, True, True, True, True]),
        ),
        margin_m=0.0,
    )


def copies(volume: Tensor, motion: Motion) -> tuple[Tensor, Tensor]:
    """Extinction and logits of now and of every keyframe of every sample, scattered as published."""
    whole = torch.cat([extinction_from_logit(volume[:, :1], 0.4), volume[:, 1:]], dim=1)
    predicted = volume[:, 1:].argmax(dim=1)
    moved = [
        scatter_nearest(whole[n // 2], predicted[n // 2], GRID, motion.pairs.rows(motion.pairs.group == n))
        for n in range(4)
    ]
    every = torch.cat([whole, torch.stack(moved)])
    return every[:, 0], every[:, 1:]


def rendered(volume: Tensor, motion: Motion, rays: Rays, sampling: Sampling | None) -> Rendered:
    extinction, logits = copies(volume, motion)
    seen = torch.tensor([COPIES[key] for key in zip(rays.batch.tolist(), rays.offset.tolist(), strict=True)])
    parts = {"semantic": logits}, rays.origins, rays.directions, seen
    if sampling is None:
        opacity = 1.0 - torch.exp(-0.4 * extinction)
        return render_volume(GRID, opacity, *parts, background="none", eps=0.0)
    return render_sampled(GRID, extinction, *parts, sampling, background="none")


@pytest.mark.parametrize("sampling", [None, replace(PUBLISHED, **FEW)], ids=["walk", "samples"])
def test_scattered_places_render_as_scattered_copies(sampling):
    volume, rays, motion = random_volume(), random_rays(80), crossing()
    optics = Optics(sampling=sampling, match_class=True, warp="scatter_nearest", eps=0.0)
    follow = march_sampled if sampling else march
    followed = follow(volume_scene(volume, semantic=(1, 5)), GRID, rays, motion, optics)
    expected = rendered(volume, motion, rays, sampling)
    torch.testing.assert_close(followed.weights.weight, expected.weights.weight, atol=5e-5, rtol=0.0)
    torch.testing.assert_close(followed.weights.moment_m, expected.depth_m, atol=5e-4, rtol=0.0)
    ours, theirs = followed.seen("semantic"), expected.features["semantic"]
    torch.testing.assert_close(ours, theirs, atol=5e-4, rtol=0.0)
    slopes = [torch.autograd.grad(x.square().sum(), volume, retain_graph=True)[0] for x in (ours, theirs)]
    torch.testing.assert_close(slopes[0], slopes[1], atol=5e-4, rtol=0.0)
    still = follow(volume_scene(volume, semantic=(1, 5)), GRID, rays, None, optics)
    assert (still.weights.moment_m - followed.weights.moment_m).abs().max() > 0.1  # a check that can fail


def test_by_whole_voxels_both_warps_see_the_same():
    """Spec 13-7: the car of now stands at 8 m, at the keyframes beside at 4 m."""
    rays, scene = straight(2, offset=torch.tensor([0, 1])), volume_scene(car_and_wall(), semantic=(1, 3))
    for warp in ("inverse", "scatter_nearest"):
        seen = march(scene, GRID, rays, driving(), Optics(far_m=15.0, match_class=True, warp=warp))
        assert seen.weights.moment_m.tolist() == pytest.approx([8.0, 4.0], abs=0.3)


def test_what_vanishes_stays_as_a_ghost_and_no_ray_is_left_out():
    rays = straight(2, offset=torch.tensor([0, 1]))
    scene = volume_scene(car_and_wall(), semantic=(1, 3))
    seen = march(scene, GRID, rays, driving(then_x=None), Optics(far_m=15.0, warp="scatter_nearest"))
    assert seen.weights.moment_m.tolist() == pytest.approx([8.0, 8.0], abs=0.3)
    batch = batch_with(replace(rays, depth_m=torch.tensor([8.0, 5.0])))
    batch = replace(batch, targets=replace(batch.targets, motion=driving(now_x=None)))
    for warp, depth in (("inverse", 0.0), ("scatter_nearest", 1.5)):  # the return at 5 m has no counterpart now
        signal = Rendering(depth=1.0, optics=Optics(far_m=15.0, warp=warp))
        assert float(signal(scene, batch)["render/depth"]) == pytest.approx(depth, abs=0.1)


def test_the_released_flow_scatters_the_published_classes_however_slow():
    config = released(occflownet_2d_flow()).supervision[0]
    assert config.warp == "scatter_nearest"
    assert config.build().optics.warp == "scatter_nearest"
    assert config.motion().keywords == {
        "horizon": (-3, -2, -1, 1, 2, 3), "min_speed_mps": 0.0, "labels": PUBLISHED_FLOW
    }  # fmt: skip
    assert occflownet_2d_flow().supervision[0].motion().keywords == {"horizon": (-3, -2, -1, 1, 2, 3)}
    assert RenderingConfig(rays=RaysConfig(reach=1), warp="scatter_nearest").motion() is None
