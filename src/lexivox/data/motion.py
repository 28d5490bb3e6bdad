"""Where the matter that was at a place at another keyframe is now: rigid motion of upright boxes.

The inverse warp of spec occflownet 3.5: places are moved, never volumes. A place at keyframe s is asked for the box
that held it *then*, and otherwise for a box that holds it *now* and had not come yet.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.sample import Movable
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.voxelize import cells_of_boxes

UNLABELLED = 255
"""Of a place that no box decides about (IGNORED of ``data.types``)."""


@dataclass(frozen=True, slots=True)
class Moved(Movable):
    """Answers about places at other keyframes.

    Attributes:
        xyz: where the matter of the place is now; the place itself where nothing moved.
        is_moved: it rode in a box.
        is_vacant: what stands there now had not come, or was gone, then: the place was free of it.
        is_unknown: it rode in a box that is nowhere now, or that is outside the grid: nothing can be said.
        box_label: class of the box that decided, UNLABELLED where none did.
    """

    xyz: Float[Tensor, "P 3"]
    is_moved: Bool[Tensor, "P"]
    is_vacant: Bool[Tensor, "P"]
    is_unknown: Bool[Tensor, "P"]
    box_label: Int64[Tensor, "P"]


@dataclass(frozen=True, slots=True)
class BoxPairs(Movable):
    """Boxes of moving objects at another keyframe (then) and at the current one (now), in the grid's frame.

    Attributes:
        group: sample times number of offsets, plus place of the offset.
        center_then, yaw_then, center_now, yaw_now: poses.
        half_m: half of length, width and height, without a margin.
        label: class.
        has_then, has_now: False where the object has no box at that keyframe; its pose there means nothing.
    """

    group: Int64[Tensor, "N"]
    center_then: Float[Tensor, "N 3"]
    yaw_then: Float[Tensor, "N"]
    center_now: Float[Tensor, "N 3"]
    yaw_now: Float[Tensor, "N"]
    half_m: Float[Tensor, "N 3"]
    label: Int64[Tensor, "N"]
    has_then: Bool[Tensor, "N"]
    has_now: Bool[Tensor, "N"]

    def rows(self, chosen: Tensor) -> BoxPairs:
        return BoxPairs(*(getattr(self, part.name)[chosen] for part in fields(self)))

    @classmethod
    def join(cls, parts: list[BoxPairs]) -> BoxPairs:
        return cls(*(torch.cat([getattr(part, name.name) for part in parts]) for name in fields(cls)))

    def move(self, row: Int64[Tensor, "P"], xyz: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
        """Points that ride in boxes then, carried to where those boxes are now."""
        turn = self.yaw_now[row] - self.yaw_then[row]
        return turned(xyz - self.center_then[row], turn) + self.center_now[row]


def turned(xyz: Float[Tensor, "P 3"], yaw_rad: Float[Tensor, "P"]) -> Float[Tensor, "P 3"]:
    """Each point turned about z by an angle of its own."""
    c, s = yaw_rad.cos(), yaw_rad.sin()
    x, y, z = xyz.unbind(-1)
    return torch.stack([c * x - s * y, s * x + c * y, z], -1)


@dataclass(frozen=True, slots=True)
class BoxFinder(Movable):
    """Finds the box that holds a point, in a time that does not grow with the number of boxes.

    Attributes:
        cells: coarse cells over the grid.
        first, count: for every group and cell, where its candidates begin in ``box`` and how many there are.
        box: candidates of all cells, rows of the pairs.
        most: the largest count.
        center, yaw: poses of the pairs at the keyframe that is asked.
        upper_m, lower_m: the enlarged box reaches from ``-lower_m`` to ``upper_m`` along its own axes.
    """

    cells: VoxelGrid
    first: Int64[Tensor, "G"]
    count: Int64[Tensor, "G"]
    box: Int64[Tensor, "M"]
    most: int
    center: Float[Tensor, "N 3"]
    yaw: Float[Tensor, "N"]
    upper_m: Float[Tensor, "N 3"]
    lower_m: Float[Tensor, "N 3"]

    def cell(self, xyz: Float[Tensor, "P 3"], group: Int64[Tensor, "P"]) -> Int64[Tensor, "P"]:
        """Number of the group's cell that holds each point; -1 outside the grid and for a group of -1."""
        index = self.cells.index_from_xyz(xyz)
        inside = self.cells.contains_index(index) & (group >= 0)
        return torch.where(inside, group * self.cells.num_voxels + self.cells.flat_from_index(index), -1)

    def __call__(self, xyz: Float[Tensor, "P 3"], cell: Int64[Tensor, "P"]) -> Int64[Tensor, "P"]:
        """Row of the box that holds each point, given its cell; the nearest centre's where several do, -1 for none."""
        found = torch.full_like(cell, -1)
        asked = ((cell >= 0) & (self.count[cell] > 0)).nonzero()[:, 0]
        xyz, cell = xyz[asked], cell[asked]
        nearest = torch.full((len(asked),), torch.inf, dtype=xyz.dtype, device=xyz.device)
        for number in range(self.most):
            here = (self.count[cell] > number).nonzero()[:, 0]
            row = self.box[self.first[cell[here]] + number]
            own = turned(xyz[here] - self.center[row], -self.yaw[row])
            holds = ((own <= self.upper_m[row]) & (own >= -self.lower_m[row])).all(-1)
            distance = own.square().sum(-1)
            better = holds & (distance < nearest[here])
            nearest[here[better]], found[asked[here[better]]] = distance[better], row[better]
        return found


