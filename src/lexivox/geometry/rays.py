"""Rays through a grid: clipping, exact voxel traversal, and the published sampling of segments.

One traversal rule serves the whole library, so that every implementation (here, the compiled kernel, the slow
twin of the tests) visits the same voxels. Per ray, in float64 and in voxel coordinates:

1. clip the segment to the box ``[0, shape]``: ``start``, ``stop``;
2. the first voxel holds ``start``, the last one holds ``stop``; between them the ray crosses
   ``|last - first|`` planes along each axis, plane ``k`` at ``t = (k - start) * (1 / (stop - start))``;
3. order the crossings by ``t``, equal ones by axis (x, y, z): one voxel after each (Amanatides and Woo 1987).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.geometry.grid import VoxelGrid


def clip_to_box(
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    lower: Float[Tensor, "3"],
    upper: Float[Tensor, "3"],
) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"], Bool[Tensor, "R"]]:
    """Where rays ``origin + t * direction``, t >= 0, enter and leave the half-open box ``[lower, upper)``.

    Returns:
        ``t_near``, ``t_far`` in units of ``directions``, and ``hit``: True where the ray runs through the box
        for more than a single point. ``t_near`` is 0 for an origin inside.
    """
    t_lower, t_upper = (lower - origins) / directions, (upper - origins) / directions
    moves = directions != 0
    between = (origins >= lower) & (origins < upper)
    never = torch.where(between, -torch.inf, torch.inf).to(origins)
    t_near = torch.where(moves, torch.minimum(t_lower, t_upper), never).amax(dim=-1).clamp_min(0.0)
    t_far = torch.where(moves, torch.maximum(t_lower, t_upper), -never).amin(dim=-1)
    return t_near, t_far, t_near < t_far


@dataclass(frozen=True, slots=True)
class ClippedSegments:
    """The parts of segments that lie in a grid, in voxel coordinates (float64).

    Attributes:
        ray: which of the given segments each row is; segments that miss the grid have no row.
        start, stop: the clipped ends, within ``[0, shape]``.
        first, last: the voxels of the two ends.
        ends_inside: True where the given segment ends inside the grid, so that ``last`` holds its end.
    """

    ray: Int64[Tensor, "R"]
    start: Float[Tensor, "R 3"]
    stop: Float[Tensor, "R 3"]
    first: Int64[Tensor, "R 3"]
    last: Int64[Tensor, "R 3"]
    ends_inside: Bool[Tensor, "R"]


def clip_segments(grid: VoxelGrid, origins: Float[Tensor, "R 3"], ends: Float[Tensor, "R 3"]) -> ClippedSegments:
    """Clip segments, in metres of the grid's frame, to the grid; those with a NaN or infinity are dropped."""
    begin = grid.coordinate_from_xyz(origins.to(torch.float64))
    end = grid.coordinate_from_xyz(ends.to(torch.float64))
    direction = end - begin
    box = begin.new_tensor(grid.shape)
    t_near, t_far, _ = clip_to_box(begin, direction, torch.zeros_like(box), box)
    t_far = t_far.clamp_max(1.0)
    begins_inside, ends_inside = _is_inside(begin, box), _is_inside(end, box)
    hit = (t_near < t_far) | begins_inside | ends_inside
    hit &= direction.isfinite().all(dim=-1)

    start = begin + t_near[:, None] * direction
    # begin + direction may differ from end by a rounding: an end inside must stay in its own voxel.
    stop = torch.where(t_far[:, None] < 1.0, begin + t_far[:, None] * direction, end)
    start, stop = start[hit].clamp_min(0.0).minimum(box), stop[hit].clamp_min(0.0).minimum(box)
    return ClippedSegments(hit.nonzero()[:, 0], start, stop, _voxel(start, box), _voxel(stop, box), ends_inside[hit])


def _is_inside(coordinate: Float[Tensor, "R 3"], box: Float[Tensor, "3"]) -> Bool[Tensor, "R"]:
    return ((coordinate >= 0) & (coordinate < box)).all(dim=-1)


def _voxel(coordinate: Float[Tensor, "R 3"], box: Float[Tensor, "3"]) -> Int64[Tensor, "R 3"]:
    return torch.floor(coordinate).minimum(box - 1.0).to(torch.int64)


def traverse(
    grid: VoxelGrid, origins: Float[Tensor, "R 3"], ends: Float[Tensor, "R 3"]
) -> tuple[Int64[Tensor, "N 3"], Int64[Tensor, "N"], Float[Tensor, "N"]]:
    """Every voxel that the segments pass through, in order along each segment, exactly.

    Returns:
        The voxel indices, the number of the segment each belongs to, and the length in metres inside it. The
        lengths of one segment sum to its part inside the grid. Voxels touched in a single point (an end on a
        border, a passage through an edge) are listed with length 0.
    """
    segments = clip_segments(grid, origins, ends)
    index, row, t_enter = visited_voxels(segments)
    t_exit = torch.ones_like(t_enter)
    t_exit[:-1] = torch.where(row[1:] == row[:-1], t_enter[1:], 1.0)
    size = segments.start.new_tensor(grid.voxel_size_m)
    length_m = ((segments.stop - segments.start) * size).norm(dim=-1)
    return index, segments.ray[row], ((t_exit - t_enter) * length_m[row]).to(ends)


