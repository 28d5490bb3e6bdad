"""Classes learnt from human labels: the supervised reference that label-free models are measured against."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from lexivox.data.labels import semantic_from_lidar
from lexivox.data.types import IGNORED, Batch, LabelledPoints, Targets
from lexivox.errors import DataError
from lexivox.model import Scene
from lexivox.supervision.voxels import choose_voxels, class_terms, unobserved_term


@dataclass(frozen=True, slots=True)
class LabelledSemantics:
    """Cross-entropy + Lovász on the ``semantic`` head, at voxels and at LiDAR points (spec pop3d 6).

    Attributes:
        num_classes: classes of the table including free.
        free_label: the class that means free.
        ignore_label: the class of noise, which is not learnt.
        weight: of all terms.
        unobserved_weight: how much a voxel that no ray observed counts as free, as for the student.
        max_voxels: voxels asked per sample and step; 0 = all.
        max_points: LiDAR points asked per step; 0 = all.
    """

    num_classes: int
    free_label: int
    ignore_label: int = 0
    weight: float = 1.0
    unobserved_weight: float = 0.1
    max_voxels: int = 0
    max_points: int = 8000

    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        label = batch.targets.point_label
        if label is None:
            raise DataError(
                f"samples must carry point labels for supervised training; got none in {batch.tokens[0]}. "
                "Open the data set with its labels."
            )
        volumes = [self._target(batch, label, item) for item in range(batch.size)]
        chosen = choose_voxels(batch, volumes, self.max_voxels, generator)
        inside = batch.grid.contains(batch.lidar.xyz)
        order = torch.randperm(len(label), generator=generator)
        rows = order[inside[order]][: self.max_points or None]
        points = LabelledPoints(batch.lidar.xyz[rows], batch.lidar.batch[rows], self._without_noise(label[rows]))
        return replace(batch, targets=Targets(semantic=chosen, semantic_points=points))

    def _without_noise(self, label: Tensor) -> Tensor:
        return torch.where(label == self.ignore_label, IGNORED, label)

    def _target(self, batch: Batch, label: Tensor, item: int) -> UInt8[Tensor, "X Y Z"]:
        rows = batch.lidar.batch == item
        return semantic_from_lidar(
            batch.grid,
            batch.lidar_origin[item],
            batch.lidar.xyz[rows],
            label[rows],
            num_classes=self.num_classes,
            free_label=self.free_label,
            protocol="exact",
        )

    def __call__(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        voxels, points = batch.targets.semantic, batch.targets.semantic_points
        assert voxels is not None, "prepare() fills it"
        assert points is not None, "prepare() fills it"
        voxel_logit = scene.read("semantic", voxels.xyz, voxels.batch).float()
        point_logit = scene.read("semantic", points.xyz, points.batch).float()
        voxel_ce, voxel_lovasz = class_terms(voxel_logit, voxels, 1.0)
        point_ce, point_lovasz = class_terms(point_logit, points, 1.0)
        unobserved = unobserved_term(voxel_logit, voxels.label, self.free_label)
        return {
            "semantic/voxel_ce": self.weight * voxel_ce,
            "semantic/voxel_lovasz": self.weight * voxel_lovasz,
            "semantic/point_ce": self.weight * point_ce,
            "semantic/point_lovasz": self.weight * point_lovasz,
            "semantic/unobserved": self.weight * self.unobserved_weight * unobserved,
        }
