"""The best answers to a query, one per place: neighbours of a better voxel say nothing new."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, Int64

from lexivox.geometry.grid import VoxelGrid

MAX_CANDIDATES = 4096


def top_hits(
    grid: VoxelGrid,
    index: Int[np.ndarray, "N 3"],
    score: Float[np.ndarray, "N"],
    count: int = 8,
    apart_m: float = 4.0,
) -> Int64[np.ndarray, "hits"]:
    """Rows of the best voxels, best first, no two closer than ``apart_m``; at most ``count``.

    Only the best 4096 voxels are looked at, so a query costs the same on a large map.
    """
    usable = np.flatnonzero(np.isfinite(score))
    if len(usable) > MAX_CANDIDATES:
        usable = usable[np.argpartition(-score[usable], MAX_CANDIDATES)[:MAX_CANDIDATES]]
    order = usable[np.argsort(-score[usable], kind="stable")]
    xyz = centers(grid, index[order])
    chosen: list[int] = []
    open_ = np.ones(len(order), dtype=bool)
    while open_.any() and len(chosen) < count:
        best = int(np.argmax(open_))
        chosen.append(int(order[best]))
        open_ &= np.square(xyz - xyz[best]).sum(axis=-1) >= apart_m**2
        open_[best] = False
    return np.asarray(chosen, dtype=np.int64)


def centers(grid: VoxelGrid, index: Int[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Voxel centres in metres, float64."""
    return grid.xyz_from_index(torch.from_numpy(index.astype(np.int64)), torch.float64).numpy()
