"""Occupied or free, learnt from LiDAR rays: no label is needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from lexivox.data.labels import occupancy_from_lidar, training_occupancy_dense
from lexivox.data.types import FREE, IGNORED, Batch
from lexivox.model import Scene
from lexivox.ops.losses import cross_entropy, lovasz_softmax, rows_from_volume

OccupancyTarget = Literal["exact", "sampled100", "dense"]


@dataclass(frozen=True, slots=True)
class LidarOccupancy:
    """Cross-entropy + Lovász on the ``occupancy`` head (POP-3D eq. 4).

    Attributes:
        target: ``"exact"`` and ``"sampled100"`` ask only voxels that a ray observed; ``"dense"`` is the published
            target, in which every voxel without a return is free (spec 4.1).
        weight: of both terms.
        lovasz: of the Lovász term, relative.
        unobserved_weight: how much a voxel that no ray observed counts as free. Without it nothing keeps a
            model from filling what nobody sees; the published target is this weight at 1.
    """

    target: OccupancyTarget = "exact"
    weight: float = 1.0
    lovasz: float = 1.0
    unobserved_weight: float = 0.1

    def prepare(self, batch: Batch) -> Batch:
        volumes = [self._target(batch, item) for item in range(batch.size)]
        return replace(batch, targets=replace(batch.targets, occupancy=torch.stack(volumes)))

    def _target(self, batch: Batch, item: int) -> UInt8[Tensor, "X Y Z"]:
        xyz = batch.lidar.xyz[batch.lidar.batch == item]
        if self.target == "dense":
            return training_occupancy_dense(batch.grid, xyz)
        return occupancy_from_lidar(batch.grid, batch.lidar_origin[item], xyz, self.target)

    def __call__(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        assert batch.targets.occupancy is not None, "prepare() fills it"
        logits = rows_from_volume(scene.read_dense("occupancy")).float()
        target = batch.targets.occupancy.flatten().long()
        observed = target != IGNORED
        terms = {
            "occupancy/ce": self.weight * cross_entropy(logits, target, ignore=IGNORED),
            "occupancy/lovasz": self.weight
            * self.lovasz
            * lovasz_softmax(logits[observed].softmax(-1), target[observed], ignore=IGNORED),
        }
        if self.unobserved_weight and not bool(observed.all()):
            unseen = logits[~observed]
            free = torch.full((len(unseen),), FREE, device=unseen.device)
            terms["occupancy/unobserved"] = self.unobserved_weight * cross_entropy(unseen, free, ignore=IGNORED)
        return terms
