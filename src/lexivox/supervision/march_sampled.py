"""Light through a scene by samples, as published (spec occflownet 2.3, 2.4): to compare the exact walk with.

The heads are read at the centres of the voxels around samples, once each, and what they say is interpolated. Samples
of other keyframes inside something that moves are taken where it stands now.
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
from lexivox.ops.walk import unique_rows
from lexivox.supervision.march import March, Optics, Places, extinction_of, follow_motion, looked_through


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
    if motion is not None and bool(is_other.any()):
        rows = is_other.nonzero()[:, 0]
        now = follow_motion(scene, grid, rays, ray[rows], xyz[rows], motion, optics)
        is_clear[rows] = now.is_clear
        xyz[rows] = torch.where(now.is_moved[:, None], now.xyz, xyz[rows])
    cells, share = read_cells(grid, xyz, optics.sampling or Sampling())
    size = grid.num_voxels * (int(rays.batch.max()) + 1 if len(rays.batch) else 1)
    number, row = unique_rows((cells + (rays.batch[ray] * grid.num_voxels)[:, None]).flatten(), size)
    centers = grid.xyz_from_index(grid.index_from_flat(number % grid.num_voxels)).to(rays.origins)
    batch, is_other, is_clear = (
        number // grid.num_voxels,
        is_other.repeat_interleave(8),
        is_clear.repeat_interleave(8),
    )
    if optics.transparent:
        is_clear |= looked_through(scene, centers, batch, row, is_other, optics)
    return Places(centers, batch, row, is_clear, share.flatten())
