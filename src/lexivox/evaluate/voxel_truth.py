"""What a labelled LiDAR sweep says of every voxel: free, a class, or nothing, under each definition of POP-3D."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.labels import occupancy_from_lidar, semantic_from_lidar, training_semantic_dense
from lexivox.data.types import IGNORED
from lexivox.errors import ConfigError
from lexivox.evaluate.occupancy import class_agnostic_target
from lexivox.evaluate.protocol import Pop3dProtocol, Rays
from lexivox.geometry.grid import VoxelGrid


@dataclass(frozen=True, slots=True)
class VoxelTruth:
    """FREE, OCCUPIED or IGNORED (noise counts as occupied), and the class, free or IGNORED, of every voxel."""

    occupancy: UInt8[Tensor, "X Y Z"]
    semantic: UInt8[Tensor, "X Y Z"]


def free_class(table: ClassTable) -> int:
    """Raises:
    ConfigError: the table has no free class.
    """
    if table.free is None:
        raise ConfigError(f"classes of an occupancy score must include free; got {table.name}.")
    return table.free


@dataclass(frozen=True, slots=True)
class VoxelMaker:
    """A labelled sweep, and which voxels its rays reach when traversed exactly.

    Attributes:
        origin: where the rays start, metres of the grid's frame, as ``xyz``.
        reached: of :func:`~lexivox.data.labels.occupancy_from_lidar`.
    """

    grid: VoxelGrid
    table: ClassTable
    origin: Float[Tensor, "3"]
    xyz: Float[Tensor, "P 3"]
    label: Int64[Tensor, "P"]
    reached: UInt8[Tensor, "X Y Z"]

    @classmethod
    def of(
        cls,
        grid: VoxelGrid,
        table: ClassTable,
        origin: Float[Tensor, "3"],
        xyz: Float[Tensor, "P 3"],
        label: Int64[Tensor, "P"],
    ) -> VoxelMaker:
        """From a sweep in the grid's frame."""
        return cls(grid, table, origin, xyz, label, occupancy_from_lidar(grid, origin, xyz))

    def make(self, protocol: Pop3dProtocol) -> VoxelTruth:
        """The truth as a protocol defines it."""
        semantic = semantic_from_lidar(
            self.grid,
            self.origin,
            self.xyz,
            self.label,
            num_classes=self.table.num_classes,
            free_label=free_class(self.table),
            protocol=protocol.rays,
        )
        if protocol.noise_voxels == "in_range":
            return VoxelTruth(self._occupancy(protocol.rays), semantic)
        return VoxelTruth(class_agnostic_target(semantic, self._clamped_noise(), free_class(self.table)), semantic)

    def _occupancy(self, rays: Rays) -> UInt8[Tensor, "X Y Z"]:
        return self.reached if rays == "exact" else occupancy_from_lidar(self.grid, self.origin, self.xyz, rays)

    def _clamped_noise(self) -> Bool[Tensor, "X Y Z"]:
        """Where noise has the majority once points outside were moved onto the border (spec pop3d 7.2)."""
        free = free_class(self.table)
        label = torch.where(self.label == IGNORED, self.table.ignore, self.label)
        votes = training_semantic_dense(
            self.grid, self.xyz, label, num_classes=self.table.num_classes, free_label=free, border="clamp"
        )
        return votes == self.table.ignore
