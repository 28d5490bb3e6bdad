"""Velocities of things from moved returns: carried along, a thing must meet its own returns and no free space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.motion import turned
from lexivox.geometry.grid import VoxelGrid
from lexivox.supervision.motion import MIN_SPEED_MPS

SHAPE_POINTS = 64
"""Of a thing are carried along while its velocity is sought."""

REACH_M = 0.8
"""Farther than this two returns have nothing to do with each other."""

BOX_MARGIN_M = 0.3


@dataclass(frozen=True, slots=True)
class Limits:
    """What a thing must fulfil.

    Attributes:
        min_points: returns at a keyframe.
        min_speed_mps, max_speed_mps: metres per second.
        min_support: share of its returns that must be found again at the other keyframes, less the share that would
            stand in free space there; without it, it has come from, or gone to, nobody knows where.
    """

    min_points: int = 5
    min_speed_mps: float = MIN_SPEED_MPS
    max_speed_mps: float = 20.0
    min_support: float = 0.4


@dataclass(frozen=True, slots=True)
class Thing:
    """A box of constant velocity.

    Attributes:
        center: at time 0, metres.
        half_m, yaw_rad: of the box; its length lies along the velocity.
        velocity: m/s along x, y.
        only_at: its time, if it was found at no other: it has no velocity then.
    """

    center: Float[Tensor, "3"]
    half_m: Float[Tensor, "3"]
    yaw_rad: float
    velocity: Float[Tensor, "2"]
    only_at: float | None = None

    def holds(self, xyz: Float[Tensor, "P 3"], time_s: float) -> Bool[Tensor, "P"]:
        center = self.center + F.pad(self.velocity * time_s, (0, 1))
        own = turned(xyz - center, torch.full((len(xyz),), -self.yaw_rad))
        return (own.abs() <= self.half_m + BOX_MARGIN_M).all(-1)


@dataclass(frozen=True, slots=True)
class Cloud:
    """Moved returns of one keyframe and the part that each belongs to."""

    xyz: Float[Tensor, "P 3"]
    part: Int64[Tensor, "P"]

    def largest_first(self) -> list[int]:
        """Parts in the order in which they are traced: what is clear explains what is not."""
        return torch.bincount(self.part).argsort(descending=True, stable=True).tolist()


class Tracer:
    """Finds things one by one; what a thing explains is no longer offered to the next.

    Args:
        limits: of things.
        grid: voxels that are seen free or not.
        free: of every keyframe.
        returns: of every keyframe, above the ground.
        clouds: those that moved.
        times: of the keyframes, seconds.
    """

    def __init__(
        self, limits: Limits, grid: VoxelGrid, free: Bool[Tensor, "T X Y Z"], returns: list[Float[Tensor, "_ 3"]],
        clouds: list[Cloud], times: Float[Tensor, "T"],
    ) -> None:  # fmt: skip
        self.limits, self.grid, self.free, self.times = limits, grid, free, times
        self.returns, self.clouds = returns, clouds
        self.open = [torch.ones_like(cloud.part, dtype=torch.bool) for cloud in clouds]
        self.things: list[Thing] = []
        self._plans = torch.stack([self._plan(place) for place in range(len(clouds))])

    def trace(self, place: int, number: int) -> None:
        """Add the thing that a part is of, unless it is explained, or stands."""
        cloud, own = self.clouds[place], self.clouds[place].part == number
        points = cloud.xyz[own & self.open[place]]
        if len(points) < max(self.limits.min_points, 0.5 * int(own.sum())):
            return
        velocity, support = self._best(place, points, self._hypotheses(place, points))
        if support < self.limits.min_support:
            self._add(_box(points, torch.zeros(2), float(self.times[place])))
            return
        velocity = self._refined(place, points, velocity)
        if float(velocity.norm()) < self.limits.min_speed_mps:
            return
        carried = [
            self._there(place, other, points, velocity) - F.pad(velocity * self.times[other], (0, 1))
            for other in range(len(self.times))
        ]
        thing = _box(torch.cat(carried), velocity, None)
        whole = [
            xyz[thing.holds(xyz, time_s)] - F.pad(velocity * time_s, (0, 1))
            for xyz, time_s in zip(self.returns, self.times.tolist(), strict=True)
        ]
        self._add(_box(torch.cat(whole), velocity, None))

    def _add(self, thing: Thing) -> None:
        self.things.append(thing)
        for place, time_s in enumerate(self.times.tolist()):
            if thing.only_at is None or thing.only_at == time_s:
                self.open[place] &= ~thing.holds(self.clouds[place].xyz, time_s)
                self._plans[place] = self._plan(place)

    def _plan(self, place: int) -> Bool[Tensor, "X Y"]:
        """Ground plan of the returns that nothing explains yet; a cell beside one counts."""
        plan = torch.zeros(self.grid.shape[:2])
        xyz = self.clouds[place].xyz[self.open[place]]
        x, y, _ = self.grid.index_from_xyz(xyz[self.grid.contains(xyz)]).unbind(-1)
        plan[x, y] = 1.0
        return F.max_pool2d(plan[None], 3, 1, 1)[0] > 0

    def _hypotheses(self, place: int, points: Float[Tensor, "P 3"]) -> Float[Tensor, "N 2"]:
        """Velocities that would take the middle or an end of the thing to that of a part elsewhere, and known ones."""
        own, found = _marks(points[:, :2], torch.zeros_like(points[:, 0], dtype=torch.int64)), []
        for other, cloud in enumerate(self.clouds):
            kept = self.open[other]
            if other != place and bool(kept.any()):
                part = cloud.part[kept].unique(return_inverse=True)[1]
                gap_s = self.times[other] - self.times[place]
                found.append((_marks(cloud.xyz[kept, :2], part) - own).flatten(0, 1) / gap_s)
        known = [thing.velocity[None] for thing in self.things if thing.only_at is None]
        velocity = torch.cat([torch.zeros(1, 2), *known, *found])
        return velocity[velocity.norm(dim=-1) <= self.limits.max_speed_mps]

    def _best(
        self, place: int, points: Float[Tensor, "P 3"], velocity: Float[Tensor, "N 2"]
    ) -> tuple[Float[Tensor, "2"], float]:
        hit, free = self._found_again(place, _some(points), velocity)
        score = hit - free
        best = int(score.argmax())
        return velocity[best], float(score[best])

    def _found_again(
        self, place: int, points: Float[Tensor, "P 3"], velocity: Float[Tensor, "N 2"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """Of the carried returns that stay in the grid: shares that meet moved returns, and that meet free space."""
        others = torch.tensor([other for other in range(len(self.times)) if other != place])
        gap_s = self.times[others] - self.times[place]
        xyz = points[:, None, None] + F.pad(velocity[:, None] * gap_s[:, None], (0, 1))  # (P, N, T, 3)
        inside = self.grid.contains(xyz)
        last = torch.tensor(self.grid.shape) - 1
        x, y, z = self.grid.index_from_xyz(xyz).clamp_min(0).minimum(last).unbind(-1)
        count = inside.sum((0, 2)).clamp_min(1)
        hit, free = self._plans[others, x, y] & inside, self.free[others, x, y, z] & inside
        return hit.sum((0, 2)) / count, free.sum((0, 2)) / count

    def _there(
        self, place: int, other: int, points: Float[Tensor, "P 3"], velocity: Float[Tensor, "2"]
    ) -> Float[Tensor, "M 3"]:
        """Open moved returns of a keyframe within reach of the carried ones; at their own keyframe they themselves."""
        if other == place:
            return points
        cloud = self.clouds[other].xyz[self.open[other]]
        carried = points[:, :2] + velocity * (self.times[other] - self.times[place])
        low, high = carried.amin(0) - REACH_M, carried.amax(0) + REACH_M
        return cloud[((cloud[:, :2] >= low) & (cloud[:, :2] <= high)).all(-1)]

    def _refined(self, place: int, points: Float[Tensor, "P 3"], velocity: Float[Tensor, "2"]) -> Float[Tensor, "2"]:
        """The velocity nearby under which the shapes of all keyframes lie on each other best, both ways."""
        own = _some(points)
        for step in (0.5, 0.2, 0.08):
            others = [
                (float(self.times[other] - self.times[place]), _some(there))
                for other in range(len(self.times))
                if other != place
                and len(there := self._there(place, other, points, velocity)) >= self.limits.min_points
            ]
            if not others:
                return velocity
            ticks = torch.arange(-3, 4) * step
            tried = velocity + torch.cartesian_prod(ticks, ticks)
            shape = [_distance(own + F.pad(tried[:, None] * gap_s, (0, 1)), there) for gap_s, there in others]
            cost = torch.stack(shape).mean(0) + self._found_again(place, own, tried)[1] * REACH_M
            velocity = tried[int(cost.argmin())]
        return velocity


def _marks(xy: Float[Tensor, "P 2"], part: Int64[Tensor, "P"]) -> Float[Tensor, "N 3 2"]:
    """Middle, lower and upper corner of each part on the ground plan."""
    count = int(part.max()) + 1
    rows = part[:, None].expand(-1, 2)
    kinds = [xy.new_zeros(count, 2).scatter_reduce(0, rows, xy, kind, include_self=False) for kind in _KINDS]
    return torch.stack(kinds, 1)


_KINDS = ("mean", "amin", "amax")


def _some(points: Float[Tensor, "P 3"]) -> Float[Tensor, "N 3"]:
    """Every n-th, so that at most ``SHAPE_POINTS`` are left."""
    return points[:: max(-(-len(points) // SHAPE_POINTS), 1)]


def _distance(moved: Float[Tensor, "K N 3"], there: Float[Tensor, "M 3"]) -> Float[Tensor, "K"]:
    """Mean distance of either shape's points to the other shape, each at most ``REACH_M``."""
    gap = torch.cdist(moved, there.expand(len(moved), -1, -1), compute_mode="donot_use_mm_for_euclid_dist")
    gap = gap.clamp_max(REACH_M)
    return gap.amin(2).mean(1) + gap.amin(1).mean(1)


def _box(points: Float[Tensor, "P 3"], velocity: Float[Tensor, "2"], only_at: float | None) -> Thing:
    """The box of returns carried to time 0, down to the ground; its length lies along the velocity."""
    yaw = float(torch.atan2(velocity[1], velocity[0]))
    own = turned(points, torch.full((len(points),), -yaw))
    low, high = own.quantile(0.02, 0), own.quantile(0.98, 0)
    low[2] = low[2] - 0.3  # the lowest returns were taken for ground
    center = turned(((low + high) / 2)[None], torch.tensor([yaw]))[0]
    return Thing(center, (high - low) / 2, yaw, velocity, only_at)
