"""What is wrong with a volume of labels or predictions? Its own LiDAR sweep knows.

Returns should lie in occupied voxels, and rays should pass free ones. If they do so far better once the axes are
swapped, the grid is moved by half a voxel or the other frame is meant, then that is what happened to the file.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int64, Shaped, UInt8
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.collate import grid_from_lidar
from lexivox.data.doctor.half_voxels import away_from_faces, settled
from lexivox.data.doctor.readings import Reading, orders
from lexivox.data.doctor.report import Finding, Findings
from lexivox.data.doctor.structure import check_ground, check_numbers
from lexivox.data.labels import occupancy_from_lidar
from lexivox.data.types import FREE, IGNORED, Sample
from lexivox.errors import ShapeError
from lexivox.geometry.grid import GridFrame, VoxelGrid

FRAMES: tuple[GridFrame, ...] = ("ego", "lidar")

MIN_MARGIN = 0.06
"""Another reading counts when it fits better by this much: 1 is a perfect fit, 0 that of chance."""

MIN_FIT = 0.15
"""Below this no reading fits, and nothing can be said about axes."""

MAX_VOXELS = 150_000
"""Observed voxels of a keyframe that are compared; more change nothing and cost time."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a sweep says of voxels of a grid: which, and whether a return lies there or a ray passed."""

    index: Int64[Tensor, "N 3"]
    is_hit: Bool[Tensor, "N"]


def check_labels(
    samples: Sequence[Sample],
    volumes: Sequence[Shaped[Tensor, "_ _ _"]],
    grid: VoxelGrid,
    classes: ClassTable,
    point_classes: ClassTable | None = None,
) -> Generator[Finding, None, Reading | None]:
    """Compare volumes of classes, as they came from their files, with the sweeps of their keyframes.

    Yields findings; its value is the reading that fits, ``None`` where none does.

    Args:
        samples: the keyframes, with ``point_labels`` if classes are to be checked too.
        volumes: one for each; their axes may be in any order.
        grid: what the volumes are taken for.
        classes: what their numbers are taken for.
        point_classes: the table of the point labels.

    Raises:
        ShapeError: not as many volumes as samples.
    """
    if len(samples) != len(volumes):
        raise ShapeError(f"volumes must be as many as samples, {len(samples)}; got {len(volumes)}.")
    volumes, usable = yield from check_numbers(volumes, classes)
    if not usable:
        return None
    found = yield from _check_axes(samples, volumes, grid, classes, Reading(frame=grid.frame))
    if found is not None:
        grid, volumes = replace(grid, frame=found.frame), [found.apply(v) for v in volumes]
        yield from _check_free(samples, volumes, grid, classes)
        if point_classes is not None and all(sample.point_labels is not None for sample in samples):
            yield from _check_classes(samples, volumes, grid, classes, point_classes)
        else:
            yield from check_ground(volumes, classes)
    return found


def _check_axes(
    samples: Sequence[Sample], volumes: Sequence[Tensor], grid: VoxelGrid, classes: ClassTable, given: Reading
) -> Generator[Finding, None, Reading | None]:
    """Yields findings; its value is the reading that fits."""
    shape = tuple(volumes[0].shape)
    readings = [r for frame in FRAMES for r in orders(shape, grid.shape, frame)]
    if not readings:
        text = f"a volume of {shape} has no reading on a grid of {grid.shape}"
        yield Finding("error", text, "shape")
        return None
    fits = {}
    for frame in FRAMES:
        observed = [observe(sample, grid, Reading(frame=frame)) for sample in samples]
        fits |= {r: _fit(observed, volumes, classes, r) for r in readings if r.frame == frame}
    best = max(fits, key=fits.__getitem__)
    best = given if given in fits and fits[best] < fits[given] + MIN_MARGIN else best
    shifted, fit = _shifted(samples, volumes, grid, classes, best)
    found = settled(samples, volumes, grid, classes, shifted if fit > fits[best] + MIN_MARGIN else best)
    fit = _fit([observe(sample, grid, found) for sample in samples], volumes, classes, found)
    if fit < MIN_FIT:
        text = f"no reading of the volume fits the sweep ({fit:.2f}, chance is 0): is it of this keyframe?"
        yield Finding("error", text, "no-fit")
        return None
    if found == given:
        text = f"axes, frame and origin of the volume fit the sweep ({fit:.2f}; 1 is perfect, 0 is chance)"
        yield Finding("ok", text)
    else:
        now = f"{fits[given]:.2f}" if given in fits else "impossible"
        text = f"the volume does not fit the sweep ({now}) but would ({fit:.2f}): {found.mend(given)}"
        yield Finding("error", text, found.fault(given))
    return found


def _shifted(
    samples: Sequence[Sample], volumes: Sequence[Tensor], grid: VoxelGrid, classes: ClassTable, best: Reading
) -> tuple[Reading, float]:
    """The reading moved by half a voxel along every axis where that helps, one axis after the other; its fit."""

    def fit(reading: Reading) -> float:
        return _fit([observe(sample, grid, reading) for sample in samples], volumes, classes, reading)

    fits = {best: fit(best)}
    for axis in (0, 1, 2):
        for half in (-0.5, 0.5):
            moved = best.moved(axis, half)
            fits[moved] = fit(moved)
        best = max(fits, key=fits.__getitem__)
    return best, fits[best]


