"""How long, how fast, and with which random changes of the world."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lexivox.config.base import Config, Share, Weight

if TYPE_CHECKING:
    from lexivox.data.image_warp import ImageJitter
    from lexivox.data.transforms import Augment
    from lexivox.train.loop import OptimOptions


class JitterConfig(Config):
    """Random scale, crop, flip and rotation of each camera's images."""

    scale_change: tuple[float, float] = (-0.136, 0.25)
    flip_prob: Share = 0.5
    rotation_deg: Annotated[float, Field(ge=0.0, le=180.0)] = 5.4

    def build(self) -> ImageJitter:
        from lexivox.data.image_warp import ImageJitter

        return ImageJitter(self.scale_change, self.flip_prob, math.radians(self.rotation_deg))


class AugmentConfig(Config):
    mirror_prob: Share = 0.5
    reverse_prob: Share = 0.0
    turn_deg: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    color: Share = 0.2
    drop_view_prob: Share = 0.0
    distort: bool = False
    grid_mask_prob: Share = 0.0
    jitter: JitterConfig | None = None

    def build(self) -> Augment:
        from lexivox.data.transforms import Augment

        return Augment(turn_rad=math.radians(self.turn_deg), **self.model_dump(exclude={"turn_deg", "jitter"}))


class TrainConfig(Config):
    """AdamW, warm-up, cosine decay or none, clipping; see :class:`lexivox.train.loop.OptimOptions`."""

    steps: PositiveInt
    batch_size: PositiveInt = 1
    micro_batch: PositiveInt = 1
    lr: PositiveFloat = 2e-3
    lr_for_batch: PositiveInt | None = None
    lr_min: Annotated[float, Field(ge=0.0)] = 1e-5
    warmup_steps: Annotated[int, Field(ge=0)] = 30
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: Weight = 0.01
    decay_all: bool = False
    backbone_lr_scale: Weight = 1.0
    clip_norm: PositiveFloat = 10.0
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    ema_ramp_from: Annotated[int, Field(ge=0)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpointing: Literal["none", "heads", "all"] = "none"
    seed: int = 0
    checkpoint_every: PositiveInt = 100
    workers: Annotated[int, Field(ge=0)] = 0
    points_per_sample: Annotated[int, Field(ge=0)] = 8000
    balance_power: Share = 0.5

    def options(self) -> OptimOptions:
        from lexivox.train.loop import OptimOptions

        return OptimOptions(**{field.name: getattr(self, field.name) for field in fields(OptimOptions)})
