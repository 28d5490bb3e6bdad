"""Rendering by samples, as OccFlowNet was published (spec 2.3, 2.4): a proposal pass, then importance samples.

Kept to compare with; :mod:`lexivox.ops.render` needs no number of samples and is faster. Two published habits are
repaired unless asked for: interpolation that puts the outermost voxel centres on the faces of the box (A3), and
light that nothing stopped counted as stopped in the last proposal, which sends all samples of a ray through thin air
to its far end (A15). Jitter is given or asked for: without it, as at test time, the same rays see the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.render import Background, Weights, composite_rows, render_weights
from lexivox.ops.render_volume import Rendered
from lexivox.ops.sampling import gather_rows, table_from_maps, trilinear_cells
from lexivox.ops.walk import Segments


@dataclass(frozen=True, slots=True)
class Sampling:
    """Where a ray is sampled, and how volumes are read there.

    Attributes:
        near_m, far_m: the part of the ray that is sampled.
        num_proposals: even pieces of the first pass.
        num_samples: steps of the second pass, dense where the first one found something.
        grid_align: ``"centers"``: a voxel's value stands at its centre, and the outer half of the outermost voxels
            has their value; ``"corners"``: as published, stretched by one voxel (A3).
        leftover: where the share of light that the proposals did not stop is sampled: ``"spread"`` evenly over the
            ray, or in the ``"last"`` piece, as published (A15).
        jitter: draw the jitter of :func:`proposal_edges` from torch's own numbers where none is given, as published.
    """

    near_m: float = 0.05
    far_m: float = 40.0
    num_proposals: int = 50
    num_samples: int = 100
    grid_align: Literal["centers", "corners"] = "centers"
    leftover: Literal["spread", "last"] = "spread"
    jitter: bool = False


PUBLISHED = Sampling(grid_align="corners", leftover="last")


def render_sampled(
    grid: VoxelGrid,
    extinction: Float[Tensor, "V X Y Z"],
    volumes: Mapping[str, Tensor],
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    batch: Int64[Tensor, "R"],
    sampling: Sampling = Sampling(),
    *,
    jitter: Float[Tensor, "R J"] | None = None,
    seen: Int64[Tensor, "R"] | None = None,
    background: Background = "exit",
    eps: float = 0.0,
) -> Rendered:
    """Depth, opacity and features of rays; differentiable in all volumes, not in where the samples are.

    Args:
        extinction: per metre. There may be more of them than samples, as when moving things are taken out for the
            rays of other moments.
        volumes: ``(B, C, X, Y, Z)`` each.
        origins, directions: metres of the grid's frame; unit directions.
        batch: the sample whose volumes each ray reads.
        jitter: see :func:`proposal_edges`.
        seen: the extinction that each ray runs through; ``batch`` if None.
        eps: features of voxels with less weight are left out.
    """
    seen = batch if seen is None else seen
    rays = origins, directions
    with torch.no_grad():
        edges = proposal_edges(len(origins), sampling, jitter, like=origins)
        proposals = segments_from_edges(edges)
        found = read_extinction(grid, extinction, proposals.middles(*rays), seen[proposals.ray], sampling)
        samples_m = importance_samples(edges, render_weights(found, proposals), sampling)
        steps = segments_from_edges(edges_between(samples_m, sampling))
    ray = steps.ray
    # Read at the samples, as published; they lie off the middle of their step where the spacing changes.
    xyz = origins[ray] + samples_m.reshape(-1, 1) * directions[ray]
    rows, share = read_cells(grid, xyz, sampling)
    read = _read_extinction_at(extinction, rows, share, seen[ray])
    weights = render_weights(read, steps)
    depth_m = steps.sum(weights.weight * steps.middle_m)
    if background == "exit":
        depth_m = depth_m + weights.remaining * sampling.far_m
    feature_rows, feature_share = rows + (batch[ray] * grid.num_voxels)[:, None], weights.weight[:, None] * share
    features = {
        name: composite_rows(
            feature_share.flatten(), feature_rows.flatten(), table_from_maps(volume), 8 * steps.count, eps
        )
        for name, volume in volumes.items()
    }
    return Rendered(depth_m, features, weights, steps)


def proposal_edges(
    num_rays: int, sampling: Sampling, jitter: Float[Tensor, "R J"] | None, *, like: Tensor
) -> Float[Tensor, "R E"]:
    """Distances between the even pieces of each ray, E = num_proposals + 1.

    Args:
        jitter: moves each inner edge by up to half a piece either way; numbers in [0, 1), J = num_proposals - 1.
    """
    near, far, num = sampling.near_m, sampling.far_m, sampling.num_proposals
    edges = torch.linspace(near, far, num + 1, dtype=like.dtype, device=like.device).repeat(num_rays, 1)
    if jitter is None and sampling.jitter:
        jitter = torch.rand(num_rays, num - 1, device=like.device)
    if jitter is not None:
        edges[:, 1:-1] += (jitter.to(like) - 0.5) * ((far - near) / num)
    return edges


def importance_samples(edges: Float[Tensor, "R E"], proposals: Weights, sampling: Sampling) -> Float[Tensor, "R S"]:
    """Distances at even shares of the light that each ray loses in its proposals, whose borders are ``edges``."""
    stopped = 1.0 - proposals.transmittance.view(len(edges), edges.shape[1] - 1)
    if sampling.leftover == "last":
        stopped = torch.cat([stopped, torch.ones_like(edges[:, :1])], dim=1)
    else:
        remaining = proposals.remaining[:, None]
        even = (edges - edges[:, :1]) / (edges[:, -1:] - edges[:, :1])
        stopped = torch.cat([stopped, 1.0 - remaining], dim=1) + remaining * even
    num = sampling.num_samples
    share = (torch.arange(num, dtype=edges.dtype, device=edges.device) + 0.5) / num
    return _inverse(stopped, edges, share.expand(len(edges), num).contiguous())


def edges_between(samples_m: Float[Tensor, "R S"], sampling: Sampling) -> Float[Tensor, "R E"]:
    """Borders half way between samples; half a spacing beyond the first and the last one. E = S + 1."""
    middles = 0.5 * (samples_m[:, 1:] + samples_m[:, :-1])
    first = samples_m[:, :1] - 0.5 * (samples_m[:, 1:2] - samples_m[:, :1])
    last = samples_m[:, -1:] + 0.5 * (samples_m[:, -1:] - samples_m[:, -2:-1])
    return torch.cat([first, middles, last], dim=1).clamp(sampling.near_m, sampling.far_m)


def _inverse(
    rising: Float[Tensor, "R E"], places: Float[Tensor, "R E"], wanted: Float[Tensor, "R S"]
) -> Float[Tensor, "R S"]:
    """The places where piecewise linear functions, rising from 0 to 1, take the wanted values."""
    upper = torch.searchsorted(rising, wanted, right=True).clamp(1, rising.shape[1] - 1)
    low, high = rising.gather(1, upper - 1), rising.gather(1, upper)
    start, stop = places.gather(1, upper - 1), places.gather(1, upper)
    part = ((wanted - low) / (high - low).clamp_min(1e-10)).clamp(0.0, 1.0)
    return start + part * (stop - start)


def segments_from_edges(edges: Float[Tensor, "R E"]) -> Segments:
    """Steps between given distances; they lie in no one voxel, so their ``voxel`` is -1."""
    start, stop = edges[:, :-1].flatten(), edges[:, 1:].flatten()
    count = torch.full((len(edges),), edges.shape[1] - 1, device=edges.device)
    return Segments(count, torch.full_like(start, -1, dtype=torch.int64), start, stop)


def read_cells(
    grid: VoxelGrid, xyz: Float[Tensor, "P 3"], sampling: Sampling
) -> tuple[Int64[Tensor, "P 8"], Float[Tensor, "P 8"]]:
    """Voxels around points and their weights; all weights are 0 outside the grid."""
    shape = xyz.new_tensor(grid.shape)
    coordinate = grid.coordinate_from_xyz(xyz)
    if sampling.grid_align == "corners":
        return trilinear_cells(coordinate / shape * (shape - 1.0) + 0.5, grid.shape)
    rows, share = trilinear_cells(coordinate.clamp_min(0.5).minimum(shape - 0.5), grid.shape)
    return rows, share * grid.contains(xyz)[:, None]


def read_extinction(
    grid: VoxelGrid,
    extinction: Float[Tensor, "V X Y Z"],
    xyz: Float[Tensor, "P 3"],
    seen: Int64[Tensor, "P"],
    sampling: Sampling,
) -> Float[Tensor, "P"]:
    """Trilinear extinction at points of the volumes ``seen``; 0 outside."""
    return _read_extinction_at(extinction, *read_cells(grid, xyz, sampling), seen)


def _read_extinction_at(
    extinction: Float[Tensor, "V X Y Z"],
    rows: Int64[Tensor, "P 8"],
    share: Float[Tensor, "P 8"],
    seen: Int64[Tensor, "P"],
) -> Float[Tensor, "P"]:
    rows = rows + (seen * extinction[0].numel())[:, None]
    return gather_rows(extinction.reshape(-1, 1), rows, share)[:, 0]
