"""What is wrong with a volume of labels or predictions? Its own LiDAR sweep knows.

Returns should lie in occupied voxels, and rays should pass free ones. If they do so far better once the axes are
swapped, the grid is moved by half a voxel or the other frame is meant, then that is what happened to the file.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.collate import grid_from_lidar
from lexivox.data.doctor.report import Finding, Findings
from lexivox.data.labels import occupancy_from_lidar
from lexivox.data.types import FREE, IGNORED, OCCUPIED, Sample
from lexivox.errors import ShapeError
from lexivox.geometry.grid import GridFrame, VoxelGrid

MIN_MARGIN = 0.06
"""Another reading counts when it fits better by this much: 1 is a perfect fit, 0 that of chance."""

MIN_FIT = 0.15
"""Below this no reading fits, and nothing can be said about axes."""

AXES = "xyz"


@dataclass(frozen=True, slots=True)
class Reading:
    """A way to read a volume: axis k of the grid is axis ``order[k]`` of the file, backwards where flipped.

    Attributes:
        shift: of the grid in voxels.
        frame: that of the grid.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flipped: tuple[bool, bool, bool] = (False, False, False)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    frame: GridFrame = "ego"

    def apply(self, volume: Tensor) -> Tensor:
        """The volume in the axes of the grid."""
        return volume.permute(self.order).flip([axis for axis in range(3) if self.flipped[axis]])

    def fault(self, given: Reading) -> str:
        """Name of the fault of a file that was taken for ``given``: the grossest where there are several."""
        if self.order != given.order or self.flipped != given.flipped:
            return "axes"
        return "frame" if self.frame != given.frame else "half-voxel"

    def mend(self, given: Reading) -> str:
        """What to do to a file that was taken for ``given``."""
        steps = []
        if self.order != given.order:
            steps.append(f"transpose it with {self.order}")
        if self.flipped != given.flipped:
            axes = ", ".join(AXES[axis] for axis in range(3) if self.flipped[axis])
            steps.append(f"turn {axes} around")
        if self.frame != given.frame:
            steps.append(f"take it for a volume in the '{self.frame}' frame, not '{given.frame}'")
        if self.shift != given.shift:
            parts = ", ".join(f"{s:+g}" for s in self.shift)
            steps.append(f"move its grid by ({parts}) voxels: an index was taken for a corner where it is a centre")
        return " and ".join(steps)


def check_labels(
    samples: Sequence[Sample],
    volumes: Sequence[Shaped[Tensor, "_ _ _"]],
    grid: VoxelGrid,
    classes: ClassTable,
    point_classes: ClassTable | None = None,
) -> Findings:
    """Compare volumes of classes, as they came from their files, with the sweeps of their keyframes.

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
    strange = [n for v in volumes for n in v.unique().tolist() if not _is_class(n, classes)]
    if strange:
        text = f"numbers {sorted(set(strange))[:5]} are no classes of {classes.name}: choose its table"
        yield Finding("error", text, "unknown-classes")
        return
    given = Reading(frame=grid.frame)
    best = yield from _check_axes(samples, volumes, grid, classes, given)
    if best is not None:
        grid, volumes = replace(grid, frame=best.frame), [best.apply(v) for v in volumes]
        yield from _check_free(samples, volumes, grid, classes)
        if point_classes is not None:
            yield from _check_classes(samples, volumes, grid, classes, point_classes)


def _is_class(number: int, classes: ClassTable) -> bool:
    return 0 <= number < classes.num_classes or number == classes.ignore


def _check_axes(
    samples: Sequence[Sample], volumes: Sequence[Tensor], grid: VoxelGrid, classes: ClassTable, given: Reading
) -> Generator[Finding, None, Reading | None]:
    """Yields findings; its value is the reading that fits, without the shift, or None."""
    readings = [
        Reading((a, b, c), (flip_a, flip_b, flip_c), frame=frame)
        for frame in ("ego", "lidar")
        for a, b, c in permutations(range(3))
        for flip_a, flip_b, flip_c in product((False, True), repeat=3)
        if tuple(volumes[0].shape[axis] for axis in (a, b, c)) == grid.shape
    ]
    if not readings:
        text = f"a volume of {tuple(volumes[0].shape)} has no reading on a grid of {grid.shape}"
        yield Finding("error", text, "shape")
        return None
    fits = {}
    for frame in ("ego", "lidar"):
        observed = [_observed(sample, grid, Reading(frame=frame)) for sample in samples]
        fits |= {r: _fit(observed, volumes, classes, r) for r in readings if r.frame == frame}
    best = max(fits, key=fits.__getitem__)
    best = given if given in fits and fits[best] < fits[given] + MIN_MARGIN else best
    moved = {}
    for shift in product((-0.5, 0.0, 0.5), repeat=3):
        if any(shift):
            reading = replace(best, shift=shift)
            moved[shift] = _fit([_observed(s, grid, reading) for s in samples], volumes, classes, reading)
    shift = max(moved, key=moved.__getitem__)
    found = replace(best, shift=shift) if moved[shift] > fits[best] + MIN_MARGIN else best
    fit = max(moved[shift], fits[best]) if found.shift != (0.0, 0.0, 0.0) else fits[best]
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
    return best


def _fit(observed: Sequence[Tensor], volumes: Sequence[Tensor], classes: ClassTable, reading: Reading) -> float:
    """Share of hit voxels that are occupied less that of passed voxels, over those that the file knows."""
    counts = torch.zeros(2, 2, dtype=torch.int64)  # (passed or hit by rays, free or occupied)
    for truth, volume in zip(observed, volumes, strict=True):
        label = reading.apply(volume)
        counted = (label != classes.ignore) & (truth != IGNORED)
        pair = 2 * (truth[counted] == OCCUPIED).long() + (label[counted] != classes.free).long()
        counts += torch.bincount(pair, minlength=4).reshape(2, 2)
    if not bool(counts.sum(1).all()):
        return 0.0
    share = counts[:, 1] / counts.sum(1).double()
    return float(share[1] - share[0])


def _observed(sample: Sample, grid: VoxelGrid, reading: Reading) -> Tensor:
    lower = [low + s * size for low, s, size in zip(grid.lower_m, reading.shift, grid.voxel_size_m, strict=True)]
    moved = VoxelGrid((lower[0], lower[1], lower[2]), grid.voxel_size_m, grid.shape, reading.frame)
    transform = grid_from_lidar(sample, moved)
    return occupancy_from_lidar(moved, transform.translation.float(), transform.apply(sample.lidar.xyz))


def _check_free(samples: Sequence[Sample], volumes: Sequence[Tensor], grid: VoxelGrid, classes: ClassTable) -> Findings:
    """Are free and ignored mixed up? What rays pass must be called free more often than what none reached."""
    passed, unseen = [], []
    for sample, label in zip(samples, volumes, strict=True):
        observed = _observed(sample, grid, Reading(frame=grid.frame))
        passed.append(label[observed == FREE])
        unseen.append(label[observed == IGNORED])
    here, there = torch.cat(passed), torch.cat(unseen)
    free_here = float((here == classes.free).double().mean())
    ignored_here = float((here == classes.ignore).double().mean())
    if ignored_here > 0.5 and float((there == classes.free).double().mean()) > free_here:
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
