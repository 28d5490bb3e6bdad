"""The voxel grid: the only place that converts metres <-> indices <-> the [-1, 1] of ``grid_sample``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.errors import ShapeError

GridFrame = Literal["ego", "lidar"]


@dataclass(frozen=True, slots=True)
class VoxelGrid:
    """An axis-aligned box of half-open voxels ``[lower + i * size, lower + (i + 1) * size)``.

    Indices run in the order x, y, z; a dense volume on the grid is ``(B, C, X, Y, Z)``.

    Attributes:
        lower_m: the lower corner of voxel (0, 0, 0).
        voxel_size_m: edge lengths along x, y, z.
        shape: number of voxels along x, y, z.
        frame: the coordinate frame of the metres, ``"ego"`` or ``"lidar"``.

    Raises:
        ShapeError: a size or count is not above zero, or the frame is unknown.
    """

    lower_m: tuple[float, float, float]
    voxel_size_m: tuple[float, float, float]
    shape: tuple[int, int, int]
    frame: GridFrame

    def __post_init__(self) -> None:
        for name in ("lower_m", "voxel_size_m", "shape"):
            if len(getattr(self, name)) != 3:
                raise ShapeError(f"{name} of a grid must hold three numbers; got {getattr(self, name)}.")
        if not all(math.isfinite(v) for v in self.lower_m):
            raise ShapeError(f"lower_m of a grid must be finite; got {self.lower_m}.")
        if not all(math.isfinite(v) and v > 0 for v in self.voxel_size_m):
            raise ShapeError(f"voxel_size_m of a grid must be above 0; got {self.voxel_size_m}.")
        if not all(isinstance(n, int) and n > 0 for n in self.shape):
            raise ShapeError(f"shape of a grid must hold whole numbers above 0; got {self.shape}.")
        if self.frame not in ("ego", "lidar"):
            raise ShapeError(f"frame of a grid must be 'ego' or 'lidar'; got {self.frame!r}.")

    @property
    def num_voxels(self) -> int:
        return math.prod(self.shape)

    @property
    def voxel_m3(self) -> float:
        """Volume of a voxel in cubic metres."""
        return math.prod(self.voxel_size_m)

    @property
    def upper_m(self) -> tuple[float, float, float]:
        x, y, z = (low + n * s for low, n, s in zip(self.lower_m, self.shape, self.voxel_size_m, strict=True))
        return x, y, z

    def _lower(self, like: Tensor) -> Tensor:
        return torch.tensor(self.lower_m, dtype=like.dtype, device=like.device)

    def _size(self, like: Tensor) -> Tensor:
        return torch.tensor(self.voxel_size_m, dtype=like.dtype, device=like.device)

    def coordinate_from_xyz(self, xyz: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
        """Continuous voxel coordinates: voxel i spans [i, i + 1), its centre lies at i + 0.5."""
        return (xyz - self._lower(xyz)) / self._size(xyz)

    def index_from_xyz(self, xyz: Float[Tensor, "*points 3"]) -> Int64[Tensor, "*points 3"]:
        """Voxel indices, not clamped: a point outside gets an index outside (see :meth:`contains`)."""
        return torch.floor(self.coordinate_from_xyz(xyz)).to(torch.int64)

    def xyz_from_index(
        self, index: Int64[Tensor, "*points 3"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "*points 3"]:
        """Voxel centres in metres."""
        # float64 inside: a centre computed in float32 can round over the border of a small voxel far out.
        index = index.to(torch.float64)
        return (self._lower(index) + (index + 0.5) * self._size(index)).to(dtype)

    def normalized_from_xyz(self, xyz: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
        """Coordinates in which the box is [-1, 1]^3, for ``grid_sample(..., align_corners=False)``."""
        extent = self._size(xyz) * torch.tensor(self.shape, dtype=xyz.dtype, device=xyz.device)
        return 2.0 * (xyz - self._lower(xyz)) / extent - 1.0

    def contains(self, xyz: Float[Tensor, "*points 3"]) -> Bool[Tensor, "*points"]:
        """True for points whose voxel index lies in the grid; never for a NaN."""
        coordinate = torch.floor(self.coordinate_from_xyz(xyz))
        shape = torch.tensor(self.shape, dtype=xyz.dtype, device=xyz.device)
        return ((coordinate >= 0) & (coordinate < shape)).all(dim=-1)

    def contains_index(self, index: Int64[Tensor, "*points 3"]) -> Bool[Tensor, "*points"]:
        shape = torch.tensor(self.shape, device=index.device)
        return ((index >= 0) & (index < shape)).all(dim=-1)

    def flat_from_index(self, index: Int64[Tensor, "*points 3"]) -> Int64[Tensor, "*points"]:
        """Row number of a voxel in a volume flattened in x, y, z order."""
        _, y, z = self.shape
        return (index[..., 0] * y + index[..., 1]) * z + index[..., 2]

    def index_from_flat(self, flat: Int64[Tensor, "*points"]) -> Int64[Tensor, "*points 3"]:
        _, y, z = self.shape
        return torch.stack([flat // (y * z), flat // z % y, flat % z], dim=-1)

    def indices(self, device: torch.device | str = "cpu") -> Int64[Tensor, "X Y Z 3"]:
        axes = [torch.arange(n, device=device) for n in self.shape]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)

    def centers(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "X Y Z 3"]:
        return self.xyz_from_index(self.indices(device), dtype)

    def refine(self, factor: int) -> VoxelGrid:
        """The same box with every voxel cut into ``factor`` pieces along each axis."""
        if factor < 1:
            raise ShapeError(f"factor of refine must be a whole number above 0; got {factor}.")
        x, y, z = (n * factor for n in self.shape)
        sx, sy, sz = (s / factor for s in self.voxel_size_m)
        return VoxelGrid(self.lower_m, (sx, sy, sz), (x, y, z), self.frame)

    def coarsen(self, factor: int) -> VoxelGrid:
        """The same box with ``factor`` voxels merged along each axis.

        Raises:
            ShapeError: the shape is not a multiple of ``factor``.
        """
        if factor < 1 or any(n % factor for n in self.shape):
            raise ShapeError(f"factor of coarsen must divide the shape {self.shape}; got {factor}.")
        x, y, z = (n // factor for n in self.shape)
        sx, sy, sz = (s * factor for s in self.voxel_size_m)
        return VoxelGrid(self.lower_m, (sx, sy, sz), (x, y, z), self.frame)


POP3D = VoxelGrid((-51.2, -51.2, -5.0), (1.024, 1.024, 1.0), (100, 100, 8), "lidar")
"""POP-3D, TPVFormer: x right, y forward, z up in the LIDAR_TOP frame (paper 4.1)."""

OCC3D = VoxelGrid((-40.0, -40.0, -1.0), (0.4, 0.4, 0.4), (200, 200, 16), "ego")
"""Occ3D-nuScenes."""

OPENOCCUPANCY = VoxelGrid((-51.2, -51.2, -5.0), (0.2, 0.2, 0.2), (512, 512, 40), "lidar")
"""OpenOccupancy."""

SURROUNDOCC = VoxelGrid((-50.0, -50.0, -5.0), (0.5, 0.5, 0.5), (200, 200, 16), "lidar")
"""SurroundOcc, in the LIDAR_TOP frame."""

SEMANTICKITTI = VoxelGrid((0.0, -25.6, -2.2), (0.2, 0.2, 0.2), (256, 256, 32), "lidar")
"""SemanticKITTI scene completion: x forward, y left, z up in the Velodyne's frame.

The lower end is stated as -2 m by the benchmark's papers, but the files begin one voxel lower: voxelised scans
agree with the published bits to 99.6 % from -2.2 m and to 37 % from -2 m (sequence 00, scans 0 and 5).
"""
