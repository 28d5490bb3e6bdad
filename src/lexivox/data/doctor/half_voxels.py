"""Which of two readings, half a voxel apart, is right? Only places decide that the two say different things of.

Most of a sweep is road, which fits wherever a grid is moved along it. Walls, cars and kerbs tell: places where one
reading says occupied and the other free. A return should lie in an occupied voxel, and what its ray passed shortly
before should be free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.collate import grid_from_lidar
from lexivox.data.doctor.readings import Reading
from lexivox.data.types import Sample
from lexivox.geometry.grid import VoxelGrid

BORDER_M = 0.05
"""A return so near to a face may belong to the voxel on either side: roads lie on borders of voxels, sensors err."""

BEFORE = (1.0, 1.5, 2.0, 3.0, 4.0)
"""Voxels before the return where its ray is asked about."""

FEW = 20
"""So many votes for nobody: a handful of others decides nothing."""

MIN_PREFERENCE = 0.3
"""-1 and 1 are unanimous votes for the one and for the other."""


@dataclass(frozen=True, slots=True)
class Places:
    """Returns of a sweep and places that its rays passed, in metres of a grid's frame."""

    xyz: Float[Tensor, "N 3"]
    is_return: Bool[Tensor, "N"]


def settled(
    samples: Sequence[Sample],
    volumes: Sequence[Shaped[Tensor, "_ _ _"]],
    grid: VoxelGrid,
    classes: ClassTable,
    reading: Reading,
) -> Reading:
    """The reading moved by half a voxel along every axis where the places prefer that clearly.

    Args:
        samples: keyframes, with a sweep each.
        volumes: what the files say of them.
        grid: the grid of the volumes, without the reading's shift.
        reading: the one to begin with.
    """
    places = [_places(sample, reading.of(grid)) for sample in samples]
    for axis in range(3):
        votes = {}
        for half in (-0.5, 0.0, 0.5):
            if half != reading.shift[axis]:
                votes[half] = preference(places, volumes, grid, classes, reading, reading.moved(axis, half))
        best = max(votes, key=votes.__getitem__)
        if votes[best] > MIN_PREFERENCE:
            reading = reading.moved(axis, best)
    return reading


def preference(
    places: Sequence[Places],
    volumes: Sequence[Shaped[Tensor, "_ _ _"]],
    grid: VoxelGrid,
    classes: ClassTable,
    one: Reading,
    other: Reading,
) -> float:
    """From -1, every place of which they differ is for the one, to 1; returns and passed places count alike."""
    votes = torch.zeros(2, 2)  # (passed or return, for the one or the other)
    for here, volume in zip(places, volumes, strict=True):
        known, right = zip(*(_answers(here, volume, grid, classes, reading) for reading in (one, other)), strict=True)
        differ = known[0] & known[1] & (right[0] != right[1])
        pair = 2 * here.is_return[differ].long() + right[1][differ].long()
        votes += torch.bincount(pair, minlength=4).reshape(2, 2)
    return float(((votes[:, 1] - votes[:, 0]) / (votes.sum(1) + FEW)).mean())


def away_from_faces(grid: VoxelGrid, xyz: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
    """True for points that surely lie in the voxel that they lie in."""
    size_m = xyz.new_tensor(grid.voxel_size_m)
    along_m = torch.remainder(xyz - xyz.new_tensor(grid.lower_m), size_m)
    return ((along_m > BORDER_M) & (along_m < size_m - BORDER_M)).all(1)


def _places(sample: Sample, grid: VoxelGrid) -> Places:
    transform, edge_m = grid_from_lidar(sample, grid), max(grid.voxel_size_m)
    returns = transform.apply(sample.lidar.xyz)
    ray = torch.nn.functional.normalize(returns - transform.translation.to(returns), dim=1)
    passed = [returns - ray * edge_m * voxels for voxels in BEFORE]
    xyz = torch.cat([returns, *passed])
    return Places(xyz, torch.arange(len(xyz)) < len(returns))


def _answers(
    places: Places, volume: Tensor, grid: VoxelGrid, classes: ClassTable, reading: Reading
) -> tuple[Bool[Tensor, "N"], Bool[Tensor, "N"]]:
    """Where the reading says something that counts, and where that is right.

    Passed places in a voxel with a return do not count: rays touch the free part of what they end in.
    """
    moved = reading.of(grid)
    inside = moved.contains(places.xyz)
    last = torch.tensor(moved.shape) - 1
    index = torch.minimum(moved.index_from_xyz(places.xyz).clamp_min(0), last)
    label = reading.pick(volume, index)
    is_hit = torch.zeros(moved.shape, dtype=torch.bool)
    is_hit[index[places.is_return & inside].unbind(-1)] = True
    counts = torch.where(places.is_return, away_from_faces(moved, places.xyz), ~is_hit[index.unbind(-1)])
    return inside & counts & (label != classes.ignore), (label != classes.free) == places.is_return
