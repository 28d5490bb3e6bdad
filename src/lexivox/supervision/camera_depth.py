"""Sparse depth from LiDAR, for encoders that lift images by depth (OccFlowNet spec 8.4; BEVDepth, Li et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.data.depth_maps import PixelRule, depth_maps
from lexivox.data.types import Batch, Targets
from lexivox.encoders.lifted import LiftedDepth, LiftedField
from lexivox.errors import ConfigError
from lexivox.model import Scene


@dataclass(frozen=True, slots=True)
class CameraDepth:
    """Binary cross-entropy between the depth of image cells and that of the nearest LiDAR return inside each.

    Attributes:
        weight: of the term; 0.05 as published.
        pixel: to which pixel a projected return belongs; ``"round"`` as published.
    """

    weight: float = 0.05
    pixel: PixelRule = "floor"

    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Nothing: the returns are in the batch, and the cells are known only to the encoder."""
        return replace(batch, targets=Targets())

    def __call__(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(scene.field, LiftedField):
            raise ConfigError(
                "camera depth must be learnt by an encoder that lifts images; got one without depth. "
                "Use encoder kind 'lift_splat', or remove this supervision."
            )
        depth = scene.field.depth
        return {"camera_depth/bce": self.weight * depth_loss(depth.prob, self.labels(depth, batch))}

    @torch.no_grad()
    def labels(self, depth: LiftedDepth, batch: Batch) -> Int64[Tensor, "B V h w"]:
        """The bin of every cell; -1 where no return of known bin lies in it."""
        nearest = depth_maps(
            depth.cameras,
            batch.lidar.xyz,
            batch.lidar.batch,
            near_m=depth.bins.near_m,
            far_m=depth.bins.far_m,
            cell_px=-(-depth.cameras.image_hw[0] // depth.prob.shape[-2]),
            pixel=self.pixel,
        )
        return depth.bins.index(nearest)


def depth_loss(prob: Float[Tensor, "B V D h w"], label: Int64[Tensor, "B V h w"]) -> Float[Tensor, ""]:
    """Sum over bins of the binary cross-entropy, mean over cells whose bin is known; 0 without any."""
    known = label >= 0
    rows = prob.float().movedim(2, -1)[known]
    target = F.one_hot(label[known], prob.shape[2]).to(rows)
    with torch.autocast(prob.device.type, enabled=False):
        return F.binary_cross_entropy(rows, target, reduction="sum") / known.sum().clamp_min(1)
