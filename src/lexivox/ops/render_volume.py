"""Whole volumes seen along rays: walk, weigh, add up. The three steps in one call, for pictures and for scoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.errors import ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.render import (
    Background,
    Density,
    Weights,
    composite,
    extinction_from_opacity,
    render_depth,
    render_weights,
)
from lexivox.ops.sampling import table_from_maps
from lexivox.ops.walk import Segments, walk


@dataclass(frozen=True, slots=True)
class Rendered:
    """What rays see.

    Attributes:
        depth_m: expected distance along each ray.
        features: weighted sums (R, C) of each volume, by its name.
        weights: where the rays end.
        segments: the pieces of rays that the weights belong to.
    """

    depth_m: Float[Tensor, "R"]
    features: dict[str, Tensor]
    weights: Weights
    segments: Segments

    @property
    def opacity(self) -> Float[Tensor, "R"]:
        """Share of each ray that something stops."""
        return self.weights.opacity


def render_volume(
    grid: VoxelGrid,
    opacity: Float[Tensor, "B X Y Z"],
    volumes: Mapping[str, Tensor],
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    batch: Int64[Tensor, "R"],
    far_m: Float[Tensor, "R"] | float = torch.inf,
    *,
    density: Density = "voxel_alpha",
    background: Background | float = "exit",
    eps: float = 1e-4,
) -> Rendered:
    """Depth, opacity and features along rays through volumes of one grid; differentiable in all volumes.

    Args:
        opacity: probabilities; :data:`~lexivox.ops.render.Density` says what they mean. Voxels must be cubes.
        volumes: ``(B, C, X, Y, Z)`` each.
        origins, directions: metres of the grid's frame.
        batch: the sample that each ray looks at.
        far_m: rays end there.
        eps: features of segments with less weight are left out.

    Raises:
        ShapeError: a volume does not fit the grid.
    """
    for name, volume in {"opacity": opacity, **volumes}.items():
        if tuple(volume.shape[-3:]) != grid.shape or len(volume) != len(opacity):
            raise ShapeError(
                f"{name} must cover {len(opacity)} samples of a grid of {grid.shape} voxels; got "
                f"{tuple(volume.shape)}. Render each grid on its own."
            )
    segments = walk(grid, origins, directions, far_m)
    row = segments.rows(batch * grid.num_voxels)
    # Turned to extinction before the reading: each voxel is read by many rays.
    extinction = extinction_from_opacity(opacity.flatten(), edge_m(grid), density)
    weights = render_weights(extinction[row], segments)
    depth_m = render_depth(weights, segments, background)
    features = {
        name: composite(weights.weight, row, table_from_maps(volume), segments, eps) for name, volume in volumes.items()
    }
    return Rendered(depth_m, features, weights, segments)


def edge_m(grid: VoxelGrid) -> float:
    """The edge of a cube as large as a voxel."""
    return grid.voxel_m3 ** (1.0 / 3.0)


def without_classes(
    extinction: Float[Tensor, "B X Y Z"], logits: Float[Tensor, "B K X Y Z"], classes: Int64[Tensor, "M"]
) -> Float[Tensor, "B X Y Z"]:
    """Extinction with the voxels that look like one of some classes made transparent (spec 3.2, second half).

    What remains keeps its gradient; the logits get none.
    """
    is_out = torch.isin(logits.detach().argmax(dim=1), classes)
    return extinction.masked_fill(is_out, 0.0)
