"""Classes learnt from human labels: the supervised reference that label-free models are measured against."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from lexivox.data.labels import semantic_from_lidar
from lexivox.data.types import IGNORED, Batch
from lexivox.errors import DataError
from lexivox.model import Scene
from lexivox.ops.losses import cross_entropy, lovasz_softmax, rows_from_volume


@dataclass(frozen=True, slots=True)
class LabelledSemantics:
    """Cross-entropy + Lovász on the ``semantic`` head, at voxels and at LiDAR points (spec pop3d 6).

    Attributes:
        num_classes: classes of the table including free.
        free_label: the class that means free.
        ignore_label: the class of noise, which is not learnt.
        weight: of all terms.
        unobserved_weight: how much a voxel that no ray observed counts as free, as for the student.
    """

    num_classes: int
    free_label: int
    ignore_label: int = 0
    weight: float = 1.0
    unobserved_weight: float = 0.1

    def prepare(self, batch: Batch) -> Batch:
        if batch.targets.point_label is None:
            raise DataError(
                f"samples must carry point labels for supervised training; got none in {batch.tokens[0]}. "
                "Open the data set with its labels."
            )
        volumes = [self._target(batch, batch.targets.point_label, item) for item in range(batch.size)]
        return replace(batch, targets=replace(batch.targets, semantic=torch.stack(volumes)))

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
        targets = batch.targets
        assert targets.semantic is not None and targets.point_label is not None, "prepare() fills them"
        volume = rows_from_volume(scene.read_dense("semantic")).float()
        voxel_target = targets.semantic.flatten().long()
        inside = batch.grid.contains(batch.lidar.xyz)
        points = scene.read("semantic", batch.lidar.xyz[inside], batch.lidar.batch[inside]).float()
        label = targets.point_label[inside]
        point_target = torch.where(label == self.ignore_label, IGNORED, label)
        unseen = volume[voxel_target == IGNORED]
        free = torch.full((len(unseen),), self.free_label, device=unseen.device)
        return {
            **self._terms("voxel", volume, voxel_target),
            **self._terms("point", points, point_target),
            "semantic/unobserved": self.weight
            * self.unobserved_weight
            * cross_entropy(unseen, free, ignore=IGNORED),
        }

    def _terms(self, name: str, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        known = target != IGNORED
        return {
            f"semantic/{name}_ce": self.weight * cross_entropy(logits, target, ignore=IGNORED),
            f"semantic/{name}_lovasz": self.weight
            * lovasz_softmax(logits[known].softmax(-1), target[known], ignore=IGNORED),
        }
