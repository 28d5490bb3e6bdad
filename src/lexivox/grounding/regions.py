"""From single voxels to things: neighbours joined, a box around each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.geometry.footprint import min_area_rectangle
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.components import connected_components

BEST = 3
"""Voxels whose mean is the score of a region: one alone may be an accident."""


@dataclass(frozen=True, slots=True)
class Box:
    """An upright box in metres.

    Attributes:
        center: x, y, z of its middle.
        size_m: length, width, height.
        yaw_rad: direction of the length about z, in (-pi/2, pi/2].
        frame: of the numbers: ``"ego"``, ``"lidar"`` or ``"global"``.
    """

    center: tuple[float, float, float]
    size_m: tuple[float, float, float]
    yaw_rad: float
    frame: str

    def corners(self) -> Float[Tensor, "8 3"]:
        """The four lower corners counter-clockwise, then the four above them."""
        length, width, height = self.size_m
        signs = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64) / 2
        flat = signs * torch.tensor([length, width], dtype=torch.float64)
        yaw = torch.tensor(self.yaw_rad, dtype=torch.float64)
        turn = torch.stack([torch.stack([yaw.cos(), yaw.sin()]), torch.stack([-yaw.sin(), yaw.cos()])])
        xy = flat @ turn + torch.tensor(self.center[:2], dtype=torch.float64)
        z = torch.full((4, 1), self.center[2] - height / 2, dtype=torch.float64)
        return torch.cat([torch.cat([xy, z], 1), torch.cat([xy, z + height], 1)])


@dataclass(frozen=True, slots=True)
class Region:
    """Voxels that hang together.

    Attributes:
        score: mean of its three best voxels.
        box: around the whole voxels, not only their centres.
        index: of its voxels, best first.
    """

    score: float
    box: Box
    index: Int64[Tensor, "N 3"]

    def __len__(self) -> int:
        return len(self.index)


def connect(grid: VoxelGrid, index: Int64[Tensor, "N 3"], score: Float[Tensor, "N"]) -> list[Region]:
    """Regions of voxels that share a face, edge or corner; best first, of equal scores the larger one."""
    component = connected_components(index)
    order = torch.argsort(score, descending=True, stable=True)
    order = order[component[order].argsort(stable=True)]  # by component, best first in each
    sizes = component.bincount().tolist() if len(index) else []
    regions = [_region(grid, index[rows], score[rows]) for rows in order.split(sizes)]
    return sorted(regions, key=lambda region: (-region.score, -len(region)))


def _region(grid: VoxelGrid, index: Int64[Tensor, "N 3"], score: Float[Tensor, "N"]) -> Region:
    return Region(float(score[:BEST].mean()), box_around(grid, index), index)


def box_around(grid: VoxelGrid, index: Int64[Tensor, "N 3"]) -> Box:
    """The upright box of least footprint that holds whole voxels."""
    size = torch.tensor(grid.voxel_size_m, dtype=torch.float64)
    center = grid.xyz_from_index(index, torch.float64)
    sides = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64) / 2 * size[:2]
    foot = min_area_rectangle((center[:, None, :2] + sides).reshape(-1, 2))
    low, high = float(center[:, 2].min() - size[2] / 2), float(center[:, 2].max() + size[2] / 2)
    return Box((*foot.center, (low + high) / 2), (*foot.size_m, high - low), foot.yaw_rad, grid.frame)
