"""Occupied or free, learnt from LiDAR rays: no label is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lexivox.data.labels import Border, occupancy_from_lidar, training_occupancy_dense
from lexivox.data.types import FREE, OCCUPIED, Batch, LabelledPoints, LanguageTargets, Targets
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
        occupied_weight: of an occupied voxel beside a free one in the cross-entropy (spec 4.2 allows for it). IoU is
            best when voxels are called occupied well below an even chance, which weight 1 aims at.
        outside: points outside the grid in the ``"dense"`` target: ``"clamp"`` is published (erratum 6) and marks
            border voxels occupied by what lies beyond them; ``"drop"`` does not.
        enet_share: weigh classes by ENet's 1 / ln(1.02 + share), this being the share of occupied voxels; 0 = off, as
            published (erratum 28): the file of weights was never released and the launch script switches it off.
        balance: occupied voxels weigh ``w ** balance`` times more, w being the mean weight of the teacher's points
            inside: what it sees rarely (people, poles) counts more, and no label is needed to know it. 0 = off.
    """

    target: OccupancyTarget = "exact"
    weight: float = 1.0
    lovasz: float = 1.0
    unobserved_weight: float = 0.1
    max_voxels: int = 0
    occupied_weight: float = 1.0
    outside: Border = "clamp"
    enet_share: float = 0.0
    balance: float = 0.0

    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        volumes = [self._target(batch, item) for item in range(batch.size)]
        chosen = choose_voxels(batch, volumes, self.max_voxels, generator)
        chosen = replace(chosen, weight=self._weights(batch, chosen))
        return replace(batch, targets=Targets(occupancy=chosen))

    def _target(self, batch: Batch, item: int) -> UInt8[Tensor, "X Y Z"]:
        xyz = batch.lidar.xyz[batch.lidar.batch == item]
        if self.target == "dense":
            return training_occupancy_dense(batch.grid, xyz, self.outside)
        return occupancy_from_lidar(batch.grid, batch.lidar_origin[item], xyz, self.target)

    def _weights(self, batch: Batch, chosen: LabelledPoints) -> Float[Tensor, "N"]:
        free, occupied = enet_weights(self.enet_share) if self.enet_share else (1.0, 1.0)
        own = torch.full((len(chosen.label),), occupied * self.occupied_weight)
        if self.balance and batch.targets.language is not None:
            own = own * self._rarity(batch, batch.targets.language, chosen) ** self.balance
        return torch.where(chosen.label == OCCUPIED, own, free)

    def _rarity(self, batch: Batch, language: LanguageTargets, chosen: LabelledPoints) -> Float[Tensor, "N"]:
        """Mean weight of the teacher's points in every chosen voxel; 1 where there are none."""
        grid, voxels = batch.grid, batch.grid.num_voxels
        inside = grid.contains(language.xyz)
        rows = grid.flat_from_index(grid.index_from_xyz(language.xyz[inside])) + voxels * language.batch[inside]
        total = torch.zeros(batch.size * voxels).index_add_(0, rows, language.weight[inside])
        count = torch.zeros(batch.size * voxels).index_add_(0, rows, torch.ones(len(rows)))
        mean = torch.where(count > 0, total / count.clamp_min(1.0), 1.0)
        return mean[grid.flat_from_index(grid.index_from_xyz(chosen.xyz)) + voxels * chosen.batch]

    def __call__(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        target = batch.targets.occupancy
        assert target is not None, "prepare() fills it"
        logit = scene.read("occupancy", target.xyz, target.batch).float()
        ce, lovasz = class_terms(logit, target, self.lovasz)
        unobserved = self.unobserved_weight * unobserved_term(logit, target.label, FREE)
        return {
            "occupancy/ce": self.weight * ce,
            "occupancy/lovasz": self.weight * lovasz,
            "occupancy/unobserved": self.weight * unobserved,
        }


def enet_weights(occupied_share: float) -> tuple[float, float]:
    """Weights of free and occupied voxels, 1 / ln(1.02 + share of the class) (Paszke et al. 2016; spec 4.2)."""
    return 1.0 / math.log(2.02 - occupied_share), 1.0 / math.log(1.02 + occupied_share)