def visited_voxels(
    segments: ClippedSegments,
) -> tuple[Int64[Tensor, "N 3"], Int64[Tensor, "N"], Float[Tensor, "N"]]:
    """Voxels along clipped segments, with the row of the segment and the fraction at which each is entered.

    No loop over steps and no sort: the place of a crossing in its ray is the number of crossings before it,
    which the other two axes can count directly.
    """
    axes = [_AxisCrossings.of(segments, axis) for axis in range(3)]
    num_visits = 1 + torch.stack([axis.count for axis in axes]).sum(dim=0)
    offset = num_visits.cumsum(dim=0) - num_visits
    row = torch.repeat_interleave(num_visits)
    index = segments.first[row]
    t_enter = torch.zeros(len(row), dtype=segments.start.dtype, device=row.device)
    for axis, crossings in enumerate(axes):
        crossing_row = torch.repeat_interleave(crossings.count)
        first_number = crossings.count.cumsum(dim=0) - crossings.count
        number = torch.arange(1, len(crossing_row) + 1, device=row.device) - first_number[crossing_row]
        here = [other.at(crossing_row) for other in axes]
        t = here[axis].time(number)
        steps = [number if other == axis else here[other].count_before(t, equal=other < axis) for other in range(3)]
        place = offset.index_select(0, crossing_row) + steps[0] + steps[1] + steps[2]
        index[place] += torch.stack([step * other.sign for step, other in zip(steps, here, strict=True)], -1)
        t_enter[place] = t.clamp(0.0, 1.0)
    return index, row, t_enter


@dataclass(frozen=True, slots=True)
class _AxisCrossings:
    """The planes that each segment crosses along one axis, numbered from 1."""

    start: Float[Tensor, "R"]
    extent: Float[Tensor, "R"]
    inverse: Float[Tensor, "R"]
    first: Int64[Tensor, "R"]
    sign: Int64[Tensor, "R"]
    count: Int64[Tensor, "R"]

    @classmethod
    def of(cls, segments: ClippedSegments, axis: int) -> _AxisCrossings:
        start, first = segments.start[:, axis], segments.first[:, axis]
        extent = segments.stop[:, axis] - start
        steps = segments.last[:, axis] - first
        inverse = torch.where(steps != 0, 1.0 / extent, 0.0)
        return cls(start, extent, inverse, first, steps.sign(), steps.abs())

    def at(self, row: Int64[Tensor, "N"]) -> _AxisCrossings:
        return _AxisCrossings(*(getattr(self, f.name).index_select(0, row) for f in fields(self)))

    def time(self, number: Int64[Tensor, "R"]) -> Float[Tensor, "R"]:
        """When each segment crosses its plane ``number``."""
        plane = self.first + self.sign * number + (self.sign < 0)
        return (plane - self.start) * self.inverse

    def count_before(self, t: Float[Tensor, "R"], *, equal: bool) -> Int64[Tensor, "R"]:
        """How many planes each segment crosses before ``t``, or until ``t`` where ``equal``."""
        position = torch.floor(self.start + t * self.extent).to(torch.int64)
        guess = (self.sign * (position - self.first)).clamp_min(0).minimum(self.count)
        # The position may round across one plane; the crossing times of its two neighbours decide.
        t_last, t_next = self.time(guess), self.time(guess + 1)
        too_many = (guess > 0) & ((t_last > t) if equal else (t_last >= t))
        too_few = (guess < self.count) & ((t_next <= t) if equal else (t_next < t))
        return guess - too_many.to(torch.int64) + too_few.to(torch.int64)


def sample_segments(
    grid: VoxelGrid,
    origins: Float[Tensor, "R 3"],
    ends: Float[Tensor, "R 3"],
    num_samples: int = 100,
) -> Int64[Tensor, "R S 3"]:
    """Voxels of evenly spaced points of each segment, both ends included; indices may lie outside the grid.

    The published labels of POP-3D use 100 (spec 7.1): at 50 m the spacing is half a metre and crossings of
    corners are missed. :func:`traverse` misses none.
    """
    fraction = torch.linspace(0.0, 1.0, num_samples, dtype=torch.float64, device=ends.device)
    origins, ends = origins.to(torch.float64), ends.to(torch.float64)
    xyz = origins[:, None] + fraction[:, None] * (ends - origins)[:, None]
    return grid.index_from_xyz(xyz)
