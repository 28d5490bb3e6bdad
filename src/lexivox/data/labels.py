"""What a LiDAR sweep says about a grid: occupied where a ray ends, free where it passes, else ignored."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from lexivox.data.types import FREE, IGNORED, OCCUPIED
from lexivox.errors import ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.voxelize import clamp_to_grid, majority_label, voxels_of_points
from lexivox.ops.traversal import mark_free, mark_sampled

RayProtocol = Literal["exact", "sampled100"]
"""What rays free: every voxel they pass, or those of 100 samples towards each return inside the grid."""

Border = Literal["clamp", "drop"]
"""Points outside a grid: moved onto its border voxels, as POP-3D trains, or left out."""


def occupancy_from_lidar(
    grid: VoxelGrid,
    origins: Float[Tensor, "P 3"] | Float[Tensor, "3"],
    xyz: Float[Tensor, "P 3"],
    protocol: RayProtocol = "exact",
) -> UInt8[Tensor, "X Y Z"]:
    """FREE, OCCUPIED or IGNORED for every voxel; occupied wins over free.

    With ``"exact"`` returns outside the grid still free what their rays pass inside. NaN and infinite points
    are dropped; an empty sweep gives an all-ignored volume.

    Args:
        origins: where the rays start, in metres of the grid's frame: one for all or one per point.
        xyz: the returns, in the same frame.
    """
    volume = _free_volume(grid, origins, xyz, protocol, FREE)
    if protocol == "sampled100":
        xyz = xyz[_is_strictly_inside(grid, xyz)]
    _, flat = voxels_of_points(grid, xyz)
    volume.view(-1)[flat] = OCCUPIED
    return volume


def semantic_from_lidar(
    grid: VoxelGrid,
    origins: Float[Tensor, "P 3"] | Float[Tensor, "3"],
    xyz: Float[Tensor, "P 3"],
    label: Int64[Tensor, "P"],
    *,
    num_classes: int,
    free_label: int,
    protocol: RayProtocol = "sampled100",
) -> UInt8[Tensor, "X Y Z"]:
    """The evaluation truth of POP-3D (spec 7.1): class of occupied voxels, ``free_label``, or 255 = ignored.

    A voxel takes the label of most of its returns, the smallest on a tie. Label 0 (noise) votes as 255, after
    all classes: where noise wins the voxel is ignored, even if another ray passes through it.

    Args:
        label: 0..num_classes - 1 per point; 0 or 255 for noise.
        protocol: ``"sampled100"`` for published numbers, ``"exact"`` for every voxel a ray passes.

    Raises:
        ShapeError: a label outside that range.
    """
    volume = _free_volume(grid, origins, xyz, protocol, free_label)
    noise = num_classes
    votes = torch.where((label == 0) | (label == IGNORED), noise, label)
    if protocol == "sampled100":
        kept = _is_strictly_inside(grid, xyz)
        xyz, votes = xyz[kept], votes[kept]
    index, winner = majority_label(grid, xyz, votes, num_classes + 1)
    volume[tuple(index.unbind(-1))] = torch.where(winner == noise, IGNORED, winner).to(torch.uint8)
    return volume


def training_occupancy_dense(
    grid: VoxelGrid, xyz: Float[Tensor, "P 3"], border: Border = "clamp"
) -> UInt8[Tensor, "X Y Z"]:
    """The training target POP-3D published (spec 4.1): OCCUPIED where a point lies, FREE everywhere else."""
    _, flat = voxels_of_points(grid, _placed(grid, xyz, border))
    volume = torch.full(grid.shape, FREE, dtype=torch.uint8, device=xyz.device)
    volume.view(-1)[flat] = OCCUPIED
    return volume


def training_semantic_dense(
    grid: VoxelGrid,
    xyz: Float[Tensor, "P 3"],
    label: Int64[Tensor, "P"],
    *,
    num_classes: int,
    free_label: int,
    border: Border = "clamp",
) -> UInt8[Tensor, "X Y Z"]:
    """Majority class of every voxel that holds points, noise (0) included, ``free_label`` everywhere else.

    With ``"clamp"`` it is the volume from which POP-3D's class-agnostic score restores noise as occupied.
    """
    index, winner = majority_label(grid, _placed(grid, xyz, border), label, num_classes)
    volume = torch.full(grid.shape, free_label, dtype=torch.uint8, device=xyz.device)
    volume[tuple(index.unbind(-1))] = winner.to(torch.uint8)
    return volume


def _free_volume(
    grid: VoxelGrid,
    origins: Float[Tensor, "P 3"] | Float[Tensor, "3"],
    xyz: Float[Tensor, "P 3"],
    protocol: RayProtocol,
    free_value: int,
) -> UInt8[Tensor, "X Y Z"]:
    if protocol == "exact":
        free = mark_free(grid, origins, xyz)
    elif protocol == "sampled100":
        kept = _is_strictly_inside(grid, xyz)
        free = mark_sampled(grid, origins if origins.ndim == 1 else origins[kept], xyz[kept])
    else:
        raise ShapeError(f"protocol must be 'exact' or 'sampled100'; got {protocol!r}.")
    # Arithmetic on bytes: a masked fill of the volume takes longer than the traversal itself.
    return IGNORED - free.to(torch.uint8) * (IGNORED - free_value)


def _is_strictly_inside(grid: VoxelGrid, xyz: Float[Tensor, "P 3"]) -> Bool[Tensor, "P"]:
    """The published test: a point on the lower border does not count; never true for a NaN."""
    xyz = xyz.to(torch.float64)
    lower, upper = xyz.new_tensor(grid.lower_m), xyz.new_tensor(grid.upper_m)
    return ((xyz > lower) & (xyz < upper)).all(dim=-1)


def _placed(grid: VoxelGrid, xyz: Float[Tensor, "P 3"], border: Border) -> Float[Tensor, "P 3"]:
    if border == "drop":
        return xyz
    if border == "clamp":
        is_real = xyz.isfinite().all(dim=-1, keepdim=True)
        return torch.where(is_real, clamp_to_grid(grid, xyz), torch.nan)
    raise ShapeError(f"border must be 'clamp' or 'drop'; got {border!r}.")
