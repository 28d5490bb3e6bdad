"""Ways to read a volume: 48 orders and directions of its axes, two frames, half a voxel this way or that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

from jaxtyping import Int64, Shaped
from torch import Tensor

from lexivox.geometry.grid import GridFrame, VoxelGrid

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

    def of(self, grid: VoxelGrid) -> VoxelGrid:
        """The grid in the frame and with the shift of the reading."""
        x, y, z = (lo + s * size for lo, s, size in zip(grid.lower_m, self.shift, grid.voxel_size_m, strict=True))
        return replace(grid, lower_m=(x, y, z), frame=self.frame)

    def moved(self, axis: int, half: float) -> Reading:
        """The same with another shift along an axis."""
        shift = [*self.shift]
        shift[axis] = half
        return replace(self, shift=(shift[0], shift[1], shift[2]))

    def apply(self, volume: Shaped[Tensor, "_ _ _"]) -> Shaped[Tensor, "_ _ _"]:
        """The volume in the axes of the grid."""
        return volume.permute(self.order).flip([axis for axis in range(3) if self.flipped[axis]])

    def pick(self, volume: Shaped[Tensor, "_ _ _"], index: Int64[Tensor, "N 3"]) -> Shaped[Tensor, "N"]:
        """``apply(volume)`` at voxels of the grid, without moving the volume."""
        shape = [volume.shape[axis] for axis in self.order]
        place = [shape[k] - 1 - index[:, k] if self.flipped[k] else index[:, k] for k in range(3)]
        x, y, z = (place[self.order.index(axis)] for axis in range(3))
        return volume[x, y, z]

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


def orders(shape: Sequence[int], wanted: Sequence[int], frame: GridFrame) -> Iterator[Reading]:
    """Every signed order of the axes of a file that gives a volume the wanted shape."""
    for order in permutations(range(3)):
        if tuple(shape[axis] for axis in order) == tuple(wanted):
            for flipped in product((False, True), repeat=3):
                yield Reading(order, flipped, frame=frame)  # type: ignore[arg-type]
