"""What a model learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lexivox.config.base import Config, Share, Weight

if TYPE_CHECKING:
    from lexivox.supervision.base import Supervision


class LidarOccupancyConfig(Config):
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


class LanguageConfig(Config):
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

    def build(self) -> Supervision:
        from lexivox.supervision.language import LanguageDistillation

        return LanguageDistillation(self.loss, self.weight, self.voxel_weight, self.outside)


class SemanticConfig(Config):
    """Human labels: the supervised reference. Classes are those of the data set's table."""

    kind: Literal["semantic"] = "semantic"
    num_classes: PositiveInt
    free_label: int
    ignore_label: int = 0
    weight: Weight = 1.0
    unobserved_weight: Weight = 0.1
    max_voxels: Annotated[int, Field(ge=0)] = 24_000
    max_points: Annotated[int, Field(ge=0)] = 8_000

    def build(self) -> Supervision:
        from lexivox.supervision.semantic import LabelledSemantics

        return LabelledSemantics(**self.model_dump(exclude={"kind"}))


SupervisionConfig = Annotated[LidarOccupancyConfig | LanguageConfig | SemanticConfig, Field(discriminator="kind")]
