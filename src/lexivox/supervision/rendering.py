"""Learning 3D from 2D: rays are rendered through the predicted scene and must end where they were measured to end.

OccFlowNet's supervision (spec occflownet 2): depth and class of LiDAR returns, of the current and neighbouring
keyframes, against one prediction. Beside it: language features (LangOcc), opacity, distortion, and the likelihood of
the return itself, which unlike a mean depth is not fooled by half a wall in front and half a wall behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lexivox.data.motion import Motion
from lexivox.data.types import IGNORED, Batch, Rays, Targets
from lexivox.geometry.grid import VoxelGrid
from lexivox.model import Scene
from lexivox.ops.losses import DepthLoss, cross_entropy, depth_loss, feature_cosine, langocc_loss, weighted_mean
from lexivox.ops.render import Background, distortion_loss, render_depth
from lexivox.supervision.base import nothing_from
from lexivox.supervision.march import March, Optics, march
from lexivox.supervision.march_sampled import march_sampled
from lexivox.supervision.rays import RayChoice

TINY = 1e-5
"""Least probability inside a logarithm."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """Losses on rendered rays. Weights of 0 leave a term out.

    Attributes:
        choice: which rays.
        motion: where things of another keyframe stand now ("occupancy flow"); ``None`` takes the world for static.
        optics: how light runs.
        background: where light that nothing stops counts for the depth: nowhere, as published, or where the ray ends
            (spec A6). The latter lets fog with the right mean depth pass for a wall; the former wants all light
            stopped.
        depth, depth_loss: ``"mse"`` of weight 0.05 is published; metres draw a sharper wall than their squares.
        weigh_depth: the rays' weights count for geometry too, as published (spec A11).
        average: ``"weighted"`` divides sums of weighted costs by the weights, so that a batch of road costs as much as
            one of cars; ``"plain"`` by the number of rays, as published (spec 2.5): most rays hit what weighs little.
        ending, tolerance_m: minus the log of the chance that a ray ends within so much of its return.
        opacity: cross-entropy of the share of a ray that is stopped at all: 1 for a return inside the grid, else 0.
        distortion: pulls the ends of a ray together (Mip-NeRF 360), of distances in metres; published 0.01, switched
            off.
        semantic: cross-entropy of classes.
        blend: ``"probs"`` adds up class probabilities: the chance that a ray ends at a place, times the class there,
            which is the likelihood of what the ray saw. ``"logits"`` adds up logits, as published: half a ray of
            certainty then counts like a whole ray of doubt, and confident voxels behind speak over doubtful ones.
        language, language_loss: of composited unit features; ``"langocc"`` is that system's (spec 7).
    """

    choice: RayChoice = field(default_factory=RayChoice)
    motion: Callable[[Batch], Motion] | None = None
    optics: Optics = field(default_factory=Optics)
    background: Background = "none"
    depth: float = 0.1
    depth_loss: DepthLoss = "l1"
    weigh_depth: bool = False
    average: Literal["weighted", "plain"] = "weighted"
    ending: float = 0.0
    tolerance_m: float = 0.4
    opacity: float = 0.0
    distortion: float = 0.0
    semantic: float = 0.0
    blend: Literal["logits", "probs"] = "probs"
    language: float = 0.0
    language_loss: Literal["cosine", "langocc"] = "cosine"

    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        motion = self.motion(batch) if self.motion else None
        return replace(batch, targets=Targets(rays=self.choice.of_batch(batch, generator), motion=motion))

    def __call__(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        rays = batch.targets.rays
        assert rays is not None, "prepare() fills it"
        motion = batch.targets.motion
        known, returned = self._with_counterpart(rays, motion, batch.grid)
        follow = march_sampled if self.optics.sampling else march
        followed = follow(scene, batch.grid, known, motion, self.optics)
        if not len(followed.segments):
            return self._nothing(scene, batch)
        terms = self._geometry(followed, known, returned)
        if self.semantic:
            terms["render/semantic"] = self.semantic * self._class_term(followed, known, batch)
        if self.language:
            terms["render/language"] = self.language * self._language_term(followed, known, batch)
        return terms

    def _with_counterpart(self, rays: Rays, motion: Motion | None, grid: VoxelGrid) -> tuple[Rays, Bool[Tensor, "R"]]:
        """Rays whose return can be told of, and True for those that end inside the grid."""
        ends = rays.origins + rays.depth_m[:, None] * rays.directions
        has_others = self.choice.geometry.outside == "keep"  # else only those inside were chosen, by the place itself
        returned = grid.contains(ends) if has_others else torch.ones_like(rays.batch, dtype=torch.bool)
        if motion is None or self.optics.warp == "scatter_nearest":  # published: no ray is left out
            return rays, returned
        moved = motion.to_now(ends, rays.batch, rays.offset)
        lost = moved.is_unknown | moved.is_vacant
        lost |= moved.is_moved & ~(grid.contains(moved.xyz) & self.optics.follow)
        return _some(rays, ~lost), returned[~lost]

    def _nothing(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        """No ray, or none that meets the grid."""
        names = ("depth", "ending", "opacity", "distortion", "semantic", "language")
        heads = {"semantic": "semantic", "language": "language"}
        return {f"render/{n}": nothing_from(scene, heads.get(n, "occupancy"), batch) for n in names if getattr(self, n)}

    def _geometry(self, followed: March, rays: Rays, returned: Bool[Tensor, "R"]) -> dict[str, Tensor]:
        weights, segments, terms = followed.weights, followed.segments, {}
        weight = (rays.weight if self.weigh_depth else torch.ones_like(rays.weight)) * returned
        if self.depth:
            depth_m = render_depth(weights, segments, self.background)
            cost = depth_loss(depth_m, rays.depth_m, self.depth_loss, weight)
            terms["render/depth"] = self.depth * self._share(weight) * cost
        if self.ending:
            chance = ending_chance(followed, rays.depth_m, self.tolerance_m)
            cost = weighted_mean(-chance.clamp_min(TINY).log(), weight)
            terms["render/ending"] = self.ending * self._share(weight) * cost
        if self.opacity:
            fits = torch.where(returned, weights.opacity, weights.remaining)
            terms["render/opacity"] = self.opacity * weighted_mean(-fits.clamp_min(TINY).log(), None)
        if self.distortion:
            apart = distortion_loss(weights.weight, segments)
            terms["render/distortion"] = self.distortion * weighted_mean(apart, None)
        return terms

    def _class_term(self, followed: March, rays: Rays, batch: Batch) -> Float[Tensor, ""]:
        if rays.label is None:
            return nothing_from(followed.scene, "semantic", batch)
        known = rays.label != IGNORED
        share = self._share(rays.weight * known)
        if self.blend == "logits":
            return share * cross_entropy(followed.seen("semantic"), rays.label, row_weight=rays.weight)
        prob = followed.seen("semantic", lambda logit: logit.softmax(dim=-1))
        # What does not end says nothing: all classes alike. It keeps the sum of probabilities at 1.
        prob = prob + (1.0 - prob.sum(dim=-1, keepdim=True)).clamp_min(0.0) / prob.shape[1]
        chance = prob.gather(1, torch.where(known, rays.label, 0)[:, None])[:, 0]
        return share * weighted_mean(-chance.clamp_min(TINY).log(), rays.weight * known)

    def _share(self, weight: Float[Tensor, "R"]) -> Float[Tensor, ""]:
        """What turns a weighted mean into the average that is asked for."""
        if self.average == "weighted":
            return weight.new_ones(())
        return weight.sum() / (weight > 0).sum().clamp_min(1)

    def _language_term(self, followed: March, rays: Rays, batch: Batch) -> Float[Tensor, ""]:
        if rays.feature is None:
            return nothing_from(followed.scene, "language", batch)
        seen = followed.seen("language", lambda rows: F.normalize(rows, dim=-1))
        known = rays.feature.any(dim=1) & (followed.weights.opacity.detach() > followed.eps)
        distance = feature_cosine if self.language_loss == "cosine" else langocc_loss
        return distance(seen, rays.feature, rays.weight * known)


def ending_chance(followed: March, depth_m: Float[Tensor, "R"], tolerance_m: float) -> Float[Tensor, "R"]:
    """Chance that each ray ends within a tolerance of a distance; inside a segment ends are spread evenly."""
    segments = followed.segments
    middle = depth_m[segments.ray]
    start = torch.maximum(segments.start_m, middle - tolerance_m)
    stop = torch.minimum(segments.stop_m, middle + tolerance_m)
    share = ((stop - start) / segments.length_m.clamp_min(1e-9)).clamp(0.0, 1.0)
    return segments.sum(followed.weights.weight * share)


def _some(rays: Rays, kept: Bool[Tensor, "R"]) -> Rays:
    rows = {field.name: getattr(rays, field.name) for field in fields(rays)}
    return replace(rays, **{name: value[kept] for name, value in rows.items() if value is not None})
