"""Light through a scene: which places rays pass, what the heads say there, and where the rays therefore end.

Exact: the walk lists every voxel of a ray, and the heads are read once at the centre of every voxel that some ray
touches, never on the whole grid. Geometry is read first; classes and language only where enough of a ray ends. At
other keyframes, segments inside something that moves are read where that thing stands now, so one prediction serves
all moments and no volume is copied (spec occflownet 3.5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.motion import UNLABELLED, Motion
from lexivox.data.types import Rays
from lexivox.geometry.grid import VoxelGrid
from lexivox.model import Scene
from lexivox.ops.render import Density, Weights, composite_rows, extinction_from_logit, render_weights
from lexivox.ops.render_sampled import Sampling
from lexivox.ops.render_volume import edge_m
from lexivox.ops.walk import Segments, unique_rows, walk
from lexivox.supervision.scatter_flow import Scattered

Warp = Literal["inverse", "scatter_nearest"]
"""How things of other keyframes are found: by :class:`lexivox.data.motion.Motion`, or by ``scatter_flow``."""


@dataclass(frozen=True, slots=True)
class Optics:
    """How light runs.

    Attributes:
        density: what the logit of occupied means for light (spec occflownet A1).
        far_m: rays end there at the latest.
        behind_m: rays end so far behind their return; ``None`` lets them run on. What is stopped within that much is
            all that a return can teach.
        transparent: classes that rays of other keyframes look through where they are predicted, published as the
            second half of the filter of moving things (spec 3.2).
        match_class: a thing only moves with its box where its class is predicted, as published (spec 3.4).
        follow: what moved is read where it is now; else rays of other keyframes look through what moves, by its place.
        warp: ``"inverse"`` moves places; ``"scatter_nearest"`` moves voxels, as published (spec A8).
        eps: classes and language are read where more than this share of some ray ends.
        sampling: samples instead of the exact walk, as published: :func:`march_sampled.march_sampled`.
    """

    density: Density = "voxel_alpha"
    far_m: float = torch.inf
    behind_m: float | None = None
    transparent: tuple[int, ...] = ()
    match_class: bool = False
    follow: bool = True
    warp: Warp = "inverse"
    eps: float = 1e-3
    sampling: Sampling | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where a scene must be read for segments of rays.

    Attributes:
        xyz, batch: the places, each once.
        row: the place of each reading.
        is_clear: readings that light passes whatever the scene says.
        share: of each reading in its segment or sample; ``None`` where all are read once.
        times: readings of each segment or sample, such as the eight voxels around it; ``None`` = one.
    """

    xyz: Float[Tensor, "V 3"]
    batch: Int64[Tensor, "V"]
    row: Int64[Tensor, "M"]
    is_clear: Bool[Tensor, "M"]
    share: Float[Tensor, "M"] | None = None
    times: Int64[Tensor, "N"] | None = None


@dataclass(frozen=True, slots=True)
class March:
    """Rays that were followed through a scene.

    Attributes:
        segments: their pieces.
        weights: where they end.
        places: where the scene was read.
    """

    scene: Scene
    segments: Segments
    weights: Weights
    places: Places
    eps: float

    def seen(self, head: str, change: Callable[[Tensor], Tensor] = lambda rows: rows) -> Float[Tensor, "R K"]:
        """Sums of what a head says along each ray, each place weighed by the share of the ray that ends there.

        Args:
            change: applied to the rows that the head gives, before they are added up.
        """
        weight, count = self.weights.weight, self.segments.count
        if self.places.share is not None and self.places.times is not None:
            times = self.places.times
            weight = weight.repeat_interleave(times) * self.places.share
            count = torch.zeros_like(count).index_add(0, self.segments.ray, times)
        counts = weight.detach() > self.eps
        used, compact = unique_rows(self.places.row[counts], len(self.places.xyz))
        said = self.scene.read(head, self.places.xyz[used], self.places.batch[used])
        row = torch.zeros_like(self.places.row).masked_scatter(counts, compact)
        return composite_rows(weight, row, change(said.float()), count, self.eps)


