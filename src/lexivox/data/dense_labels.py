"""Dense labels of a benchmark: a volume that knows its grid, its classes and who saw it; changing grids."""

from __future__ import annotations

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
        outvoted: of the rest, how many fell into a voxel that got another class.
    """

    occupied: int
    outside: int
    outvoted: int

    def __str__(self) -> str:
        return (
            f"{self.occupied:,} occupied voxels: {self.outside:,} outside the new grid, "
            f"{self.outvoted:,} in a voxel of another class"
        )


Rule = Literal["majority", "any"]
"""``majority``: the class of most old centres in a new voxel, free ones counted. ``any``: free only if all are."""


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
    factor = max(1, *(round(new / old) for new, old in zip(grid.voxel_size_m, labels.grid.voxel_size_m, strict=True)))
    source = _source_voxels(labels.grid, grid.refine(factor), grid_from_labels)
    label = _voted(labels, source, grid, factor, rule)
    masks = {
        name: None if (seen := getattr(labels, name)) is None else _seen(seen, source, grid, factor)
        for name in ("seen_by_lidar", "seen_by_camera")
    }
    new = DenseLabels(grid, labels.classes, label, **masks)
    return new, _loss(labels, new, grid_from_labels)


def _source_voxels(old: VoxelGrid, pieces: VoxelGrid, pieces_from_old: RigidTransform | None) -> Int64[Tensor, "N"]:
    """Flat old voxel of every piece, -1 outside."""
    xyz = pieces.centers(dtype=torch.float64).reshape(-1, 3)
    if pieces_from_old is not None:
        xyz = pieces_from_old.inverse().apply(xyz)
    flat = torch.full((len(xyz),), -1)
    inside = old.contains(xyz)
    flat[inside] = old.flat_from_index(old.index_from_xyz(xyz[inside]))
    return flat


def _pieces(values: Tensor, grid: VoxelGrid, factor: int) -> Tensor:
    """Values of all pieces as (voxels of the grid, pieces of each)."""
    X, Y, Z = grid.shape
    cut = values.reshape(X, factor, Y, factor, Z, factor)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(grid.num_voxels, factor**3)


def _voted(
    labels: DenseLabels, source: Int64[Tensor, "N"], grid: VoxelGrid, factor: int, rule: Rule
) -> UInt8[Tensor, "X Y Z"]:
    ignore, free = labels.classes.ignore, labels.classes.free
    found = torch.where(source >= 0, labels.label.reshape(-1)[source.clamp_min(0)].long(), ignore)
    pieces = _pieces(found, grid, factor)
    votes = torch.zeros(grid.num_voxels, 256, dtype=torch.int16) if factor > 1 else None
    if votes is None:
        return pieces[:, 0].to(torch.uint8).reshape(grid.shape)
    votes.scatter_add_(1, pieces, torch.ones_like(pieces, dtype=torch.int16))
    votes[:, ignore] = 0
    if rule == "any":  # a single occupied piece is enough: free wins only unopposed
        votes[:, free] = votes[:, free].clamp_max(1) * (votes.sum(1) == votes[:, free])
    best = votes.argmax(1)
    return torch.where(votes.sum(1) > 0, best, ignore).to(torch.uint8).reshape(grid.shape)


def _seen(
    seen: Bool[Tensor, "x y z"], source: Int64[Tensor, "N"], grid: VoxelGrid, factor: int
) -> Bool[Tensor, "X Y Z"]:
    """A new voxel is seen when most of its pieces are."""
    found = (source >= 0) & seen.reshape(-1)[source.clamp_min(0)]
    return (_pieces(found, grid, factor).float().mean(1) > 0.5).reshape(grid.shape)


def _loss(old: DenseLabels, new: DenseLabels, new_from_old: RigidTransform | None) -> ConversionLoss:
    index = ((old.label != old.classes.free) & (old.label != old.classes.ignore)).nonzero()
    xyz = old.grid.xyz_from_index(index, torch.float64)
    xyz = xyz if new_from_old is None else new_from_old.apply(xyz)
    inside = new.grid.contains(xyz)
    place = new.grid.index_from_xyz(xyz[inside])
    got = new.label[place[:, 0], place[:, 1], place[:, 2]]
    had = old.label[index[inside, 0], index[inside, 1], index[inside, 2]]
    return ConversionLoss(len(index), int((~inside).sum()), int((got != had).sum()))
