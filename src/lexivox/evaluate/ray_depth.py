"""Depth that a map gives along LiDAR rays, against the LiDAR: :class:`DepthProtocol`. No label is needed.

*Rendered*: the expected distance when every voxel stops the share of light that its probability says, exactly
integrated. *First*: the middle of the first voxel that the map calls occupied. Where nothing stops a ray, both are
where it leaves the grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lexivox.data.collate import grid_from_lidar
from lexivox.data.types import Sample
from lexivox.evaluate.depth import DepthScore
from lexivox.evaluate.methods import Answer
from lexivox.evaluate.metric import Metric
from lexivox.evaluate.protocol import DepthProtocol
from lexivox.evaluate.truth import SweepPoints
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.first_hit import cast
from lexivox.ops.render_volume import render_volume


def depth_metrics(protocol: DepthProtocol) -> list[Metric]:
    """Empty scores."""
    return [DepthScore(protocol.min_depth_m, protocol.max_depth_m, name.partition("/")[0]) for name in protocol.scores]


@dataclass(frozen=True, slots=True)
class LidarRays:
    """From the LiDAR to the returns that count, in metres of the grid's frame; directions are unit vectors."""

    origin: Float[Tensor, "3"]
    directions: Float[Tensor, "R 3"]
    depth_m: Float[Tensor, "R"]


def lidar_rays(sample: Sample, sweep: SweepPoints) -> LidarRays:
    """Rays to the returns inside the grid that a camera sees."""
    origin = grid_from_lidar(sample, sweep.grid).translation.double()
    xyz = sweep.points("unique", "drop").xyz.double()
    depth_m = (xyz - origin).norm(dim=-1)
    kept = depth_m > 0
    return LidarRays(origin, ((xyz - origin)[kept] / depth_m[kept, None]), depth_m[kept])


def rendered_depth(grid: VoxelGrid, opacity: Float[Tensor, "X Y Z"], rays: LidarRays) -> Float[Tensor, "R"]:
    """Expected distance along each ray, where ``opacity`` is the probability that a voxel stops it."""
    count = len(rays.directions)
    seen = render_volume(
        grid,
        opacity[None].float(),
        {},
        rays.origin.float().expand(count, 3),
        rays.directions.float(),
        torch.zeros(count, dtype=torch.int64),
    )
    return seen.depth_m


def first_depth(
    grid: VoxelGrid, opacity: Float[Tensor, "X Y Z"], threshold: float, rays: LidarRays
) -> Float[Tensor, "R"]:
    """Distance to the middle of the ray's way through the first voxel above the threshold."""
    hits = cast(grid, opacity > threshold, rays.origin, rays.directions)
    return 0.5 * (hits.enter_m + hits.leave_m)


class DepthJudge:
    """Asks how far a map lets LiDAR rays go and counts it under a :class:`DepthProtocol`."""

    def __init__(self, protocol: DepthProtocol, grid: VoxelGrid) -> None:
        self.protocol, self.grid = protocol, grid
        self.empty: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()

    def ask(self, index: int, sample: Sample, sweep: SweepPoints) -> LidarRays:
        return lidar_rays(sample, sweep)

    def add(self, metrics: Mapping[str, Metric], name: str, answer: Answer, question: LidarRays, token: str) -> None:
        """Count the answer of a method; one without a map has no scores here."""
        solid = answer.solid()
        if solid is None:
            return
        opacity, threshold = solid
        depths = (rendered_depth(self.grid, opacity, question), first_depth(self.grid, opacity, threshold, question))
        for name, depth_m in zip(self.protocol.scores, depths, strict=True):
            metric = metrics[name]
            assert isinstance(metric, DepthScore)
            metric.update(depth_m.double(), question.depth_m, token=token)