CELL_M = 2.0

GROUND_M = 0.15
"""The lowest part of a box stays behind: what lies there is the ground that it drives on."""


def box_finder(grid: VoxelGrid, num_groups: int, pairs: BoxPairs, is_now: bool, margin_m: float) -> BoxFinder:
    """A finder of the boxes now, or then, enlarged but at their lower side, which is cut off above the ground."""
    has, center, yaw = (
        (pairs.has_now, pairs.center_now, pairs.yaw_now)
        if is_now
        else (pairs.has_then, pairs.center_then, pairs.yaw_then)
    )
    extent = [high - low for low, high in zip(grid.lower_m, grid.upper_m, strict=True)]
    shape = tuple(max(int(-(-length // CELL_M)), 1) for length in extent)
    cells = VoxelGrid(grid.lower_m, (CELL_M,) * 3, shape, grid.frame)  # type: ignore[arg-type]
    upper = pairs.half_m + margin_m
    rows = has.nonzero()[:, 0]
    cell, row = cells_of_boxes(cells, center[rows], upper[rows], yaw[rows])
    row = rows[row]
    key = pairs.group[row] * cells.num_voxels + cell
    count = torch.bincount(key, minlength=num_groups * cells.num_voxels)
    return BoxFinder(
        cells=cells,
        first=count.cumsum(0) - count,
        count=count,
        box=row[key.argsort(stable=True)],
        most=int(count.max()) if len(key) else 0,
        center=center,
        yaw=yaw,
        upper_m=upper,
        lower_m=torch.cat([upper[:, :2], pairs.half_m[:, 2:] - GROUND_M], -1),
    )


@dataclass(frozen=True, slots=True)
class Motion(Movable):
    """What moved between the current keyframe and its neighbours.

    Attributes:
        grid: of the batch.
        offsets: the neighbours, in keyframes, ascending.
        pairs: boxes of moving objects.
        then, now: finders of them.
    """

    grid: VoxelGrid
    offsets: Int64[Tensor, "K"]
    pairs: BoxPairs
    then: BoxFinder
    now: BoxFinder

    @classmethod
    def of_pairs(
        cls, grid: VoxelGrid, offsets: tuple[int, ...], batch_size: int, pairs: BoxPairs, margin_m: float
    ) -> Motion:
        groups = max(batch_size * len(offsets), 1)
        finders = [box_finder(grid, groups, pairs, is_now, margin_m) for is_now in (False, True)]
        return cls(grid, torch.tensor(offsets, dtype=torch.int64), pairs, *finders)

    def group(self, batch: Int64[Tensor, "P"], offset: Int64[Tensor, "P"]) -> Int64[Tensor, "P"]:
        """Group of a sample at a keyframe; -1 where that keyframe is the current one or not among the neighbours."""
        if not len(self.offsets):
            return torch.full_like(batch, -1)
        slot = torch.searchsorted(self.offsets, offset).clamp_max(len(self.offsets) - 1)
        return torch.where(self.offsets[slot] == offset, batch * len(self.offsets) + slot, -1)

    def to_now(self, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"], offset: Int64[Tensor, "P"]) -> Moved:
        """For places at keyframes ``offset``: where the matter that was there is now.

        Args:
            xyz: places in the grid's frame.
            batch: sample of each.
            offset: keyframe of each, as in ``Rays``; at the current one nothing moves.
        """
        cell = self.then.cell(xyz, self.group(batch, offset))
        held_then = self.then(xyz, cell)
        rode = held_then >= 0
        held_now = self.now(xyz, torch.where(rode, -1, cell))
        label = torch.full_like(batch, UNLABELLED)
        place, is_moved, is_unknown = xyz.clone(), torch.zeros_like(rode), torch.zeros_like(rode)
        riders = rode.nonzero()[:, 0]
        row = held_then[riders]
        arrived = self.pairs.move(row, xyz[riders])
        is_known = self.pairs.has_now[row] & self.grid.contains(arrived)
        place[riders[is_known]] = arrived[is_known]
        is_moved[riders[is_known]], is_unknown[riders[~is_known]] = True, True
        is_vacant = held_now >= 0
        label[riders] = self.pairs.label[row]
        label[is_vacant] = self.pairs.label[held_now[is_vacant]]
        return Moved(place, is_moved, is_vacant, is_unknown, label)
