"""What a model learns from rays: which rays, asked or rendered."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lexivox.config.base import Config, Share, Signal, Weight

if TYPE_CHECKING:
    from lexivox.data.motion import Motion
    from lexivox.data.types import Batch
    from lexivox.ops.render_sampled import Sampling
    from lexivox.supervision.base import Supervision
    from lexivox.supervision.rays import RayChoice


class PlacesConfig(Config):
    """Where along a ray questions are asked; see :class:`lexivox.supervision.ray_points.PlaceRule`."""

    num_free: PositiveInt = 6
    near_share: Share = 0.5
    near_m: PositiveFloat = 4.0
    margin_m: Weight = 0.3
    thickness_m: Weight = 0.2
    snap: Share = 0.5


class RaysConfig(Config):
    """Which rays teach; see :class:`lexivox.supervision.rays.RayChoice`.

    Attributes:
        reach: neighbouring keyframes on each side, if the drive has them; 3 is published.
        per_sample: rays of a sample and step; 0 = all.
        share_now: at least this share is of the current keyframe; ``None`` draws from all alike, as published.
        origin, depth, pixel_offset_px, min_depth_m, max_depth_m, outside: of
            :class:`lexivox.supervision.ray_geometry.RayGeometry`.
        moving: rays of other keyframes that hit what moves: kept, dropped by class (published), or by speed of boxes.
        class_weights: how classes are weighed against their frequency in public training splits.
        balanced: rare classes are drawn more often, up to ten times.
        even: rays are drawn evenly over all rays, or over the voxels of each sweep that hold returns.
        ignore_label: a class that teaches nothing; ``None`` keeps all, as published.
    """

    reach: Annotated[int, Field(ge=0)] = 0
    per_sample: Annotated[int, Field(ge=0)] = 8192
    share_now: Share | None = 0.3
    origin: Literal["lidar", "camera"] = "lidar"
    depth: Literal["euclidean", "camera_z"] = "euclidean"
    pixel_offset_px: float = 0.0
    min_depth_m: Weight = 1.0
    max_depth_m: PositiveFloat = 100.0
    outside: Literal["drop", "keep"] = "drop"
    moving: Literal["none", "class", "speed"] = "none"
    min_speed_mps: Weight = 0.5
    class_weights: Literal["none", "occ3d_voxels", "lidarseg_rays"] = "none"
    balanced: bool = False
    even: Literal["rays", "voxels"] = "rays"
    ignore_label: int | None = 0

    @property
    def horizon(self) -> tuple[int, ...]:
        return tuple(offset for offset in range(-self.reach, self.reach + 1) if offset)

    def build(self, features: bool = True) -> RayChoice:
        from lexivox.data.class_counts import LIDARSEG_RAYS, OCC3D_VOXELS
        from lexivox.supervision.ray_balance import capped_rarity, log_inverse_frequency
        from lexivox.supervision.ray_geometry import RayGeometry
        from lexivox.supervision.rays import MovingFilter, RayChoice

        counts = {"occ3d_voxels": OCC3D_VOXELS, "lidarseg_rays": LIDARSEG_RAYS}
        own = ("origin", "depth", "pixel_offset_px", "min_depth_m", "max_depth_m", "outside")
        return RayChoice(
            geometry=RayGeometry(**self.model_dump(include=set(own))),
            horizon=self.horizon,
            rays_per_sample=self.per_sample,
            share_now=self.share_now,
            moving=MovingFilter(self.moving, min_speed_mps=self.min_speed_mps),
            class_weight=tuple(log_inverse_frequency(counts[self.class_weights]).tolist())
            if self.class_weights != "none"
            else (),
            class_chance=tuple(capped_rarity(LIDARSEG_RAYS).tolist()) if self.balanced else (),
            even=self.even,
            ignore_label=self.ignore_label,
            features=features,
        )


class RaySignal(Signal):
    """What learning from rays has in common.

    Attributes:
        flow: where moving things of other keyframes stand now: nobody asks (the world is static); by boxes that are
            tracked ("occupancy flow"); or by boxes found in the sweeps themselves, without any label.
        follow: learn from them where they stand now; else leave them out, and look through the places of movers.
    """

    rays: RaysConfig = RaysConfig()
    flow: Literal["none", "boxes", "sweeps"] = "none"
    follow: bool = True

    @property
    def horizon(self) -> tuple[int, ...]:
        return self.rays.horizon

    @property
    def uses_point_labels(self) -> bool:
        rays = self.rays
        return self.teaches_classes or rays.moving == "class" or rays.class_weights != "none" or rays.balanced

    @property
    def uses_boxes(self) -> bool:
        return self.flow == "boxes" or (self.rays.moving == "speed" and not self.finds_boxes)

    @property
    def finds_boxes(self) -> bool:
        return self.flow == "sweeps" and bool(self.horizon)

    def motion(self) -> Callable[[Batch], Motion] | None:
        from lexivox.supervision.motion import box_motion

        return partial(box_motion, horizon=self.horizon) if self.flow != "none" and self.horizon else None


class RayQueriesConfig(RaySignal):
    """Questions along LiDAR rays; see :class:`lexivox.supervision.ray_queries.RayQueries`."""

    kind: Literal["ray_queries"] = "ray_queries"
    places: PlacesConfig = PlacesConfig()
    weight: Weight = 1.0
    occupied_weight: PositiveFloat = 1.0
    lovasz: Weight = 0.0
    unobserved_weight: Weight = 0.1
    num_unobserved: Annotated[int, Field(ge=0)] = 2048
    veto: bool = True
    semantic_weight: Weight = 0.0
    language_weight: Weight = 0.0
    weigh_geometry: bool = False

    @property
    def teaches_classes(self) -> bool:
        return self.semantic_weight > 0.0

    @property
    def uses_features(self) -> bool:
        return self.language_weight > 0.0

    def build(self) -> Supervision:
        from lexivox.supervision.ray_points import PlaceRule
        from lexivox.supervision.ray_queries import RayQueries

        return RayQueries(
            choice=self.rays.build(self.uses_features or self.weigh_geometry),
            places=PlaceRule(**self.places.model_dump()),
            motion=self.motion(),
            **self.model_dump(exclude={"kind", "rays", "flow", "places"}),
        )


class SamplingConfig(Config):
    """Samples along rays; see :class:`lexivox.ops.render_sampled.Sampling`. Rays end at ``far_m``."""

    near_m: PositiveFloat = 0.05
    far_m: PositiveFloat = 40.0
    num_proposals: Annotated[int, Field(ge=2)] = 50
    num_samples: Annotated[int, Field(ge=2)] = 100
    grid_align: Literal["centers", "corners"] = "centers"
    leftover: Literal["spread", "last"] = "spread"
    jitter: bool = False

    def build(self) -> Sampling:
        from lexivox.ops.render_sampled import Sampling

        return Sampling(**self.model_dump())


class RenderingConfig(RaySignal):
    """Rays rendered through the scene; see :class:`lexivox.supervision.rendering.Rendering` and ``march.Optics``.

    Attributes:
        far_m: ``None`` = as far as the grid reaches; published 40.
        sampling: ``None`` = the exact walk; else samples, as published.
    """

    kind: Literal["rendering"] = "rendering"
    density: Literal["voxel_alpha", "sigmoid_per_metre"] = "voxel_alpha"
    far_m: PositiveFloat | None = None
    behind_m: PositiveFloat | None = None
    transparent: tuple[int, ...] = ()
    match_class: bool = False
    warp: Literal["inverse", "scatter_nearest"] = "inverse"
    eps: Weight = 1e-3
    sampling: SamplingConfig | None = None
    background: Literal["none", "exit"] = "none"
    depth: Weight = 0.1
    depth_loss: Literal["mse", "l1", "huber_log", "silog"] = "l1"
    weigh_depth: bool = False
    average: Literal["weighted", "plain"] = "weighted"
    ending: Weight = 0.0
    tolerance_m: PositiveFloat = 0.4
    opacity: Weight = 0.0
    distortion: Weight = 0.0
    semantic: Weight = 0.0
    blend: Literal["logits", "probs"] = "probs"
    language: Weight = 0.0
    language_loss: Literal["cosine", "langocc"] = "cosine"

    @property
    def teaches_classes(self) -> bool:
        return self.semantic > 0.0

    @property
    def uses_features(self) -> bool:
        return self.language > 0.0

    def motion(self) -> Callable[[Batch], Motion] | None:
        """Scattered are all boxes of the published classes, also those that hardly move."""
        from lexivox.supervision.motion import PUBLISHED_FLOW, box_motion

        if self.warp == "inverse" or self.flow == "none":
            return super().motion()
        return partial(box_motion, horizon=self.horizon, min_speed_mps=0.0, labels=PUBLISHED_FLOW)

    def build(self) -> Supervision:
        from lexivox.supervision.march import Optics
        from lexivox.supervision.rendering import Rendering

        sampling = self.sampling.build() if self.sampling else None
        light = {"density", "behind_m", "transparent", "match_class", "follow", "warp", "eps"}
        return Rendering(
            choice=self.rays.build(self.uses_features or self.weigh_depth),
            motion=self.motion(),
            optics=Optics(far_m=self.far_m or math.inf, sampling=sampling, **self.model_dump(include=light)),
            **self.model_dump(exclude={"kind", "rays", "flow", "far_m", "sampling", *light}),
        )
