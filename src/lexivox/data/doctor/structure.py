"""What a volume tells of itself, without a sweep: which way is up, which number is free, what the ground is.

Streets have a floor: seen from above, the lowest occupied voxels lie in one layer, more so than along any other
axis or from above. Little else can be told alone; the rest is said to be unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from itertools import product

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.doctor.readings import Reading, orders
from lexivox.data.doctor.report import Finding, Findings
from lexivox.geometry.grid import VoxelGrid

Volumes = Sequence[Shaped[Tensor, "_ _ _"]]

MIN_FLOOR, MIN_LEAD = 0.3, 1.3
"""Likeness of the lowest voxels to a floor, 1 at most, and how much that is more than in any other direction."""

GROUND = ("road", "driv", "flat", "sidewalk", "terrain", "parking", "ground", "lane", "pavement", "grass")
"""Parts of the names of what a floor is made of."""

ABOVE = 3
"""Layers over and under the floor that are compared."""


def check_numbers(volumes: Volumes, classes: ClassTable) -> Generator[Finding, None, tuple[Volumes, bool]]:
    """Numbers that are no classes, and a number of free that is none.

    Yields findings; its value is the volumes with every number put right where it was off by one, and whether all
    numbers are classes then.
    """
    volumes = [volume.long() for volume in volumes]
    counts = _counts(volumes)
    by = _off_by(counts, classes)
    if by:
        text = f"most voxels are {(classes.free or 0) - by}, but free is {classes.free} in {classes.name}: "
        yield Finding("error", f"{text}number every class {by:+d}", "off-by-one")
        volumes = [torch.where(v == classes.ignore, v, v + by).clamp(0, 255) for v in volumes]
        counts = _counts(volumes)
    strange = [n for n in sorted(counts) if not 0 <= n < classes.num_classes and n != classes.ignore]
    if strange:
        text = f"numbers {strange[:5]} are no classes of {classes.name}: choose its table"
        yield Finding("error", text, "unknown-classes")
    return volumes, not strange


def _counts(volumes: Sequence[Int64[Tensor, "_ _ _"]]) -> dict[int, int]:
    """How often every number stands in the volumes; bytes are counted in one pass, others are rare."""
    counts: Counter[int] = Counter()
    for volume in volumes:
        is_byte = (volume >= 0) & (volume < 256)
        usual = volume.flatten() if bool(is_byte.all()) else volume[is_byte]
        counts.update({n: c for n, c in enumerate(torch.bincount(usual).tolist()) if c})
        if usual.numel() < volume.numel():
            counts.update(volume[~is_byte].tolist())
    return dict(counts)


def _off_by(counts: Mapping[int, int], classes: ClassTable) -> int:
    """What to add to numbers of which most are those beside free: free is the commonest thing in the world."""
    assert classes.free is not None  # every table of a volume has one
    known = sum(count for number, count in counts.items() if number != classes.ignore)
    near = [0 if n == classes.ignore else counts.get(n, 0) for n in range(classes.free - 1, classes.free + 2)]
    if known == 0 or near[1] > max(near[0], near[2]):
        return 0
    return 1 if near[0] > 0.5 * known else -1 if near[2] > 0.5 * known else 0


def check_structure(volumes: Volumes, grid: VoxelGrid, classes: ClassTable) -> Generator[Finding, None, Reading | None]:
    """Numbers, axes, free and ignored, and the class of the ground, as far as a volume alone can tell.

    Yields findings; its value is a reading whose z is up, ``None`` where that cannot be told.
    """
    volumes, usable = yield from check_numbers(volumes, classes)
    if not usable:
        return None
    readings = list(orders(volumes[0].shape, grid.shape, grid.frame))
    if not readings:
        text = f"a volume of {tuple(volumes[0].shape)} has no reading on a grid of {grid.shape}"
        yield Finding("error", text, "shape")
        return None
    given = Reading(frame=grid.frame)
    best, floors = _upright(volumes, classes, readings)
    if best is None:
        yield Finding(
            "unsure", "no floor is seen along any axis, so a volume without a sweep tells nothing of its axes"
        )
        return
    up, share = best
    if given in readings and (given.order[2], given.flipped[2]) == up:
        text = f"z is up: the lowest voxels look like a floor (likeness {share:.2f}, at most 1)"
        yield Finding("ok", text)
    else:
        way = "backwards" if up[1] else "forwards"
        text = (
            f"the floor lies along axis {up[0]} of the file, {way} (likeness {share:.2f}; along z it would be "
            f"{floors.get((given.order[2], False), 0.0):.2f}): transpose or turn it so that z is up"
        )
        yield Finding("error", text, "axes")
    reading = next(r for r in (given, *readings) if r in readings and (r.order[2], r.flipped[2]) == up)
    upright = [reading.apply(volume) for volume in volumes]
    yield from _check_air(upright, classes)
    yield from check_ground(upright, classes)
    text = "without a sweep nobody can tell left from right, front from back, the frame, or half a voxel"
    yield Finding("unsure", text)
    return reading


def _upright(
    volumes: Volumes, classes: ClassTable, readings: Sequence[Reading]
) -> tuple[tuple[tuple[int, bool], float] | None, dict[tuple[int, bool], float]]:
    """The axis of the file and the direction along which there is a floor, with its share; all shares."""
    floors = {}
    for axis, flipped in product(sorted({r.order[2] for r in readings}), (False, True)):
        order = (*(a for a in range(3) if a != axis), axis)
        reading = Reading(order, (False, False, flipped))  # type: ignore[arg-type]
        shares = [_likeness(reading.apply(volume), classes) for volume in volumes]
        floors[axis, flipped] = sum(shares) / len(shares)
    first, *others = sorted(floors, key=lambda key: -floors[key])
    sure = floors[first] >= MIN_FLOOR and all(floors[first] >= MIN_LEAD * floors[other] for other in others)
    return ((first, floors[first]) if sure else None), floors


def _likeness(volume: Tensor, classes: ClassTable) -> float:
    """How much the lowest voxels look like a floor: in one layer, of classes of a floor, all else above them."""
    occupied = _occupied(volume, classes)
    share, layer = _floor(occupied)
    standing, hanging = int(occupied[:, :, layer + 2 :].sum()), int(occupied[:, :, : max(layer - 1, 0)].sum())
    share *= (standing + 1) / (standing + hanging + 2)
    is_ground = ground_numbers(classes)
    if not bool(is_ground.any()):
        return share
    x, y = occupied.any(2).nonzero(as_tuple=True)
    label = volume[x, y, occupied.to(torch.uint8).argmax(2)[x, y]].long()
    return share * max(_ground_share(label + by, is_ground) for by in (-1, 0, 1))


def _occupied(volume: Tensor, classes: ClassTable) -> Bool[Tensor, "X Y Z"]:
    return (volume != classes.free) & (volume != classes.ignore)


def _floor(occupied: Bool[Tensor, "X Y Z"]) -> tuple[float, int]:
    """Share of the columns whose lowest occupied voxel lies in the commonest layer or beside it; that layer.

    Columns without a voxel count against it, up to half of all: labels end where nothing was seen.
    """
    columns = occupied.any(2)
    lowest = occupied.to(torch.uint8).argmax(2)[columns]
    counts = torch.bincount(lowest, minlength=occupied.shape[2]).double()
    near = counts + torch.cat([counts[1:], counts[:1] * 0]) + torch.cat([counts[-1:] * 0, counts[:-1]])
    layer = int(near.argmax())
    return float(near[layer]) / max(float(columns.sum()), 0.5 * columns.numel()), layer


def _on_floor(volume: Tensor, classes: ClassTable) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the voxels of the floor: the lowest of their columns, in the commonest layer or beside it."""
    occupied = _occupied(volume, classes)
    _, layer = _floor(occupied)
    lowest = occupied.to(torch.uint8).argmax(2)
    x, y = (occupied.any(2) & ((lowest - layer).abs() <= 1)).nonzero(as_tuple=True)
    return x, y, lowest[x, y]


