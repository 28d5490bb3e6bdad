"""Learning from labels of voxels: of a benchmark, of the simulator, or built from a recording's own sweeps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.data.types import FREE, IGNORED, OCCUPIED, Batch, LabelledPoints, Targets, VoxelLabels
from lexivox.errors import DataError, ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.model import Scene
from lexivox.ops.losses import cross_entropy, focal_cross_entropy, geo_scal, lovasz_softmax, sem_scal
from lexivox.supervision.base import join_points, nothing_from

VoxelMask = Literal["none", "lidar", "camera"]


@dataclass(frozen=True, slots=True)
class DenseLabels:
    """Occupied or free at all voxels, classes at the occupied ones (spec occflownet 4). Weights of 0 leave terms out.

    Samples without labels teach nothing, those beside them in a batch do.

    Attributes:
        free_label: the class that means free.
        mask: learn only from voxels that the LiDAR, or the cameras, have seen; ``"none"`` as published.
        max_voxels: voxels asked per sample and step, drawn evenly; 0 = all.
        geometry: binary cross-entropy.
        semantic: cross-entropy of classes at occupied voxels.
        focal: exponent that makes easy voxels count less in both; 0 = plain, as published.
        lovasz, sem_scal, geo_scal: losses over all classes and free, whose probabilities are ``p_occ * p_class`` and
            ``1 - p_occ``; not in this paper. Without a semantic term they see occupied and free alone.
    """

    free_label: int
    mask: VoxelMask = "none"
    max_voxels: int = 0
    geometry: float = 1.0
    semantic: float = 1.0
    focal: float = 0.0
    lovasz: float = 0.0
    sem_scal: float = 0.0
    geo_scal: float = 0.0

    # ---------------------------------------------------------------------------------------------- targets

    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Raises:
        ShapeError: labels are of another grid than the batch's.
        DataError: their class numbers are others.
        """
        chosen = [
            self._choose(batch.grid, labels, item, generator) for item, labels in enumerate(batch.voxel_labels or ())
        ]
        dense = join_points(chosen) if chosen else None
        return replace(batch, targets=Targets(dense=dense))

    def _choose(self, grid: VoxelGrid, labels: VoxelLabels, item: int, generator: torch.Generator) -> LabelledPoints:
        if labels.grid != grid:
            raise ShapeError(
                f"labels of voxels must lie on the grid of the batch, {grid.shape} from {grid.lower_m}; got "
                f"{labels.grid.shape} from {labels.grid.lower_m}. Build them for the run's grid."
            )
        if labels.free_label != self.free_label:
            raise DataError(
                f"labels of voxels must call free what the run does, {self.free_label}; got {labels.free_label}. "
                "Set free_label of the dense supervision, or map the labels."
            )
        known = labels.label != IGNORED
        seen = {"none": None, "lidar": labels.seen_by_lidar, "camera": labels.seen_by_camera}[self.mask]
        if seen is not None:
            known = known & seen
        rows = known.flatten().nonzero()[:, 0]
        if self.max_voxels and len(rows) > self.max_voxels:
            rows = rows[torch.randint(len(rows), (self.max_voxels,), generator=generator)]
        xyz = grid.xyz_from_index(grid.index_from_flat(rows))
        return LabelledPoints(xyz, torch.full_like(rows, item), labels.label.flatten()[rows])

    # ------------------------------------------------------------------------------------------------ terms

    def __call__(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        places = batch.targets.dense
        if places is None or not len(places.label):
            names = [name for name, weight in self._weights().items() if weight]
            heads = ["semantic" if name == "semantic" else "occupancy" for name in names]
            return {f"dense/{n}": nothing_from(scene, h, batch) for n, h in zip(names, heads, strict=True)}
        logit = scene.read("occupancy", places.xyz, places.batch).float()
        is_occupied = torch.where(places.label == self.free_label, FREE, OCCUPIED)
        terms = {"geometry": self._entropy(logit, is_occupied)}
        classes = self._classes(scene, places)
        if classes is not None:
            there = is_occupied == OCCUPIED
            terms["semantic"] = self._entropy(classes[there] if self._mixes else classes, places.label[there])
        if self._mixes or self.geo_scal:
            terms |= self._shaped(logit, classes, places.label, is_occupied)
        weights = self._weights()
        return {f"dense/{name}": weights[name] * term for name, term in terms.items() if weights[name]}

    @property
    def _mixes(self) -> bool:
        return bool(self.lovasz or self.sem_scal)

    def _weights(self) -> dict[str, float]:
        return {
            "geometry": self.geometry,
            "semantic": self.semantic,
            "lovasz": self.lovasz,
            "sem_scal": self.sem_scal,
            "geo_scal": self.geo_scal,
        }

    def _classes(self, scene: Scene, places: LabelledPoints) -> Float[Tensor, "N K"] | None:
        """Logits of classes: everywhere where probabilities of all classes are needed, else at occupied voxels."""
        if not self.semantic:
            return None
        rows = slice(None) if self._mixes else places.label != self.free_label
        return scene.read("semantic", places.xyz[rows], places.batch[rows]).float()

    def _entropy(self, logit: Float[Tensor, "N K"], label: Int64[Tensor, "N"]) -> Float[Tensor, ""]:
        return focal_cross_entropy(logit, label, self.focal) if self.focal else cross_entropy(logit, label)

    def _shaped(
        self,
        logit: Float[Tensor, "N 2"],
        classes: Float[Tensor, "N K"] | None,
        label: Int64[Tensor, "N"],
        is_occupied: Int64[Tensor, "N"],
    ) -> dict[str, Tensor]:
        free, occupied = logit.softmax(dim=-1).unbind(-1)
        terms = {"geo_scal": geo_scal(occupied, is_occupied)} if self.geo_scal else {}
        if not self._mixes:
            return terms
        if classes is None:
            prob, truth = torch.stack([free, occupied], dim=-1), is_occupied
        else:
            prob = torch.cat([occupied[:, None] * classes.softmax(dim=-1), free[:, None]], dim=-1)
            truth = torch.where(is_occupied == OCCUPIED, label, prob.shape[1] - 1)
        if self.lovasz:
            terms["lovasz"] = lovasz_softmax(prob, truth)
        if self.sem_scal:
            terms["sem_scal"] = sem_scal(prob, truth)
        return terms
