"""What a model learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lexivox.config.base import Config, Share, Weight

if TYPE_CHECKING:
    from lexivox.supervision.base import Supervision


class Signal(Config):
    """What a training signal asks of the recording beyond images and points; nothing, unless its class says so."""

    @property
    def teaches_classes(self) -> bool:
        """It teaches the ``semantic`` head, and needs labels for it."""
        return False

    @property
    def uses_features(self) -> bool:
        """It needs the teacher's features."""
        return False

    @property
    def uses_boxes(self) -> bool:
        return False

    @property
    def uses_voxel_labels(self) -> bool:
        return False

    @property
    def horizon(self) -> tuple[int, ...]:
        """The neighbouring keyframes it looks at, as offsets."""
        return ()


class LidarOccupancyConfig(Signal):
    kind: Literal["lidar_occupancy"] = "lidar_occupancy"
    target: Literal["exact", "sampled100", "dense"] = "exact"
    weight: Weight = 1.0
    lovasz: Weight = 1.0
    unobserved_weight: Weight = 0.1
    max_voxels: Annotated[int, Field(ge=0)] = 24_000
    occupied_weight: PositiveFloat = 1.0
    outside: Literal["clamp", "drop"] = "clamp"
    enet_share: Share = 0.0
    balance: Share = 0.0

    def build(self) -> Supervision:
        from lexivox.supervision.occupancy import LidarOccupancy

        return LidarOccupancy(**self.model_dump(exclude={"kind"}))


class LanguageConfig(Signal):
    kind: Literal["language"] = "language"
    loss: Literal["cosine", "mse"] = "cosine"
    weight: Weight = 1.0
    voxel_weight: Weight = 0.0
    outside: Literal["keep", "clamp", "drop"] = "keep"
    views: Literal["mean", "each"] = "mean"
    pixels: Literal["bilinear", "nearest", "chained"] = "bilinear"
    unit: bool = True
    max_points: Annotated[int, Field(ge=0)] = 30_000
    storage: Literal["points-float16", "points-pca", "maps", "maps-pca"] = "points-float16"
    storage_rank: PositiveInt = 64
    storage_pool: PositiveInt = 1

    @property
    def uses_features(self) -> bool:
        return True

    def build(self) -> Supervision:
        from lexivox.supervision.language import LanguageDistillation

        return LanguageDistillation(self.loss, self.weight, self.voxel_weight, self.outside)


class SemanticConfig(Signal):
    """Human labels: the supervised reference. Classes are those of the data set's table."""

    kind: Literal["semantic"] = "semantic"
    num_classes: PositiveInt
    free_label: int
    ignore_label: int = 0
    weight: Weight = 1.0
    unobserved_weight: Weight = 0.1
    max_voxels: Annotated[int, Field(ge=0)] = 24_000
    max_points: Annotated[int, Field(ge=0)] = 8_000

    @property
    def teaches_classes(self) -> bool:
        return True

    def build(self) -> Supervision:
        from lexivox.supervision.semantic import LabelledSemantics

        return LabelledSemantics(**self.model_dump(exclude={"kind"}))


class PlacesConfig(Config):
    """Where along a ray questions are asked; see :class:`lexivox.supervision.ray_points.PlaceRule`."""

    num_free: PositiveInt = 12
    near_share: Share = 0.5
    near_m: PositiveFloat = 4.0
    margin_m: Weight = 0.3
    thickness_m: Weight = 0.2
    snap: Share = 0.5


class RayQueriesConfig(Signal):
    """Questions along LiDAR rays; see :class:`lexivox.supervision.ray_queries.RayQueries`."""

    kind: Literal["ray_queries"] = "ray_queries"
    max_rays: Annotated[int, Field(ge=0)] = 8192
    places: PlacesConfig = PlacesConfig()
    weight: Weight = 1.0
    occupied_weight: PositiveFloat = 1.0
    lovasz: Weight = 0.0
    unobserved_weight: Weight = 0.1
    veto: bool = True
    semantic_weight: Weight = 0.0
    language_weight: Weight = 0.0
    class_weights: Literal["none", "occ3d_voxels", "lidarseg_rays", "batch"] = "none"

    @property
    def teaches_classes(self) -> bool:
        return self.semantic_weight > 0.0

    @property
    def uses_features(self) -> bool:
        return self.language_weight > 0.0

    def build(self) -> Supervision:
        from lexivox.supervision.class_weights import ClassWeights
        from lexivox.supervision.ray_points import PlaceRule, RaysOfNow
        from lexivox.supervision.ray_queries import RayQueries

        return RayQueries(
            choice=RaysOfNow(self.max_rays),
            places=PlaceRule(**self.places.model_dump()),
            class_weights=ClassWeights(self.class_weights),
            **self.model_dump(exclude={"kind", "max_rays", "places", "class_weights"}),
        )


class CameraDepthConfig(Signal):
    """Sparse LiDAR depth for an encoder that lifts images."""

    kind: Literal["camera_depth"] = "camera_depth"
    weight: Weight = 0.05
    pixel: Literal["floor", "round"] = "floor"

    def build(self) -> Supervision:
        from lexivox.supervision.camera_depth import CameraDepth

        return CameraDepth(**self.model_dump(exclude={"kind"}))


SupervisionConfig = Annotated[
    LidarOccupancyConfig | LanguageConfig | SemanticConfig | RayQueriesConfig | CameraDepthConfig,
    Field(discriminator="kind"),
]
