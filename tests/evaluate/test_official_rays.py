"""RayIoU against a literal twin of the published tool: every label and every distance, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.official_rays import cast, rayiou

from lexivox.data.benchmark_classes import OCC3D
from lexivox.evaluate.rayiou import RayIouScore, ray_directions
from lexivox.geometry.grid import OCC3D as GRID
from lexivox.geometry.grid import VoxelGrid

LOW = VoxelGrid((-4.0, -4.0, -1.0), (0.4, 0.4, 0.4), (20, 20, 6), "ego")
# Inside, inside an occupied voxel, on a border, in the last voxel; below, within a voxel below, far above; a corner.
ORIGINS = (
    (0.1, -0.3, 0.9), (0.9858, 0.0, 0.8), (0.0, 0.0, 0.2), (3.99, 3.99, 1.39),
    (0.3, 0.2, -2.7), (0.3, 0.2, -1.2), (-0.7, 1.1, 3.4), (-4.0, -4.0, -1.0),
)  # fmt: skip


def street(seed, shape, free_share=0.97):
    """Noise, a wall, and ground with holes; seeds 0 and 1 are all free and all occupied, seed 2 has one voxel."""
    rng = np.random.default_rng(seed)
    if seed < 2:
        return np.full(shape, 17 if seed == 0 else 4, np.uint8)
    label = np.full(shape, 17, np.uint8)
    if seed == 2:
        label[tuple(s // 2 for s in shape)] = 4
        return label
    noisy = rng.random(shape) > free_share
    label[noisy] = rng.integers(0, 17, noisy.sum())
    label[..., 0] = np.where(rng.random(shape[:2]) < 0.5, 11, 17)
    label[shape[0] * 3 // 4] = 15
    return label


def rays_of(grid, label, origins, directions):
    parts = [cast(label, 17, origin, directions, grid.lower_m, grid.voxel_size_m[0]) for origin in origins]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def agrees(grid, pairs, origins, directions):
    """Scores and every single ray of volumes (said, true)."""
    ours, theirs = RayIouScore(OCC3D, grid, torch.from_numpy(directions)), []
    for said, true in pairs:
        walked = ours._rays(torch.tensor(origins, dtype=torch.float64))
        for label in (said, true):
            voxel, away_m = ours._first(torch.from_numpy(label), walked)
            theirs.append(rays_of(grid, label, origins, directions))
            assert np.array_equal(label.reshape(-1)[voxel.numpy()], theirs[-1][0])
            assert np.array_equal(away_m.numpy(), theirs[-1][1])
        ours.update(torch.from_numpy(said), torch.from_numpy(true), torch.tensor(origins, dtype=torch.float64))
    wanted = rayiou([(*said, *true) for said, true in zip(theirs[::2], theirs[1::2], strict=True)], 18)
    np.testing.assert_array_equal(ours.iou()[:, :17].numpy(), wanted)
    values = ours.compute().values
    if np.isfinite(wanted).any():
        assert values["rayiou"] == pytest.approx(np.nanmean(wanted), abs=1e-15)
        at = [np.nanmean(row) for row in wanted]
        assert [values[f"rayiou_{t}m"] for t in (1, 2, 4)] == pytest.approx(at, abs=1e-15)
    else:
        assert values["rayiou"] is None


@pytest.mark.parametrize("seed", range(12))
def test_small_streets_and_strange_origins(seed):
    rng = np.random.default_rng(100 + seed)
    axes = np.concatenate([np.eye(3), -np.eye(3), [[0.6, 0.8, 0.0], [-0.6, 0.0, 0.8]]]).astype(np.float32)
    some = rng.normal(size=(40, 3))
    directions = np.concatenate([axes, some / np.linalg.norm(some, axis=1, keepdims=True)]).astype(np.float32)
    pairs = [(street(seed, LOW.shape), street((seed + k) % 12, LOW.shape)) for k in (0, 1, 5)]
    agrees(LOW, pairs, ORIGINS, directions)


def test_rays_of_the_benchmark_in_its_grid():
    """Every 61st ray, at the real size; a LiDAR that stood on a hill and one that stood in a valley."""
    origins = ((0.9858, 0.0, 1.8402), (20.3, -38.99, 7.1), (-17.0, 3.0, -3.3))
    pairs = [(street(5, GRID.shape, 0.999), street(6, GRID.shape, 0.999))]
    agrees(GRID, pairs, origins, ray_directions().numpy()[::61])