def march(scene: Scene, grid: VoxelGrid, rays: Rays, motion: Motion | None, optics: Optics) -> March:
    """Follow rays through a scene."""
    far_m = torch.full_like(rays.depth_m, optics.far_m)
    if optics.behind_m is not None:
        far_m = torch.minimum(far_m, rays.depth_m + optics.behind_m)
    segments = walk(grid, rays.origins, rays.directions, far_m)
    places = find_places(scene, grid, rays, segments, motion, optics)
    weights = render_weights(extinction_of(scene, grid, places, optics), segments)
    return March(scene, segments, weights, places, optics.eps)


def extinction_of(scene: Scene, grid: VoxelGrid, places: Places, optics: Optics) -> Float[Tensor, "N"]:
    """Extinction per metre of each segment or sample."""
    logit = scene.read("occupancy", places.xyz, places.batch).float()
    extinction = extinction_from_logit(logit[:, 1] - logit[:, 0], edge_m(grid), optics.density)[places.row]
    extinction = extinction.masked_fill(places.is_clear, 0.0)
    if places.share is None or places.times is None:
        return extinction
    owner = torch.repeat_interleave(places.times)
    return extinction.new_zeros(len(places.times)).index_add(0, owner, extinction * places.share)


@torch.no_grad()
def find_places(
    scene: Scene, grid: VoxelGrid, rays: Rays, segments: Segments, motion: Motion | None, optics: Optics
) -> Places:
    """Centres of the voxels that are touched, and the places of now of segments inside what has moved."""
    if motion is not None and optics.warp == "scatter_nearest":
        once = torch.ones_like(segments.voxel)
        readings = Readings(segments.ray, segments.voxel, once.to(rays.depth_m), once, once < 0)
        return places_of(scene, grid, rays, readings, motion, optics)
    ray = segments.ray
    is_other = rays.offset[ray] != 0
    is_clear, is_moved = torch.zeros_like(is_other), torch.zeros_like(is_other)
    xyz_moved = rays.origins[:0]
    if motion is not None and bool(is_other.any()):
        rows = is_other.nonzero()[:, 0]
        middles = segments.middles(rays.origins, rays.directions)[rows].to(rays.origins)
        now = follow_motion(scene, grid, rays, ray[rows], middles, motion, optics)
        is_clear[rows], is_moved[rows] = now.is_clear, now.is_moved
        xyz_moved = now.xyz[now.is_moved]
    number, row = _voxels(grid, rays, segments)
    xyz = torch.cat([_centers(grid, rays, number), xyz_moved])
    batch = torch.cat([number // grid.num_voxels, rays.batch[ray[is_moved]]])
    row = row.masked_scatter(is_moved, torch.arange(len(number), len(xyz), device=row.device))
    if optics.transparent:
        is_clear |= looked_through(scene, xyz, batch, row, is_other, optics)
    return Places(xyz, batch, row, is_clear)


@dataclass(frozen=True, slots=True)
class Readings:
    """Voxels that segments or samples of rays read where nothing moves.

    Attributes:
        ray, voxel: of each reading.
        share: of each in its segment or sample.
        times: how many belong to each segment or sample, one after the other.
        is_clear: readings that light passes whatever the scene says.
    """

    ray: Int64[Tensor, "M"]
    voxel: Int64[Tensor, "M"]
    share: Float[Tensor, "M"]
    times: Int64[Tensor, "N"]
    is_clear: Bool[Tensor, "M"]


@torch.no_grad()
def places_of(
    scene: Scene, grid: VoxelGrid, rays: Rays, readings: Readings, motion: Motion | None, optics: Optics
) -> Places:
    """Centres of the voxels that are read; with ``scatter_nearest``, of those that moved there."""
    ray, share, times, is_clear = readings.ray, readings.share, readings.times, readings.is_clear
    number = readings.voxel + rays.batch[ray] * grid.num_voxels
    if motion is not None and optics.warp == "scatter_nearest":
        scattered = Scattered.of(scene, grid, motion, optics.match_class)
        number, part, split = scattered.sources(number, motion.group(rays.batch, rays.offset)[ray])
        times = torch.zeros_like(times).index_add(0, torch.repeat_interleave(times), split)
        ray, share, is_clear = (x.repeat_interleave(split) for x in (ray, share, is_clear))
        share = share * part
    number, row = unique_rows(number, _num_rows(grid, rays))
    xyz, batch = _centers(grid, rays, number), number // grid.num_voxels
    if optics.transparent:
        is_clear = is_clear | looked_through(scene, xyz, batch, row, rays.offset[ray] != 0, optics)
    return Places(xyz, batch, row, is_clear, share, times)


@dataclass(frozen=True, slots=True)
class Now:
    """Where places of other keyframes are now.

    Attributes:
        xyz: the place to read.
        is_moved: it is another one.
        is_clear: light passes there whatever the scene says.
    """

    xyz: Float[Tensor, "N 3"]
    is_moved: Bool[Tensor, "N"]
    is_clear: Bool[Tensor, "N"]


def follow_motion(
    scene: Scene,
    grid: VoxelGrid,
    rays: Rays,
    ray: Int64[Tensor, "N"],
    xyz: Float[Tensor, "N 3"],
    motion: Motion,
    optics: Optics,
) -> Now:
    """Where the matter at places of rays of other keyframes stands now."""
    moved = motion.to_now(xyz, rays.batch[ray], rays.offset[ray])
    moves, vacates = moved.is_moved, moved.is_vacant
    if optics.match_class:
        fits = _class_at(scene, moved.xyz, rays.batch[ray], moves | vacates) == moved.box_label
        fits |= moved.box_label == UNLABELLED  # found without boxes: it may be anything
        moves, vacates = moves & fits, vacates & fits
    inside = grid.contains(moved.xyz) & optics.follow
    is_clear = vacates | moved.is_unknown | (moves & ~inside)
    return Now(moved.xyz, moves & inside & ~is_clear, is_clear)


def looked_through(
    scene: Scene,
    xyz: Float[Tensor, "V 3"],
    batch: Int64[Tensor, "V"],
    row: Int64[Tensor, "M"],
    is_other: Bool[Tensor, "M"],
    optics: Optics,
) -> Bool[Tensor, "M"]:
    """Readings for rays of other keyframes at places whose predicted class these rays do not see."""
    said = _class_at(scene, xyz, batch, _used(row[is_other], len(xyz)))
    classes = torch.tensor(optics.transparent, device=row.device)
    return is_other & torch.isin(said, classes)[row]


def _voxels(grid: VoxelGrid, rays: Rays, segments: Segments) -> tuple[Int64[Tensor, "V"], Int64[Tensor, "N"]]:
    """Numbers of the touched voxels of all samples, and which of them each segment lies in."""
    return unique_rows(segments.rows(rays.batch * grid.num_voxels), _num_rows(grid, rays))


def _num_rows(grid: VoxelGrid, rays: Rays) -> int:
    """Of a table that holds the voxels of all samples."""
    return grid.num_voxels * (int(rays.batch.max()) + 1 if len(rays.batch) else 1)


def _centers(grid: VoxelGrid, rays: Rays, number: Int64[Tensor, "V"]) -> Float[Tensor, "V 3"]:
    return grid.xyz_from_index(grid.index_from_flat(number % grid.num_voxels)).to(rays.origins)


def _used(number: Int64[Tensor, "N"], size: int) -> Bool[Tensor, "S"]:
    return torch.zeros(size, dtype=torch.bool, device=number.device).index_fill_(0, number, True)


def _class_at(
    scene: Scene, xyz: Float[Tensor, "N 3"], batch: Int64[Tensor, "N"], wanted: Bool[Tensor, "N"]
) -> Int64[Tensor, "N"]:
    """The likeliest class at the wanted places, -1 elsewhere."""
    said = torch.full_like(batch, -1)
    said[wanted] = scene.read("semantic", xyz[wanted], batch[wanted]).argmax(dim=-1)
    return said
