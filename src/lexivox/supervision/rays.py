"""Rays of a batch and its neighbouring keyframes: from a sensor to what it saw, chosen for a training step."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.types import IGNORED, Batch, Moment, Rays
from lexivox.errors import ConfigError
from lexivox.geometry.boxes import box_of_points
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.voxelize import scatter_mean
from lexivox.supervision.ray_balance import by_label, draw, draw_shared, even_over_voxels
from lexivox.supervision.ray_geometry import RayGeometry, trace_rays

PUBLISHED_MOVING = (0, 1, 3, 4, 5, 7, 9, 10)
"""Classes whose rays the published filter drops at other keyframes; bicycles and motorcycles are not among them."""

BOX_MARGIN_M = 0.2


@dataclass(frozen=True, slots=True)
class MovingFilter:
    """Which rays of other keyframes are left out because what they hit has moved since, or will have.

    Attributes:
        by: ``"none"``; ``"class"`` = every return of ``labels`` (published); ``"speed"`` = returns in boxes of that
            keyframe that move faster than ``min_speed_mps``, so that parked cars still teach (spec occflownet A17). A
            box of unknown speed counts as moving.
        labels: classes of the table.
        min_speed_mps: metres per second.
    """

    by: Literal["none", "class", "speed"] = "none"
    labels: tuple[int, ...] = PUBLISHED_MOVING
    min_speed_mps: float = 0.5

    def kept(self, moment: Moment) -> Bool[Tensor, "P"]:
        """True for the points of a moment whose rays may teach.

        Raises:
            ConfigError: the batch has no labels, or no boxes, to tell by.
        """
        everything = torch.ones_like(moment.lidar.batch, dtype=torch.bool)
        if self.by == "none" or moment.offset == 0:
            return everything
        if self.by == "class":
            if moment.point_label is None:
                raise _missing("point labels", self.by)
            return ~torch.isin(moment.point_label, torch.tensor(self.labels, device=moment.point_label.device))
        if moment.boxes is None:
            raise _missing("boxes", self.by)
        return ~points_in_moving_boxes(moment, self.min_speed_mps)


def _missing(what: str, by: str) -> ConfigError:
    return ConfigError(
        f"a filter by {by} must have {what}; got none. Open the data set with them, or filter by 'none'."
    )


def points_in_moving_boxes(moment: Moment, min_speed_mps: float) -> Bool[Tensor, "P"]:
    """True for points in boxes of their own keyframe that are faster, or of unknown speed."""
    found = torch.zeros_like(moment.lidar.batch, dtype=torch.bool)
    for item, boxes in enumerate(moment.boxes or ()):
        rows = (moment.lidar.batch == item).nonzero()[:, 0]
        fast = ~(boxes.velocity.norm(dim=-1) <= min_speed_mps)
        held = box_of_points(
            moment.lidar.xyz[rows], boxes.center[fast], boxes.size_m[fast], boxes.yaw_rad[fast], BOX_MARGIN_M
        )
        found[rows] = held >= 0
    return found


@dataclass(frozen=True, slots=True)
class RayChoice:
    """Chooses the rays of a step.

    Attributes:
        geometry: what a ray is.
        horizon: neighbouring keyframes whose rays are taken too; the current one's always are.
        rays_per_sample: so many; 0 = all.
        share_now: at least this share is of the current keyframe, in every sample; None draws from all samples and
            keyframes alike, as published (spec occflownet A10).
        moving: the filter of other keyframes.
        class_weight: loss weight of each class, such as :func:`log_inverse_frequency`; empty = 1.
        class_chance: how eagerly each class is drawn, such as :func:`capped_rarity`; empty = alike.
        even: what rays are drawn evenly over: all rays, or the voxels that hold returns
            (:func:`lexivox.supervision.ray_balance.even_over_voxels`).
        ignore_label: a class that counts as IGNORED; None keeps all ("others" of Occ3D is a class, published).
        features: bring along what the teacher says; it takes time where nobody asks.
    """

    geometry: RayGeometry = field(default_factory=RayGeometry)
    horizon: tuple[int, ...] = ()
    rays_per_sample: int = 8192
    share_now: float | None = 0.3
    moving: MovingFilter = MovingFilter()
    class_weight: tuple[float, ...] = ()
    class_chance: tuple[float, ...] = ()
    even: Literal["rays", "voxels"] = "rays"
    ignore_label: int | None = 0
    features: bool = True

    def of_batch(self, batch: Batch, generator: torch.Generator) -> Rays:
        """The rays of one step, with teacher features where the batch has them (zeros where the teacher says nothing).

        ``weight`` is the class weight, or without labels the balance of the teacher's features.

        Raises:
            ConfigError: the filter has nothing to tell by.
        """
        moments = [moment for moment in (batch.now, *batch.around) if moment.offset in (0, *self.horizon)]
        parts = [self._of_moment(batch.grid, moment) for moment in moments]
        together = _joined([rays for rays, _ in parts])
        first = torch.tensor([0, *(len(rays.batch) for rays, _ in parts)]).cumsum(0)
        rows = self._drawn(together, batch, generator).sort().values  # moments stay together
        chosen, point = _rows_of(together, rows), torch.cat([point for _, point in parts])[rows]
        owner = torch.bucketize(rows, first[1:], right=True)
        if not self.features or all(moment.language is None for moment in moments):
            return chosen
        heard = [_heard(moment, point[owner == number]) for number, moment in enumerate(moments)]
        width = max(feature.shape[1] for feature, _ in heard)
        feature = torch.cat([F.pad(feature, (0, width - feature.shape[1])) for feature, _ in heard])
        weight = torch.cat([weight for _, weight in heard]) if chosen.label is None else chosen.weight
        return replace(chosen, feature=feature, weight=weight)

    def _of_moment(self, grid: VoxelGrid, moment: Moment) -> tuple[Rays, Int64[Tensor, "R"]]:
        kept = self.moving.kept(moment)
        if self.geometry.outside == "drop":
            kept &= grid.contains(moment.lidar.xyz)
        point = kept.nonzero()[:, 0]
        label = None if moment.point_label is None else self._label(grid, moment)
        rays, point = trace_rays(moment, point, self.geometry)
        rays = replace(rays, label=None if label is None else label[point])
        weight = by_label(torch.tensor(self.class_weight or (1.0,)), rays.label, rays.depth_m)
        return replace(rays, weight=weight if self.class_weight else torch.ones_like(weight)), point

    def _label(self, grid: VoxelGrid, moment: Moment) -> Int64[Tensor, "P"]:
        label = moment.point_label
        assert label is not None, "the caller asked"
        if self.ignore_label is not None:
            label = torch.where(label == self.ignore_label, IGNORED, label)
        return torch.where(grid.contains(moment.lidar.xyz), label, IGNORED)

    def _drawn(self, rays: Rays, batch: Batch, generator: torch.Generator) -> Int64[Tensor, "N"]:
        if not self.rays_per_sample:
            return torch.arange(len(rays.batch))
        chance = torch.ones_like(rays.depth_m)
        if self.class_chance:
            chance = by_label(torch.tensor(self.class_chance), rays.label, rays.depth_m)
        if self.even == "voxels":
            chance = chance * even_over_voxels(batch.grid, rays)
        if self.share_now is None:
            return draw(chance, batch.size * self.rays_per_sample, generator)
        own = [rays.batch == item for item in range(batch.size)]
        return torch.cat(
            [
                draw_shared(chance * here, rays.offset == 0, self.rays_per_sample, self.share_now, generator)
                for here in own
            ]
        )


def _joined(parts: list[Rays]) -> Rays:
    """Rays of several moments one after the other; those without labels are IGNORED beside others."""
    if any(rays.label is not None for rays in parts):
        parts = [
            rays if rays.label is not None else replace(rays, label=torch.full_like(rays.batch, IGNORED))
            for rays in parts
        ]
    rows = {part.name: [getattr(rays, part.name) for rays in parts] for part in fields(Rays)}
    return Rays(**{name: torch.cat(values) for name, values in rows.items() if values[0] is not None})


def _rows_of(rays: Rays, rows: Int64[Tensor, "N"]) -> Rays:
    values = {part.name: getattr(rays, part.name) for part in fields(Rays)}
    return Rays(**{name: value[rows] for name, value in values.items() if value is not None})


def _heard(moment: Moment, point: Int64[Tensor, "R"]) -> tuple[Float[Tensor, "R D"], Float[Tensor, "R"]]:
    """Mean feature and weight of the rows that tell of each point; 0 and 1 where none does."""
    language = moment.language
    if language is None or language.point is None:
        return torch.zeros(len(point), 0), torch.ones(len(point))
    told, row = language.point.unique(return_inverse=True)
    feature = scatter_mean(language.feature, row, len(told))
    weight = scatter_mean(language.weight[:, None], row, len(told))[:, 0]
    silent, beyond = feature.new_zeros(1, feature.shape[1]), told.new_full((1,), -1)
    place = torch.searchsorted(told, point)
    place = torch.where(torch.cat([told, beyond])[place] == point, place, len(told))  # the last row is silence
    return torch.cat([feature, silent])[place], torch.cat([weight, weight.new_ones(1)])[place]
