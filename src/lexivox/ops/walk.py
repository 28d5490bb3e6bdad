"""The voxels along rays, as packed segments with distances: what exact rendering adds up.

The rule of traversal is that of :mod:`lexivox.geometry.rays`; compiled on the CPU when numba is installed, pure
torch elsewhere. Rays of all origins are welcome: inside the grid, outside, passing it by.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.rays import clip_segments, visited_voxels
from lexivox.ops.traversal import has_compiled_kernels

_RAYS_AT_ONCE = 4096
"""Rays per pass in torch on a CPU: the working set of a pass stays in its cache."""

_RAYS_AT_ONCE_CUDA = 1 << 18


@dataclass(frozen=True, slots=True)
class Segments:
    """Pieces of rays, each inside one voxel, ray by ray and near to far within a ray.

    Attributes:
        count: how many of the segments belong to each ray; 0 for rays that touch nothing.
        voxel: flat index (x, y, z order) of the voxel, in the grid of one sample.
        start_m, stop_m: distances from the ray's origin.
    """

    count: Int64[Tensor, "R"]
    voxel: Int64[Tensor, "N"]
    start_m: Float[Tensor, "N"]
    stop_m: Float[Tensor, "N"]

    def __len__(self) -> int:
        return len(self.voxel)

    @property
    def num_rays(self) -> int:
        return len(self.count)

    @property
    def ray(self) -> Int64[Tensor, "N"]:
        """The ray of each segment. Computed at each call, as are the others below."""
        return torch.repeat_interleave(self.count, output_size=len(self))

    @property
    def length_m(self) -> Float[Tensor, "N"]:
        return self.stop_m - self.start_m

    @property
    def middle_m(self) -> Float[Tensor, "N"]:
        return 0.5 * (self.start_m + self.stop_m)

    @property
    def offsets(self) -> Int64[Tensor, "O"]:
        """Where the segments of each ray begin, and the number of all."""
        return F.pad(self.count.cumsum(0), (1, 0))

    @property
    def exit_m(self) -> Float[Tensor, "R"]:
        """Where each ray leaves its last segment; 0 for a ray without any."""
        if not len(self):
            return self.stop_m.new_zeros(self.num_rays)
        last = self.stop_m[(self.count.cumsum(0) - 1).clamp_min(0)]
        return torch.where(self.count > 0, last, 0.0)

    def middles(self, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]) -> Float[Tensor, "N 3"]:
        """The points in the middle of the segments; ``directions`` are unit vectors."""
        ray = self.ray
        return origins[ray] + self.middle_m[:, None] * directions[ray]

    def rows(self, first_row: Int64[Tensor, "R"]) -> Int64[Tensor, "N"]:
        """Rows of the voxels in a table of several volumes, in which the volume of each ray begins at ``first_row``."""
        return self.voxel + torch.repeat_interleave(first_row, self.count, output_size=len(self))

    def select(self, keep: Bool[Tensor, "N"]) -> Segments:
        """Those segments where ``keep`` is True; the rays keep their numbers."""
        count = F.pad(keep.cumsum(0), (1, 0))[self.offsets].diff()
        return Segments(count, self.voxel[keep], self.start_m[keep], self.stop_m[keep])

    def sum(self, value: Float[Tensor, "N"]) -> Float[Tensor, "R"]:
        """What the segments of each ray add up to."""
        return value.new_zeros(self.num_rays).index_add(0, self.ray, value)


def unique_rows(row: Int64[Tensor, "N"], num_rows: int) -> tuple[Int64[Tensor, "U"], Int64[Tensor, "N"]]:
    """The rows that occur, in order, and the place of each given row among them.

    As ``torch.unique`` with the inverse, without its sort: for rows of a table of known length. What only some
    voxels need is computed for the first and read through the second.
    """
    occurs = torch.zeros(num_rows, dtype=torch.bool, device=row.device)
    occurs[row] = True
    rows = occurs.nonzero()[:, 0]
    place = torch.empty(num_rows, dtype=torch.int64, device=row.device)
    place[rows] = torch.arange(len(rows), device=row.device)
    return rows, place[row]


def walk(
    grid: VoxelGrid,
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    far_m: Float[Tensor, "R"] | float = torch.inf,
) -> Segments:
    """Every voxel of the grid that each ray passes, exactly, up to the distance ``far_m``.

    The lengths of a ray's segments sum to its part inside the grid. Voxels touched in a single point (on a border,
    through an edge) are listed with length 0. A ray that passes the grid by, ends before it, or has a NaN or
    infinite number, a direction of length 0 or a NaN as ``far_m`` has no segments. Nothing here has a gradient.

    Args:
        origins: metres in the grid's frame, anywhere; their dtype is that of the distances.
        directions: of any length above 0.
        far_m: metres from the origin, for each ray or for all; below 0 counts as 0.
    """
    with torch.no_grad():
        begin = origins.detach().double()
        towards = F.normalize(directions.detach().double(), dim=-1, eps=0.0)  # 0 / 0 = NaN: no segments
        ends = begin + towards * _reach_m(grid, begin, far_m)[:, None]
        if origins.device.type == "cpu" and has_compiled_kernels():
            return walk_numba(grid, begin, towards, ends, origins.dtype)
        return walk_torch(grid, begin, towards, ends, origins.dtype)


def _reach_m(grid: VoxelGrid, origins: Float[Tensor, "R 3"], far_m: Float[Tensor, "R"] | float) -> Float[Tensor, "R"]:
    """``far_m``, but finite: no farther than the far side of the grid can be."""
    lower, upper = origins.new_tensor(grid.lower_m), origins.new_tensor(grid.upper_m)
    farthest = torch.maximum((origins - lower).abs(), (origins - upper).abs()).norm(dim=-1) + 1.0
    return torch.as_tensor(far_m, dtype=torch.float64, device=origins.device).clamp_min(0.0).minimum(farthest)


def walk_torch(
    grid: VoxelGrid,
    origins: Float[Tensor, "R 3"],
    towards: Float[Tensor, "R 3"],
    ends: Float[Tensor, "R 3"],
    dtype: torch.dtype,
) -> Segments:
    """:func:`walk` in torch, on any device; ``origins``, unit vectors ``towards`` and ``ends`` in float64."""
    size = _RAYS_AT_ONCE if ends.device.type == "cpu" else _RAYS_AT_ONCE_CUDA
    chunks = zip(origins.split(size), towards.split(size), ends.split(size), strict=True)
    parts = [_walk_chunk(grid, *chunk, dtype) for chunk in chunks]
    if len(parts) == 1:
        return parts[0]
    return Segments(*(torch.cat([getattr(part, name) for part in parts]) for name in Segments.__slots__))


def _walk_chunk(
    grid: VoxelGrid,
    origins: Float[Tensor, "R 3"],
    towards: Float[Tensor, "R 3"],
    ends: Float[Tensor, "R 3"],
    dtype: torch.dtype,
) -> Segments:
    clipped = clip_segments(grid, origins, ends)
    index, row, t_start = visited_voxels(clipped)
    t_stop = torch.ones_like(t_start)
    t_stop[:-1] = torch.where(row[1:] == row[:-1], t_start[1:], 1.0)
    size, unit = origins.new_tensor(grid.voxel_size_m), towards[clipped.ray]
    before = clipped.start - grid.coordinate_from_xyz(origins[clipped.ray])
    near_m = (before * size * unit).sum(-1).clamp_min(0.0)[row]
    length_m = ((clipped.stop - clipped.start) * size * unit).sum(-1)[row]
    count = torch.bincount(clipped.ray[row], minlength=len(origins))
    start_m, stop_m = (near_m + t * length_m for t in (t_start, t_stop))
    return Segments(count, grid.flat_from_index(index), start_m.to(dtype), stop_m.to(dtype))


def walk_numba(
    grid: VoxelGrid,
    origins: Float[Tensor, "R 3"],
    towards: Float[Tensor, "R 3"],
    ends: Float[Tensor, "R 3"],
    dtype: torch.dtype,
) -> Segments:
    """:func:`walk_torch` by the compiled kernel; tensors on the CPU only."""
    from lexivox.ops.kernels import walk_numba

    wide = torch.float64 if dtype == torch.float64 else torch.float32
    begin, unit, end = (x.contiguous().numpy() for x in (origins, towards, ends))
    box = tuple(map(float, grid.lower_m)), tuple(map(float, grid.voxel_size_m)), grid.shape
    threads, count = torch.get_num_threads(), torch.zeros(len(origins), dtype=torch.int64)
    walk_numba.count((begin, unit, end, *box), count.numpy(), threads)
    total = int(count.sum())
    voxel = torch.empty(total, dtype=torch.int64)
    start_m, stop_m = (torch.empty(total, dtype=wide) for _ in range(2))
    first = count.cumsum(0) - count
    outputs = first.numpy(), voxel.numpy(), start_m.numpy(), stop_m.numpy()
    walk_numba.fill((begin, unit, end, *box), outputs, threads)
    return Segments(count, voxel, start_m.to(dtype), stop_m.to(dtype))
