"""Where rays first meet an occupied voxel: compiled on the CPU when numba is installed, pure torch elsewhere.

The rule (Amanatides and Woo 1987): from the cell of the origin step across the nearest border, x before z and y
before z where two are equally near and y before x, and stop at the first occupied cell or at the last one of
the grid. The distance of a ray is that at which it *leaves* this cell, as RayIoU wants it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.rays import clip_to_box
from lexivox.ops.traversal import has_compiled_kernels


def first_hits(
    occupied: Bool[Tensor, "X Y Z"], origins: Float[Tensor, "O 3"], directions: Float[Tensor, "O R 3"]
) -> tuple[Int64[Tensor, "O R"], Float[Tensor, "O R"]]:
    """The cell where each ray of each origin ends, as a flat index, and the distance at which it leaves it.

    A ray from outside walks until it enters the grid; one that never does ends at -1, -1. The cell of a coordinate is
    its whole part, as in the published tool, so that a ray from less than a voxel below the grid starts inside.

    Args:
        origins: continuous voxel coordinates.
        directions: unit vectors in voxel coordinates.
    """
    if occupied.device.type == "cpu" and has_compiled_kernels():
        return first_hits_numba(occupied, origins, directions)
    return first_hits_torch(occupied, origins, directions)


def first_hits_numba(
    occupied: Bool[Tensor, "X Y Z"], origins: Float[Tensor, "O 3"], directions: Float[Tensor, "O R 3"]
) -> tuple[Int64[Tensor, "O R"], Float[Tensor, "O R"]]:
    """:func:`first_hits` by the compiled kernel; tensors on the CPU only."""
    from lexivox.ops.kernels import first_hit_numba

    voxel = torch.empty(directions.shape[:2], dtype=torch.int64)
    distance = torch.empty(directions.shape[:2], dtype=torch.float64)
    first_hit_numba.first_hits(
        occupied.contiguous().numpy(),
        origins.double().contiguous().numpy(),
        directions.double().contiguous().numpy(),
        voxel.numpy(),
        distance.numpy(),
        torch.get_num_threads(),
    )
    return voxel, distance.to(origins.dtype)


def first_hits_torch(
    occupied: Bool[Tensor, "X Y Z"], origins: Float[Tensor, "O 3"], directions: Float[Tensor, "O R 3"]
) -> tuple[Int64[Tensor, "O R"], Float[Tensor, "O R"]]:
    """:func:`first_hits` in torch, on any device: all rays step together, those that ended drop out."""
    shape = directions.shape[:2]
    place = origins.double()[:, None].expand(directions.shape)
    walk, row = _entered(occupied, _Walk.start(place.reshape(-1, 3), directions.double().reshape(-1, 3)))
    voxel = torch.full((shape.numel(),), -1, device=occupied.device)
    distance = torch.full((shape.numel(),), -1.0, dtype=torch.float64, device=occupied.device)
    voxel[row], distance[row] = _walked(occupied, walk)
    return voxel.reshape(shape), distance.reshape(shape).to(origins.dtype)


MAX_STEPS_OUTSIDE = 1000
"""A ray that has not entered the grid after so many borders never does."""


def _entered(occupied: Bool[Tensor, "X Y Z"], walk: _Walk) -> tuple[_Walk, Int64[Tensor, "N"]]:
    """The rays that reach the grid, at their first cell there, and which they are."""
    size = torch.tensor(occupied.shape, device=occupied.device)
    for _ in range(MAX_STEPS_OUTSIDE + 1):
        outside = ((walk.cell < 0) | (walk.cell >= size)).any(1)
        if not bool(outside.any()):
            break
        walk = walk.stepped(outside)
    inside = ((walk.cell >= 0) & (walk.cell < size)).all(1)
    return walk.kept(inside), inside.nonzero()[:, 0]


def _walked(occupied: Bool[Tensor, "X Y Z"], walk: _Walk) -> tuple[Int64[Tensor, "R"], Float[Tensor, "R"]]:
    """The last cell of every ray and the distance at which it is left."""
    size = torch.tensor(occupied.shape, device=occupied.device)
    voxel = torch.zeros(len(walk.cell), dtype=torch.int64, device=occupied.device)
    distance = torch.zeros(len(walk.cell), dtype=torch.float64, device=occupied.device)
    alive = torch.arange(len(walk.cell), device=occupied.device)
    while len(alive):
        flat = (walk.cell[:, 0] * size[1] + walk.cell[:, 1]) * size[2] + walk.cell[:, 2]
        leaves = walk.t.gather(1, _nearest_axis(walk.t)[:, None])[:, 0]
        walk = walk.stepped()
        done = occupied.reshape(-1)[flat] | ((walk.cell < 0) | (walk.cell >= size)).any(1)
        voxel[alive[done]], distance[alive[done]] = flat[done], leaves[done]
        alive, walk = alive[~done], walk.kept(~done)
    return voxel, distance


@dataclass(frozen=True, slots=True)
class _Walk:
    """Rays in step: their cells, the distance to the next border along each axis, and from border to border."""

    cell: Int64[Tensor, "R 3"]
    t: Float[Tensor, "R 3"]
    step: Int64[Tensor, "R 3"]
    delta: Float[Tensor, "R 3"]

    @classmethod
    def start(cls, place: Float[Tensor, "R 3"], direction: Float[Tensor, "R 3"]) -> _Walk:
        cell, step = place.long(), direction.sign().long()
        t = torch.where(step == 0, torch.inf, ((cell + (step > 0)).double() - place) / direction)
        return cls(cell, t, step, torch.where(step == 0, torch.inf, 1.0 / direction.abs()))

    def stepped(self, rows: Bool[Tensor, "R"] | None = None) -> _Walk:
        """All rays, or those of ``rows``, across their nearest border."""
        nearest = torch.zeros_like(self.cell).scatter_(1, _nearest_axis(self.t)[:, None], 1)
        nearest = nearest if rows is None else nearest * rows[:, None]
        t = torch.where(nearest == 1, self.t + self.delta, self.t)
        return _Walk(self.cell + nearest * self.step, t, self.step, self.delta)

    def kept(self, rows: Bool[Tensor, "R"]) -> _Walk:
        return _Walk(self.cell[rows], self.t[rows], self.step[rows], self.delta[rows])


def _nearest_axis(t: Float[Tensor, "R 3"]) -> Int64[Tensor, "R"]:
    x, y, z = t.unbind(1)
    is_x = (x < y) & (x < z)
    return torch.where(is_x, 0, torch.where(y < z, 1, 2))


@dataclass(frozen=True, slots=True)
class Hits:
    """What rays from one place meet first, in metres from there.

    Attributes:
        voxel: flat index of the first occupied voxel, -1 for a ray that meets none.
        enter_m, leave_m: where the ray enters and leaves it. For a ray that meets none both are where it leaves the
            grid, and 0 where it misses the grid.
    """

    voxel: Int64[Tensor, "R"]
    enter_m: Float[Tensor, "R"]
    leave_m: Float[Tensor, "R"]

    @property
    def is_hit(self) -> Bool[Tensor, "R"]:
        return self.voxel >= 0


def cast(
    grid: VoxelGrid,
    occupied: Bool[Tensor, "X Y Z"],
    origin: Float[Tensor, "3"],
    directions: Float[Tensor, "R 3"],
) -> Hits:
    """First hits of rays from one place, which may lie outside the grid, in metres; voxels need not be cubes.

    Args:
        origin: metres of the grid's frame.
        directions: of any length above 0, in the same frame.
    """
    towards, place, hit = _into_grid(grid, origin, directions)
    start = grid.coordinate_from_xyz(origin.double())
    is_inside = bool(((start >= 0) & (start < start.new_tensor(grid.shape))).all())
    if is_inside:
        voxel, away = (part[0] for part in first_hits(occupied, start[None], towards[None]))
    else:
        voxel, away = _walked(occupied, _Walk.start(place, towards))
        away = away + (place - start).norm(dim=-1)
    enter = _enters(grid, start, towards, voxel)
    nothing = ~occupied.reshape(-1)[voxel]
    metre = (towards * towards.new_tensor(grid.voxel_size_m)).norm(dim=-1)
    found = Hits(torch.where(nothing, -1, voxel), torch.where(nothing, away, enter) * metre, away * metre)
    if is_inside:
        return found
    rows = hit.nonzero()[:, 0]
    none = torch.zeros(len(hit), dtype=away.dtype, device=away.device)
    voxels = torch.full((len(hit),), -1, device=away.device)
    return Hits(
        voxels.index_copy(0, rows, found.voxel),
        none.index_copy(0, rows, found.enter_m),
        none.index_copy(0, rows, found.leave_m),
    )


def _enters(
    grid: VoxelGrid, start: Float[Tensor, "3"], towards: Float[Tensor, "R 3"], voxel: Int64[Tensor, "R"]
) -> Float[Tensor, "R"]:
    """Where rays enter a voxel that they pass, in voxels from their start; 0 where they start in it."""
    _, y, z = grid.shape
    lower = torch.stack([voxel // (y * z), voxel // z % y, voxel % z], dim=-1).to(start)
    nearer = lower + (towards < 0)
    t = torch.where(towards != 0, (nearer - start) / towards, -torch.inf)
    return t.amax(dim=-1).clamp_min(0.0)


def _into_grid(
    grid: VoxelGrid, origin: Float[Tensor, "3"], directions: Float[Tensor, "R 3"]
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"], Bool[Tensor, "R"]]:
    """Unit directions and first places, both in voxel coordinates, of the rays that reach the grid, and which do."""
    start = grid.coordinate_from_xyz(origin.double())
    towards = F.normalize(directions.double() / directions.new_tensor(grid.voxel_size_m).double(), dim=-1)
    size = towards.new_tensor(grid.shape)
    enter, _, hit = clip_to_box(start.expand_as(towards), towards, torch.zeros_like(size), size)
    towards, enter = towards[hit], enter[hit]
    return towards, (start + enter[:, None] * towards).clamp_min(0.0).minimum(size - 1e-9), hit


def mark_until_hit(
    grid: VoxelGrid,
    occupied: Bool[Tensor, "X Y Z"],
    origin: Float[Tensor, "3"],
    directions: Float[Tensor, "R 3"],
) -> Bool[Tensor, "X Y Z"]:
    """True for what rays from one place pass, up to and with the first occupied voxel each.

    Args:
        origin: metres of the grid's frame; rays from outside start where they enter the grid.
        directions: of any length, in the same frame.
    """
    towards, place, _ = _into_grid(grid, origin, directions)
    if occupied.device.type == "cpu" and has_compiled_kernels():
        return mark_until_hit_numba(occupied, place, towards)
    return mark_until_hit_torch(occupied, place, towards)


def mark_until_hit_numba(
    occupied: Bool[Tensor, "X Y Z"], place: Float[Tensor, "R 3"], towards: Float[Tensor, "R 3"]
) -> Bool[Tensor, "X Y Z"]:
    """:func:`mark_until_hit` by the compiled kernel, from places in voxel coordinates inside the grid."""
    from lexivox.ops.kernels import first_hit_numba

    seen = torch.zeros_like(occupied)
    blocked, places, directions = (part.contiguous().numpy() for part in (occupied, place, towards))
    first_hit_numba.mark_until_hit(blocked, places, directions, seen.numpy())
    return seen


def mark_until_hit_torch(
    occupied: Bool[Tensor, "X Y Z"], place: Float[Tensor, "R 3"], towards: Float[Tensor, "R 3"]
) -> Bool[Tensor, "X Y Z"]:
    """The same in torch, on any device."""
    size = torch.tensor(occupied.shape, device=occupied.device)
    walk, seen = _Walk.start(place, towards), torch.zeros_like(occupied)
    while len(walk.cell):
        cells = tuple(walk.cell.T)
        seen[cells] = True
        walk = walk.kept(~occupied[cells]).stepped()
        walk = walk.kept(((walk.cell >= 0) & (walk.cell < size)).all(1))
    return seen
