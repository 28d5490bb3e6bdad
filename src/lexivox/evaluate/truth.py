"""What a keyframe is scored against: its LiDAR points, who sees them, and voxels as rays and labels tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.collate import grid_from_lidar
from lexivox.data.types import IGNORED, Sample
from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.protocol import Outside, PointSet, Pop3dProtocol
from lexivox.evaluate.voxel_truth import VoxelMaker, VoxelTruth
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.voxelize import clamp_to_grid
from lexivox.supervision.targets import project_lidar

LAST_PX = 1.0
"""On the high side the published visibility leaves out the last row and column (spec pop3d 1.6)."""


@dataclass(frozen=True, slots=True)
class Points:
    """Where a method is asked about a sweep.

    Attributes:
        index: points of the sweep.
        xyz: metres in the frame of the grid, perhaps moved onto its border.
        view: the camera that each row is seen by; ``None`` where a point is asked once for all cameras.
    """

    index: Int64[Tensor, "P"]
    xyz: Float[Tensor, "P 3"]
    view: Int64[Tensor, "P"] | None = None

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True)
class SweepPoints:
    """All points of a sweep and who sees them.

    Attributes:
        grid: whose frame ``xyz`` is in.
        xyz: metres.
        visible: True where a camera sees the point.
        visible_published: the same without the last row and column of pixels.
    """

    grid: VoxelGrid
    xyz: Float[Tensor, "P 3"]
    visible: Bool[Tensor, "V P"]
    visible_published: Bool[Tensor, "V P"]

    def points(self, which: Literal["all"] | PointSet, outside: Outside) -> Points:
        """All points, those seen, or those seen with one row for each camera (cameras first, then points)."""
        view = None
        if which == "all":
            index = torch.arange(len(self.xyz))
        elif which == "unique":
            index = self.visible.any(dim=0).nonzero()[:, 0]
        else:
            view, index = self.visible_published.nonzero().unbind(dim=1)
        return self._placed(index, view, outside)

    def _placed(self, index: Int64[Tensor, "P"], view: Int64[Tensor, "P"] | None, outside: Outside) -> Points:
        xyz = self.xyz[index]
        if outside == "clamp":
            xyz = clamp_to_grid(self.grid, xyz).to(xyz.dtype)
        elif outside == "drop":
            kept = self.grid.contains(xyz)
            index, xyz, view = index[kept], xyz[kept], None if view is None else view[kept]
        return Points(index, xyz, view)


def sweep_points(sample: Sample, grid: VoxelGrid) -> SweepPoints:
    """The sweep of a keyframe in the frame of a grid."""
    uv, visible = project_lidar(sample)
    size = torch.tensor([[view.image_hw[1], view.image_hw[0]] for view in sample.views]).reshape(-1, 1, 2)
    inside = (uv < size - LAST_PX).all(dim=-1)
    return SweepPoints(grid, grid_from_lidar(sample, grid).apply(sample.lidar.xyz), visible, visible & inside)


@dataclass(frozen=True, slots=True)
class Truth:
    """A keyframe as LiDAR and labels tell it.

    Attributes:
        sweep: its points.
        label: class of every point.
        voxels: by :attr:`Pop3dProtocol.occupancy`.
        observed: True where a ray passed or ended, exactly traversed.
        complete: True where something is, as only a simulator knows; ``None`` elsewhere.
    """

    sweep: SweepPoints
    label: Int64[Tensor, "P"]
    voxels: Mapping[str, VoxelTruth]
    observed: Bool[Tensor, "X Y Z"]
    complete: Bool[Tensor, "X Y Z"] | None


def truth_of(
    sample: Sample,
    grid: VoxelGrid,
    table: ClassTable,
    protocols: Sequence[Pop3dProtocol] = (Pop3dProtocol(),),
    sweep: SweepPoints | None = None,
) -> Truth:
    """Args:
        sweep: the keyframe's, where it is known already.

    Raises:
        DataError: the sample has no labels.
        ShapeError: its voxel labels are in another frame than the grid.
    """
    if sample.point_labels is None:
        raise DataError(f"samples must have point labels to be scored; got none in {sample.token}. Open the labels.")
    label, sweep = sample.point_labels.label, sweep or sweep_points(sample, grid)
    origin = grid_from_lidar(sample, grid).translation.float()
    maker = VoxelMaker.of(grid, table, origin, sweep.xyz, label)
    voxels = {protocol.occupancy: maker.make(protocol) for protocol in protocols}
    return Truth(sweep, label, voxels, maker.reached != IGNORED, _complete(sample, grid))


def _complete(sample: Sample, grid: VoxelGrid) -> Bool[Tensor, "X Y Z"] | None:
    complete = sample.voxel_labels
    if complete is None:
        return None
    if complete.grid.frame != grid.frame:
        raise ShapeError(
            f"voxel labels must be in the frame of the grid, '{grid.frame}'; got '{complete.grid.frame}' in "
            f"{sample.token}. Set grid.frame, or make the labels again for this grid."
        )
    return complete.label != complete.free_label if complete.grid == grid else None