def _fit(observed: Sequence[Observed], volumes: Sequence[Tensor], classes: ClassTable, reading: Reading) -> float:
    """Share of hit voxels that are occupied less that of passed voxels, over those that the file knows."""
    counts = torch.zeros(2, 2, dtype=torch.int64)  # (passed or hit by rays, free or occupied)
    for seen, volume in zip(observed, volumes, strict=True):
        label = reading.pick(volume, seen.index)
        counted = label != classes.ignore
        pair = 2 * seen.is_hit[counted].long() + (label[counted] != classes.free).long()
        counts += torch.bincount(pair, minlength=4).reshape(2, 2)
    if not bool(counts.sum(1).all()):
        return 0.0
    share = counts[:, 1] / counts.sum(1).double()
    return float(share[1] - share[0])


def observe(sample: Sample, grid: VoxelGrid, reading: Reading) -> Observed:
    """What the sweep of a keyframe says of the grid, moved and in the frame of a reading.

    Voxels whose only returns lie next to a face are left out.
    """
    moved, seen = _volume(sample, grid, reading)
    xyz = grid_from_lidar(sample, moved).apply(sample.lidar.xyz)
    surely = xyz[moved.contains(xyz) & away_from_faces(moved, xyz)]
    is_hit = torch.zeros(moved.shape, dtype=torch.bool)
    is_hit[moved.index_from_xyz(surely).unbind(-1)] = True
    index = (is_hit | (seen == FREE)).nonzero()
    index = index[:: max(len(index) // MAX_VOXELS, 1)]
    return Observed(index, is_hit[index.unbind(-1)])


def _volume(sample: Sample, grid: VoxelGrid, reading: Reading) -> tuple[VoxelGrid, UInt8[Tensor, "X Y Z"]]:
    """The moved grid, and what the sweep says of its voxels."""
    moved = reading.of(grid)
    transform = grid_from_lidar(sample, moved)
    return moved, occupancy_from_lidar(moved, transform.translation.float(), transform.apply(sample.lidar.xyz))


def _check_free(samples: Sequence[Sample], volumes: Sequence[Tensor], grid: VoxelGrid, classes: ClassTable) -> Findings:
    """Are free and ignored mixed up? What rays pass must be called free more often than what none reached."""
    counts = torch.zeros(256, 256, dtype=torch.int64)  # (what the sweep says, what the file says)
    for sample, label in zip(samples, volumes, strict=True):
        _, observed = _volume(sample, grid, Reading(frame=grid.frame))
        counts += torch.bincount((observed.long() * 256 + label).flatten(), minlength=256 * 256).reshape(256, 256)
    here, there = (counts[said] / counts[said].sum().clamp_min(1) for said in (FREE, IGNORED))
    free, ignore = int(classes.free or 0), classes.ignore
    free_here, ignored_here = float(here[free]), float(here[ignore])
    if ignored_here > 0.5 and float(there[free]) > free_here:
        text = (
            f"{ignored_here:.0%} of the voxels that rays pass are ignored and {free_here:.0%} free: "
            f"{classes.free} and {classes.ignore} are exchanged, or unobserved voxels were filled with free"
        )
        yield Finding("error", text, "free-ignored")
    else:
        yield Finding("ok", f"{free_here:.0%} of the voxels that rays pass are free, {ignored_here:.0%} ignored")


def _check_classes(
    samples: Sequence[Sample],
    volumes: Sequence[Tensor],
    grid: VoxelGrid,
    classes: ClassTable,
    point_classes: ClassTable,
) -> Findings:
    """Do voxels carry the class of the points inside, or that of a neighbour in the table?"""
    same_name = torch.tensor([classes.names.index(n) if n in classes.names else -1 for n in point_classes.names])
    said, true = [], []
    for sample, label in zip(samples, volumes, strict=True):
        if sample.point_labels is not None:
            transform = grid_from_lidar(sample, grid)
            xyz = transform.apply(sample.lidar.xyz)
            inside = grid.contains(xyz)
            index = grid.index_from_xyz(xyz[inside])
            said.append(label[index[:, 0], index[:, 1], index[:, 2]].long())
            true.append(same_name[sample.point_labels.label[inside]])
    if said:
        yield _off_by(torch.cat(said), torch.cat(true), classes)


def _off_by(said: Int64[Tensor, "P"], true: Int64[Tensor, "P"], classes: ClassTable) -> Finding:
    kept = (true >= 0) & (true != classes.free) & (true != classes.ignore)
    kept &= (said != classes.free) & (said != classes.ignore)
    said, true = said[kept], true[kept]
    if len(said) < 100:
        text = f"only {len(said)} labelled points lie in occupied voxels, too few to check the classes"
        return Finding("unsure", text)
    agree = {k: float((said + k == true).double().mean()) for k in (-1, 0, 1)}
    best = max(agree, key=agree.__getitem__)
    text = f"{agree[0]:.0%} of the labelled points lie in a voxel of their class"
    if best and agree[best] > max(0.5, 2 * agree[0]):
        text = f"{text}, {agree[best]:.0%} if every class is numbered {best:+d}: the table is off by one"
        return Finding("error", text, "off-by-one")
    return Finding("ok", text) if agree[0] > 0.3 else Finding("warning", f"{text}: is it the right table?", "table")
