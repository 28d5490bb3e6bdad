"""Weak supervision without rendering: questions asked in 3D, along the rays themselves.

A LiDAR return says three things: light passed everywhere before it, something stands at it, and nobody knows what is
behind. So the heads are asked at points of the ray: free before, occupied at the return, where class and language
feature are known too; behind it nothing is asked. Nothing is composited, and every answer gets its own gradient.
Returns of neighbouring keyframes count as well, moved to where the thing they hit stands now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.labels import occupancy_from_lidar
from lexivox.data.motion import Motion
from lexivox.data.types import FREE, IGNORED, OCCUPIED, Batch, LabelledPoints, LanguageTargets, Rays, Targets
from lexivox.model import Scene
from lexivox.ops.losses import cross_entropy, feature_cosine, lovasz_softmax
from lexivox.supervision.base import join_points, nothing_from
from lexivox.supervision.ray_points import PlaceRule, holds_return, occupied_wins
from lexivox.supervision.rays import RayChoice


@dataclass(frozen=True, slots=True)
class RayQueries:
    """Cross-entropy on the head for geometry, on ``semantic``, and the distance of ``language``, at points of rays.

    Attributes:
        choice: which rays.
        places: where along a ray.
        motion: where things of another keyframe stand now; ``None`` takes the world for static.
        follow: places inside what moved are asked where it is now; else they are left out.
        weight: of the terms for geometry.
        occupied_weight: of a return beside a free place.
        lovasz: of the Lovász loss over the same places.
        unobserved_weight: how much places that no ray reached count as free: without it nothing keeps a model from
            filling what nobody sees, at full weight the inside of every wall is called free.
        num_unobserved: places per sample and step that no ray reached, when these are asked about at all.
        veto: leave out free places in voxels that hold returns of the same sweep or of the current one, as labels of
            voxels do.
        semantic_weight: of classes at the returns; 0 needs no labels.
        language_weight: of the teacher's features at the returns; 0 needs no teacher.
        weigh_geometry: the rays' own weights (of rare classes, of what a teacher rarely sees) count for geometry too.
    """

    choice: RayChoice = field(default_factory=RayChoice)
    places: PlaceRule = field(default_factory=PlaceRule)
    motion: Callable[[Batch], Motion] | None = None
    follow: bool = True
    weight: float = 1.0
    occupied_weight: float = 1.0
    lovasz: float = 0.0
    unobserved_weight: float = 0.1
    num_unobserved: int = 2048
    veto: bool = True
    semantic_weight: float = 0.0
    language_weight: float = 0.0
    weigh_geometry: bool = False

    # ---------------------------------------------------------------------------------------------- targets

    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        rays = self.choice.of_batch(batch, generator)
        motion = self.motion(batch) if self.motion else None
        free = self._free(batch, rays, motion, generator)
        hits, row = self._hits(batch, rays, motion, generator)
        occupancy = join_points([free, hits, *self._unobserved(batch, generator)])
        if self.veto:
            occupancy = occupied_wins(batch.grid, occupancy, batch.lidar.xyz, batch.lidar.batch)
        targets = Targets(
            ray_occupancy=occupancy,
            ray_semantic=self._semantic(rays, hits, row),
            ray_language=self._language(rays, hits, row),
        )
        return replace(batch, targets=targets)

    def _free(self, batch: Batch, rays: Rays, motion: Motion | None, generator: torch.Generator) -> LabelledPoints:
        xyz, row = self.places.free(batch.grid, rays, generator)
        is_clear = ~holds_return(batch, xyz, rays.batch[row], rays.offset[row]) if self.veto else row >= 0
        xyz, kept = self._now(motion, rays, xyz, row)
        kept &= batch.grid.contains(xyz) & is_clear
        xyz, row = self.places.snapped(batch.grid, xyz[kept], generator), row[kept]
        return LabelledPoints(xyz, rays.batch[row], torch.full_like(row, FREE), self._weight(rays)[row])

    def _hits(
        self, batch: Batch, rays: Rays, motion: Motion | None, generator: torch.Generator
    ) -> tuple[LabelledPoints, Int64[Tensor, "N"]]:
        """Occupied places and the ray of each."""
        row = torch.arange(len(rays.depth_m), device=rays.depth_m.device)
        xyz, kept = self._now(motion, rays, self.places.hits(rays, generator), row)
        kept &= batch.grid.contains(xyz)
        xyz, row = self.places.snapped(batch.grid, xyz[kept], generator), row[kept]
        weight = self.occupied_weight * self._weight(rays)[row]
        return LabelledPoints(xyz, rays.batch[row], torch.full_like(row, OCCUPIED), weight), row

    def _now(
        self, motion: Motion | None, rays: Rays, xyz: Float[Tensor, "N 3"], row: Int64[Tensor, "N"]
    ) -> tuple[Float[Tensor, "N 3"], Bool[Tensor, "N"]]:
        """Where places along rays are at the current keyframe, and False where nobody can say."""
        if motion is None:
            return xyz, torch.ones_like(row, dtype=torch.bool)
        moved = motion.to_now(xyz, rays.batch[row], rays.offset[row])
        lost = moved.is_unknown | moved.is_vacant
        return moved.xyz, ~(lost if self.follow else lost | moved.is_moved)

    def _weight(self, rays: Rays) -> Float[Tensor, "R"]:
        return rays.weight if self.weigh_geometry else torch.ones_like(rays.weight)

    def _unobserved(self, batch: Batch, generator: torch.Generator) -> Sequence[LabelledPoints]:
        """Centres of voxels that no ray of any keyframe at hand passed or ended in."""
        if not self.unobserved_weight or not self.num_unobserved:
            return []
        unseen = [_unseen(batch, item) for item in range(batch.size)]
        drawn = [
            rows[torch.randint(len(rows), (self.num_unobserved,), generator=generator)] if len(rows) else rows
            for rows in unseen
        ]
        owner = torch.cat([torch.full_like(rows, item) for item, rows in enumerate(drawn)])
        xyz = batch.grid.xyz_from_index(batch.grid.index_from_flat(torch.cat(drawn)))
        return [LabelledPoints(xyz, owner, torch.full_like(owner, IGNORED), torch.ones(len(owner)))]

    def _semantic(self, rays: Rays, hits: LabelledPoints, row: Int64[Tensor, "N"]) -> LabelledPoints | None:
        if not self.semantic_weight or rays.label is None:
            return None
        return replace(hits, label=rays.label[row], weight=rays.weight[row])

    def _language(self, rays: Rays, hits: LabelledPoints, row: Int64[Tensor, "N"]) -> LanguageTargets | None:
        if not self.language_weight or rays.feature is None:
            return None
        feature = rays.feature[row]
        known = feature.any(dim=1)
        return LanguageTargets(hits.xyz[known], hits.batch[known], feature[known], rays.weight[row][known])

    # ------------------------------------------------------------------------------------------------ terms

    def __call__(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        places = batch.targets.ray_occupancy
        assert places is not None, "prepare() fills it"
        terms = self._geometry(scene, places)
        if self.semantic_weight:
            terms["rays/semantic"] = self.semantic_weight * self._class_term(scene, batch)
        if self.language_weight:
            terms["rays/language"] = self.language_weight * self._language_term(scene, batch)
        return terms

    def _geometry(self, scene: Scene, places: LabelledPoints) -> dict[str, Tensor]:
        logit = scene.read("occupancy", places.xyz, places.batch).float()
        assert places.weight is not None, "prepare() fills it"
        is_unseen, is_hit = places.label == IGNORED, places.label == OCCUPIED
        target = torch.where(is_hit, OCCUPIED, FREE)
        cost = places.weight * F.cross_entropy(logit, target, reduction="none")
        total = places.weight[~is_unseen].sum().clamp_min(1e-6)
        terms = {
            "rays/free": self.weight * cost[places.label == FREE].sum() / total,
            "rays/hit": self.weight * cost[is_hit].sum() / total,
        }
        if self.lovasz:
            prob = logit.softmax(dim=-1)
            terms["rays/lovasz"] = self.weight * self.lovasz * lovasz_softmax(prob, places.label)
        if self.unobserved_weight:
            unseen = cost[is_unseen].sum() / is_unseen.sum().clamp_min(1)
            terms["rays/unobserved"] = self.weight * self.unobserved_weight * unseen
        return terms

    def _class_term(self, scene: Scene, batch: Batch) -> Float[Tensor, ""]:
        places = batch.targets.ray_semantic
        if places is None:
            return nothing_from(scene, "semantic", batch)
        logit = scene.read("semantic", places.xyz, places.batch).float()
        return cross_entropy(logit, places.label, row_weight=places.weight)

    def _language_term(self, scene: Scene, batch: Batch) -> Float[Tensor, ""]:
        known = batch.targets.ray_language
        if known is None:
            return nothing_from(scene, "language", batch)
        predicted = scene.read("language", known.xyz, known.batch).float()
        return feature_cosine(predicted, known.feature, known.weight)


def _unseen(batch: Batch, item: int) -> Int64[Tensor, "N"]:
    """Flat numbers of the voxels of a sample that no ray reached."""
    xyz, origins = [], []
    for moment in (batch.now, *batch.around):
        rows = moment.lidar.batch == item
        xyz.append(moment.lidar.xyz[rows])
        origins.append(moment.lidar_origin[item].expand(len(xyz[-1]), 3))
    volume = occupancy_from_lidar(batch.grid, torch.cat(origins), torch.cat(xyz))
    return (volume.flatten() == IGNORED).nonzero()[:, 0]
