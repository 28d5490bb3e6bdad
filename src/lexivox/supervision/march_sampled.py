"""Light through a scene by samples, as published (spec occflownet 2.3, 2.4): to compare the exact walk with.

The heads are read at the centres of the voxels around samples, once each, and what they say is interpolated. Samples
of other keyframes inside something that moves are taken where it stands now, or voxels are scattered, as published.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lexivox.data.motion import Motion
from lexivox.data.types import Rays
from lexivox.geometry.grid import VoxelGrid
from lexivox.model import Scene
from lexivox.ops.render import render_weights
from lexivox.ops.render_sampled import (
    Sampling,
    edges_between,
    importance_samples,
    proposal_edges,
    read_cells,
    segments_from_edges,
)
from lexivox.supervision.march import March, Optics, Places, Readings, extinction_of, follow_motion, places_of


def march_sampled(scene: Scene, grid: VoxelGrid, rays: Rays, motion: Motion | None, optics: Optics) -> March:
    """Follow rays through a scene by the samples of ``optics.sampling``; its ``behind_m`` is not heeded.

    The mean depth takes every step at its middle, as published.
    """
    sampling = optics.sampling or Sampling()
    edges = proposal_edges(len(rays.origins), sampling, None, like=rays.origins)
    with torch.no_grad():
        proposals = segments_from_edges(edges)
        found = find_samples(
            scene, grid, rays, proposals.middle_m.view(len(edges), sampling.num_proposals), motion, optics
        )
        light = render_weights(extinction_of(scene, grid, found, optics), proposals)
        samples_m = importance_samples(edges, light, sampling)
    steps = segments_from_edges(edges_between(samples_m, sampling))
    places = find_samples(scene, grid, rays, samples_m, motion, optics)
    weights = render_weights(extinction_of(scene, grid, places, optics), steps)
    weights = replace(weights, moment_m=steps.sum(weights.weight * steps.middle_m))
    return March(scene, steps, weights, places, optics.eps)


@torch.no_grad()
def find_samples(
    scene: Scene,
    grid: VoxelGrid,
    rays: Rays,
    samples_m: Float[Tensor, "R S"],
    motion: Motion | None,
    optics: Optics,
) -> Places:
    """Centres of the voxels around samples, and eight readings for each sample."""
    ray = torch.arange(len(samples_m), device=samples_m.device).repeat_interleave(samples_m.shape[1])
    xyz = rays.origins[ray] + samples_m.reshape(-1, 1) * rays.directions[ray]
    is_other = rays.offset[ray] != 0
    is_clear = torch.zeros_like(is_other)
    if motion is not None and optics.warp == "inverse" and bool(is_other.any()):
        rows = is_other.nonzero()[:, 0]
        now = follow_motion(scene, grid, rays, ray[rows], xyz[rows], motion, optics)
        is_clear[rows] = now.is_clear
        xyz[rows] = torch.where(now.is_moved[:, None], now.xyz, xyz[rows])
    cells, share = read_cells(grid, xyz, optics.sampling or Sampling())
    readings = Readings(
        ray.repeat_interleave(8),
        cells.flatten(),
        share.flatten(),
        torch.full_like(ray, 8),
        is_clear.repeat_interleave(8),
    )
    return places_of(scene, grid, rays, readings, motion, optics)
