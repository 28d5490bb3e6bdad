"""What lifting images leaves behind: a volume, and what every pixel thinks of its depth."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lexivox.data.types import Cameras
from lexivox.fields import DenseField
from lexivox.geometry.frustum import DepthBins


@dataclass(frozen=True, slots=True, eq=False)
class LiftedDepth:
    """Probabilities of depth.

    Attributes:
        prob: of each bin, for every cell of the feature maps; they sum to 1.
        bins: depth along the optical axis.
        cameras: of the images that the maps cover; the images are not looked at.
    """

    prob: Float[Tensor, "B V D h w"]
    bins: DepthBins
    cameras: Cameras


@dataclass(frozen=True, slots=True, eq=False)
class LiftedField(DenseField):
    """A :class:`DenseField` that remembers the depth by which its volume was filled."""

    depth: LiftedDepth
