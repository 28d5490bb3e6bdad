"""Dense labels of a benchmark: a volume that knows its grid, its classes and who saw it; changing grids."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from lexivox.data.classes import ClassTable, LabelMap
from lexivox.errors import DataError, ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform


@dataclass(frozen=True, slots=True)
class DenseLabels:
    """What a benchmark says about every voxel of one keyframe.

    Attributes:
        grid: where the volume lies.
        classes: what its numbers mean; ``classes.ignore`` is not known there.
        label: class of each voxel.
        seen_by_lidar, seen_by_camera: True where a sensor observed the voxel; ``None`` where the format does not say.

    Raises:
        ShapeError: a volume is not of the grid's shape.
        DataError: a number that is no class.
    """

    grid: VoxelGrid
    classes: ClassTable
    label: UInt8[Tensor, "X Y Z"]
    seen_by_lidar: Bool[Tensor, "X Y Z"] | None = None
    seen_by_camera: Bool[Tensor, "X Y Z"] | None = None

    def __post_init__(self) -> None:
        for name in ("label", "seen_by_lidar", "seen_by_camera"):
            volume = getattr(self, name)
            if volume is not None and tuple(volume.shape) != self.grid.shape:
                raise ShapeError(
                    f"{name} of dense labels must have the grid's shape {self.grid.shape}; got {tuple(volume.shape)}."
                )
        known = torch.zeros(256, dtype=torch.bool)
        known[[*range(self.classes.num_classes), self.classes.ignore]] = True
        found = torch.bincount(self.label.reshape(-1), minlength=256) > 0
        if bool((found & ~known).any()):
            strange = (found & ~known).nonzero()[:, 0].tolist()
            raise DataError(
                f"dense labels must hold classes of {self.classes.name}, 0 to {self.classes.num_classes - 1}; "
                f"got {strange[:5]}. Choose the table that the file was written with."
            )

    def counted(self, mask: str) -> Bool[Tensor, "X Y Z"] | None:
        """The voxels that a protocol's mask counts; ``None`` means all.

        Raises:
            DataError: the labels do not say what that sensor saw.
        """
        wanted = {"none": (), "lidar": ("lidar",), "camera": ("camera",), "both": ("lidar", "camera")}[mask]
        masks = [getattr(self, f"seen_by_{sensor}") for sensor in wanted]
        if any(m is None for m in masks):
            raise DataError(f"labels must say what the {mask} mask needs; got none. Score with mask 'none'.")
        return torch.stack(masks).all(0) if masks else None

    def mapped(self, label_map: LabelMap) -> DenseLabels:
        """The same volume in the classes of another table."""
        if label_map.source != self.classes:
            raise DataError(
                f"a map must start from {self.classes.name}; got {label_map.source.name}. Choose another map."
            )
        table = torch.full((256,), label_map.target.ignore, dtype=torch.uint8)
        table[: len(label_map.table)] = torch.tensor(label_map.table, dtype=torch.uint8)
        return replace(self, classes=label_map.target, label=table[self.label.long()])


@dataclass(frozen=True, slots=True)
class ConversionLoss:
    """What a change of grid cost, in voxels of the old grid that are neither free nor ignored.

    Attributes:
        occupied: how many there were.
        outside: of them, how many lie outside the new grid.
        outvoted: of the rest, how many fell into a voxel that got another class, or none.
    """

    occupied: int
    outside: int
    outvoted: int

    @property
    def kept(self) -> int:
        """How many lie in a voxel of their class."""
        return self.occupied - self.outside - self.outvoted

    def __str__(self) -> str:
        return (
            f"{self.occupied:,} occupied voxels: {self.outside:,} outside the new grid, "
            f"{self.outvoted:,} in a voxel of another class"
        )


Rule = Literal["majority", "any"]
"""``majority``: the class of most pieces of a new voxel, free ones counted. ``any``: free only if all are, and if no
occupied old voxel has its centre there, so that nothing inside the new grid becomes free."""


def convert(
    labels: DenseLabels, grid: VoxelGrid, grid_from_labels: RigidTransform | None = None, rule: Rule = "majority"
) -> tuple[DenseLabels, ConversionLoss]:
    """Labels on another grid, in another frame if a transform is given.

    Every new voxel is cut until its pieces are no larger than the old voxels; each piece looks up the old voxel
    that its centre lies in, and the rule decides between the pieces. Pieces outside the old grid are ignored.

    Args:
        grid_from_labels: from the frame of ``labels.grid`` to that of ``grid``; needed where the frames differ.
        rule: see :data:`Rule`.

    Raises:
        ShapeError: the frames differ and no transform is given.
        DataError: the classes have no free class, so that nothing can be outvoted.
    """
    if grid_from_labels is None and grid.frame != labels.grid.frame:
        raise ShapeError(
            f"grids of different frames must be joined by a transform; got '{labels.grid.frame}' and "
            f"'{grid.frame}' without one. Pass grid_from_labels, e.g. sample.ego_from_lidar."
        )
    if labels.classes.free is None:
        raise DataError(f"classes of labels to convert must include free; got {labels.classes.name}.")
    ratios = (new / old for new, old in zip(grid.voxel_size_m, labels.grid.voxel_size_m, strict=True))
    factor = max(1, *(math.ceil(ratio - 1e-6) for ratio in ratios))
    label = torch.empty(grid.shape, dtype=torch.uint8)
    names = [name for name in ("seen_by_lidar", "seen_by_camera") if getattr(labels, name) is not None]
    masks = {name: torch.empty(grid.shape, dtype=torch.bool) for name in names}
    rows = max(1, _MAX_PIECES // (factor**3 * grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], rows):  # slab by slab: memory does not grow with the grid
        slab = slice(start, min(start + rows, grid.shape[0]))
        source = _source_voxels(labels.grid, grid, slab, factor, grid_from_labels)
        label[slab] = _voted(labels, source, rule).reshape(-1, *grid.shape[1:])
        for name, mask in masks.items():
            mask[slab] = _seen(getattr(labels, name), source).reshape(-1, *grid.shape[1:])
    moved = _moved(labels, grid, grid_from_labels)
    if rule == "any":
        _keep(label, labels.classes, moved)
    return DenseLabels(grid, labels.classes, label, **masks), _loss(label, moved)


_MAX_PIECES = 1 << 21
"""Looked up at a time."""


def _source_voxels(
    old: VoxelGrid, new: VoxelGrid, slab: slice, factor: int, new_from_old: RigidTransform | None
) -> Int64[Tensor, "N F"]:
    """Flat old voxel of every piece of every new voxel of a slab along x, -1 outside."""
    counts = (slab.stop - slab.start, *new.shape[1:])
    axes = [torch.arange(n * factor).reshape(n, factor) for n in counts]
    axes[0] = axes[0] + slab.start * factor
    x, y, z = (axis.reshape(shape) for axis, shape in zip(axes, _spread(counts, factor), strict=True))
    index = torch.stack(torch.broadcast_tensors(x, y, z), -1).reshape(-1, 3)
    xyz = new.refine(factor).xyz_from_index(index, torch.float64)
    if new_from_old is not None:
        xyz = new_from_old.inverse().apply(xyz)
    flat = torch.full((len(xyz),), -1)
    inside = old.contains(xyz)
    flat[inside] = old.flat_from_index(old.index_from_xyz(xyz[inside]))
    return flat.reshape(-1, factor**3)


def _spread(counts: tuple[int, ...], factor: int) -> list[tuple[int, ...]]:
    """Shapes that put voxel and piece of each axis into their places of (X, Y, Z, piece x, piece y, piece z)."""
    return [tuple(counts[i] if j == i else factor if j == i + 3 else 1 for j in range(6)) for i in range(3)]


def _voted(labels: DenseLabels, source: Int64[Tensor, "N F"], rule: Rule) -> UInt8[Tensor, "N"]:
    """The class of every new voxel; the smaller of those with as many votes."""
    ignore, free = labels.classes.ignore, labels.classes.free
    assert free is not None  # or convert() has refused
    found = labels.label.reshape(-1)[source.clamp_min(0)]
    found[source < 0] = ignore
    best = torch.full((len(source),), ignore, dtype=torch.uint8)
    most = torch.zeros(len(source), dtype=torch.int16)
    for number in torch.bincount(found.reshape(-1), minlength=256).nonzero()[:, 0].tolist():
        if number == ignore or (rule == "any" and number == free):
            continue
        votes = (found == number).sum(1, dtype=torch.int16)
        won = votes > most
        best[won], most[won] = number, votes[won]
    if rule == "any":  # a single occupied piece is enough: free wins only unopposed
        best[(most == 0) & (found == free).any(1)] = free
    return best


def _seen(seen: Bool[Tensor, "x y z"], source: Int64[Tensor, "N F"]) -> Bool[Tensor, "N"]:
    """A new voxel is seen when most of its pieces are."""
    found = (source >= 0) & seen.reshape(-1)[source.clamp_min(0)]
    return 2 * found.sum(1) > source.shape[1]


@dataclass(frozen=True, slots=True)
class _Moved:
    """Occupied voxels of the old grid: how many, and of those whose centre is inside the new one place and class."""

    count: int
    place: Int64[Tensor, "N 3"]
    label: UInt8[Tensor, "N"]


def _moved(old: DenseLabels, grid: VoxelGrid, new_from_old: RigidTransform | None) -> _Moved:
    index = ((old.label != old.classes.free) & (old.label != old.classes.ignore)).nonzero()
    xyz = old.grid.xyz_from_index(index, torch.float64)
    xyz = xyz if new_from_old is None else new_from_old.apply(xyz)
    inside = grid.contains(xyz)
    had = old.label[index[inside, 0], index[inside, 1], index[inside, 2]]
    return _Moved(len(index), grid.index_from_xyz(xyz[inside]), had)


def _keep(label: UInt8[Tensor, "X Y Z"], classes: ClassTable, moved: _Moved) -> None:
    """Give what no piece looked up its class back: between turned grids some centres lie between the pieces."""
    lost = torch.isin(label[tuple(moved.place.T)], torch.tensor([classes.free, classes.ignore], dtype=torch.uint8))
    place, had = moved.place[lost], moved.label[lost].long()
    for number in had.unique().flip(0).tolist():  # the smallest class last: it wins where several lie in one voxel
        label[tuple(place[had == number].T)] = number


def _loss(label: UInt8[Tensor, "X Y Z"], moved: _Moved) -> ConversionLoss:
    got = label[tuple(moved.place.T)]
    return ConversionLoss(moved.count, moved.count - len(moved.label), int((got != moved.label).sum()))