def _check_air(volumes: Volumes, classes: ClassTable) -> Findings:
    """What lies over and under the floor."""
    over, under = [], []
    for volume in volumes:
        (x, y, z), top = _on_floor(volume, classes), volume.shape[2] - 1
        over += [volume[x, y, (z + k).clamp_max(top)][z + k <= top] for k in range(1, ABOVE + 1)]
        under += [volume[x, y, (z - k).clamp_min(0)][z - k >= 0] for k in range(1, ABOVE + 1)]
    above, below = torch.cat(over), torch.cat(under)
    free_over, ignored_over = _share(above, classes.free), _share(above, classes.ignore)
    text = f"{free_over:.0%} of the voxels over the floor are free, {ignored_over:.0%} ignored"
    if ignored_over > 0.5 and _share(below, classes.free) > 0.5:
        text = (
            f"{text}, and those under it are free: {classes.free} and {classes.ignore} are exchanged, or unobserved "
            "voxels were filled with free"
        )
        yield Finding("error", text, "free-ignored")
    else:
        yield Finding("ok", text)


def check_ground(volumes: Volumes, classes: ClassTable) -> Findings:
    """Is the floor, of volumes whose z is up, of classes that floors are made of?"""
    is_ground = ground_numbers(classes)
    floor = torch.cat([volume[_on_floor(volume, classes)] for volume in volumes]).long()
    if not bool(is_ground.any()) or len(floor) == 0:
        return
    shares = {by: _ground_share(floor + by, is_ground) for by in (-1, 0, 1)}
    best = max(shares, key=shares.__getitem__)
    text = f"{shares[0]:.0%} of the floor is of classes that a floor is made of"
    if best and shares[best] > max(0.5, 1.5 * shares[0]):
        text = f"{text}, {shares[best]:.0%} if every class is numbered {best:+d}: the table is off by one"
        yield Finding("error", text, "off-by-one")
    else:
        yield Finding("ok", text) if shares[0] > 0.3 else Finding("unsure", f"{text}: is it the right table?")


def _ground_share(label: Int64[Tensor, "N"], is_ground: Bool[Tensor, "K"]) -> float:
    inside = (label >= 0) & (label < len(is_ground))
    return float(is_ground[label[inside]].double().sum()) / max(len(label), 1)


def ground_numbers(classes: ClassTable) -> Bool[Tensor, "K"]:
    """True for classes of a table that floors are made of, by their names."""
    return torch.tensor([any(part in name.lower() for part in GROUND) for name in classes.names])


def _share(label: Tensor, number: int | None) -> float:
    return float((label == number).double().mean()) if len(label) else 0.0
