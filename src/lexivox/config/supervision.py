"""What a model learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lexivox.config.base import Share, Signal, Weight
from lexivox.config.rays import RayQueriesConfig, RenderingConfig

if TYPE_CHECKING:
    from lexivox.supervision.base import Supervision


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

    @property
    def reading(self) -> dict[str, Any]:
        """What the features of points depend on, whatever is learnt from them."""
        return self.model_dump(exclude={"kind", "loss", "weight", "voxel_weight", "outside"})

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


class DenseConfig(Signal):
    """Labels of voxels; see :class:`lexivox.supervision.dense.DenseLabels`."""

    kind: Literal["dense"] = "dense"
    free_label: int
    mask: Literal["none", "lidar", "camera"] = "none"
    max_voxels: Annotated[int, Field(ge=0)] = 0
    geometry: Weight = 1.0
    semantic: Weight = 1.0
    focal: Weight = 0.0
    lovasz: Weight = 0.0
    sem_scal: Weight = 0.0
    geo_scal: Weight = 0.0

    @property
    def teaches_classes(self) -> bool:
        return self.semantic > 0.0

    @property
    def uses_point_labels(self) -> bool:
        return False

    @property
    def uses_voxel_labels(self) -> bool:
        return True

    def build(self) -> Supervision:
        from lexivox.supervision.dense import DenseLabels

        return DenseLabels(**self.model_dump(exclude={"kind"}))


class CameraDepthConfig(Signal):
    """Sparse LiDAR depth for an encoder that lifts images."""

    kind: Literal["camera_depth"] = "camera_depth"
    weight: Weight = 0.05
    pixel: Literal["floor", "round"] = "floor"

    def build(self) -> Supervision:
        from lexivox.supervision.camera_depth import CameraDepth

        return CameraDepth(**self.model_dump(exclude={"kind"}))


SupervisionConfig = Annotated[
    LidarOccupancyConfig
    | LanguageConfig
    | SemanticConfig
    | RayQueriesConfig
    | RenderingConfig
    | DenseConfig
    | CameraDepthConfig,
    Field(discriminator="kind"),
]
"""What a model can learn from, in any mixture."""
