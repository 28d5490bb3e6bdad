"""Occupied or free, learnt from LiDAR rays: no label is needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from lexivox.data.labels import occupancy_from_lidar, training_occupancy_dense
from lexivox.data.types import FREE, Batch
from lexivox.model import Scene
from lexivox.supervision.voxels import choose_voxels, class_terms, unobserved_term

OccupancyTarget = Literal["exact", "sampled100", "dense"]


@dataclass(frozen=True, slots=True)
class LidarOccupancy:
    """Cross-entropy + Lovász on the ``occupancy`` head (POP-3D eq. 4).

    Attributes:
        target: ``"exact"`` and ``"sampled100"`` ask only voxels that a ray observed; ``"dense"`` is the published
            target, in which every voxel without a return is free (spec 4.1).
        weight: of all terms.
        lovasz: of the Lovász term, relative.
        unobserved_weight: how much a voxel that no ray observed counts as free.
        max_voxels: voxels asked per sample and step; 0 = all.
    """

    target: OccupancyTarget = "exact"
    weight: float = 1.0
    lovasz: float = 1.0
    unobserved_weight: float = 0.1
    max_voxels: int = 0

    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        volumes = [self._target(batch, item) for item in range(batch.size)]
        chosen = choose_voxels(batch, volumes, self.max_voxels, generator)
        return replace(batch, targets=replace(batch.targets, occupancy=chosen))

    def _target(self, batch: Batch, item: int) -> UInt8[Tensor, "X Y Z"]:
        xyz = batch.lidar.xyz[batch.lidar.batch == item]
        if self.target == "dense":
            return training_occupancy_dense(batch.grid, xyz)
        return occupancy_from_lidar(batch.grid, batch.lidar_origin[item], xyz, self.target)

    def __call__(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        target = batch.targets.occupancy
        assert target is not None, "prepare() fills it"
        logit = scene.read("occupancy", target.xyz, target.batch).float()
        ce, lovasz = class_terms(logit, target.label, self.lovasz)
        unobserved = self.unobserved_weight * unobserved_term(logit, target.label, FREE)
        return {
            "occupancy/ce": self.weight * ce,
            "occupancy/lovasz": self.weight * lovasz,
            "occupancy/unobserved": self.weight * unobserved,
        }
