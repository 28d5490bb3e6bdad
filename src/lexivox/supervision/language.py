"""Language features distilled from a frozen teacher at LiDAR points (POP-3D eq. 7)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lexivox.data.types import Batch, LanguageTargets, Targets
from lexivox.errors import ConfigError, DataError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.voxelize import clamp_to_grid, scatter_mean
from lexivox.model import Scene
from lexivox.ops.losses import feature_cosine, feature_mse

Outside = Literal["keep", "clamp", "drop"]
"""Points outside the grid: asked where they are, moved onto its border, or left out."""

LanguageLoss = Literal["cosine", "mse"]


@dataclass(frozen=True, slots=True)
class LanguageDistillation:
    """Pulls the ``language`` head towards the teacher's features, carried by the samples.

    Attributes:
        loss: ``"mse"`` is the published one; ``"cosine"`` asks for the direction only, which is all that a query
            with a unit vector reads.
        weight: of the term at LiDAR points; the paper's lambda.
        voxel_weight: of the same term at the centres of the voxels that hold points, towards their mean feature.
            A map is read at voxel centres, which lie up to half a voxel beside the surface and there appear at other
            pixels than any LiDAR point; taught at points alone the head answers badly there. Not in the paper.
        outside: ``"clamp"`` is published (spec 1.8, erratum 6), so that border voxels hear of everything beyond them;
            ``"drop"`` keeps them clean. ``"keep"`` suits fields that also read pixels, which know no border.
    """

    loss: LanguageLoss = "cosine"
    weight: float = 1.0
    voxel_weight: float = 0.0
    outside: Outside = "keep"

    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        if batch.targets.language is None:
            raise DataError(
                f"samples must carry teacher features for the language loss; got none in {batch.tokens[0]}. "
                "Make targets with the recipe's teacher."
            )
        points = self._placed(batch.grid, batch.targets.language)
        voxels = voxel_means(batch.grid, points, batch.size) if self.voxel_weight else None
        return replace(batch, targets=Targets(language=points, language_voxels=voxels))

    def _placed(self, grid: VoxelGrid, points: LanguageTargets) -> LanguageTargets:
        if self.outside == "clamp":
            return replace(points, xyz=clamp_to_grid(grid, points.xyz).to(points.xyz))
        if self.outside == "drop":
            kept = grid.contains(points.xyz)
            rows = {field.name: getattr(points, field.name) for field in fields(points)}
            return replace(points, **{name: value[kept] for name, value in rows.items() if value is not None})
        return points

    def __call__(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        points, voxels = batch.targets.language, batch.targets.language_voxels
        assert points is not None, "prepare() checks it"
        terms = {"language": self.weight * self._distance(scene, points)}
        if voxels is not None:
            terms["language/voxels"] = self.voxel_weight * self._distance(scene, voxels)
        return terms

    def _distance(self, scene: Scene, target: LanguageTargets) -> Tensor:
        predicted = scene.read("language", target.xyz, target.batch).float()
        if predicted.shape[1] != target.feature.shape[1]:
            raise ConfigError(
                f"language head must have the teacher's {target.feature.shape[1]} channels; got {predicted.shape[1]}. "
                "Build the model for this teacher, or make targets with the model's own."
            )
        distance = feature_cosine if self.loss == "cosine" else feature_mse
        return distance(predicted, target.feature, target.weight)


def voxel_means(grid: VoxelGrid, points: LanguageTargets, batch_size: int) -> LanguageTargets:
    """One row per voxel that holds points: its centre, their mean feature made unit, their mean weight."""
    inside = grid.contains(points.xyz)
    flat = grid.flat_from_index(grid.index_from_xyz(points.xyz[inside]))
    voxel, row = torch.unique(flat + grid.num_voxels * points.batch[inside], return_inverse=True)
    return LanguageTargets(
        xyz=grid.xyz_from_index(grid.index_from_flat(voxel % grid.num_voxels)),
        batch=voxel // grid.num_voxels,
        feature=F.normalize(scatter_mean(points.feature[inside], row, len(voxel)), dim=-1),
        weight=scatter_mean(points.weight[inside, None], row, len(voxel))[:, 0],
    )
