"""Which voxels do rays pass through? Compiled on the CPU when numba is installed, pure torch elsewhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.rays import clip_segments, sample_segments, visited_voxels

_RAYS_AT_ONCE = 4096
"""Rays per pass in torch: the working set of a pass stays in the cache of a CPU."""

_RAYS_AT_ONCE_CUDA = 1 << 18


@cache
def has_compiled_kernels() -> bool:
    """True when the optional numba is installed (``pip install lexivox[fast]``)."""
    return importlib.util.find_spec("numba") is not None


def mark_free(
    grid: VoxelGrid,
    origins: Float[Tensor, "R 3"] | Float[Tensor, "3"],
    ends: Float[Tensor, "R 3"],
) -> Bool[Tensor, "X Y Z"]:
    """True for the voxels that a ray passes before it reaches the voxel of its end, by exact traversal.

    A ray that ends outside the grid frees everything it passes inside; NaN and infinite rays free nothing. A
    voxel may hold the end of one ray and be passed by another.

    Args:
        origins: one for every ray, or one for all, in metres of the grid's frame.
        ends: where the rays stop.
    """
    if ends.device.type == "cpu" and has_compiled_kernels():
        return mark_free_numba(grid, origins, ends)
    return mark_free_torch(grid, origins, ends)


def mark_free_numba(
    grid: VoxelGrid, origins: Float[Tensor, "R 3"] | Float[Tensor, "3"], ends: Float[Tensor, "R 3"]
) -> Bool[Tensor, "X Y Z"]:
    """:func:`mark_free` by the compiled kernel; tensors on the CPU only."""
    from lexivox.ops.kernels import traversal_numba

    free = torch.zeros(grid.shape, dtype=torch.bool)
    traversal_numba.mark_free(
        origins.detach().reshape(-1, 3).to(torch.float64).contiguous().numpy(),
        ends.detach().to(torch.float64).contiguous().numpy(),
        tuple(float(v) for v in grid.lower_m),
        tuple(float(v) for v in grid.voxel_size_m),
        grid.shape,
        free.view(-1).numpy(),
    )
    return free


def mark_free_torch(
    grid: VoxelGrid, origins: Float[Tensor, "R 3"] | Float[Tensor, "3"], ends: Float[Tensor, "R 3"]
) -> Bool[Tensor, "X Y Z"]:
    """:func:`mark_free` in torch, on any device."""
    free = torch.zeros(grid.num_voxels, dtype=torch.bool, device=ends.device)
    for some_origins, some_ends in _chunks(origins, ends):
        segments = clip_segments(grid, some_origins, some_ends)
        index, row, _ = visited_voxels(segments)
        is_last = torch.ones_like(row, dtype=torch.bool)
        is_last[:-1] = row[1:] != row[:-1]
        free[grid.flat_from_index(index[~(is_last & segments.ends_inside[row])])] = True
    return free.view(grid.shape)


def mark_sampled(
    grid: VoxelGrid,
    origins: Float[Tensor, "R 3"] | Float[Tensor, "3"],
    ends: Float[Tensor, "R 3"],
    num_samples: int = 100,
) -> Bool[Tensor, "X Y Z"]:
    """True for voxels that hold one of ``num_samples`` evenly spaced points of a ray, both ends included."""
    marked = torch.zeros(grid.num_voxels, dtype=torch.bool, device=ends.device)
    for some_origins, some_ends in _chunks(origins, ends):
        is_real = (some_origins + some_ends).isfinite().all(dim=-1)
        index = sample_segments(grid, some_origins[is_real], some_ends[is_real], num_samples)
        marked[grid.flat_from_index(index[grid.contains_index(index)])] = True
    return marked.view(grid.shape)


def _chunks(
    origins: Float[Tensor, "R 3"] | Float[Tensor, "3"], ends: Float[Tensor, "R 3"]
) -> Iterator[tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]]:
    size = _RAYS_AT_ONCE if ends.device.type == "cpu" else _RAYS_AT_ONCE_CUDA
    origins = origins.expand_as(ends)
    return zip(origins.split(size), ends.split(size), strict=True)
