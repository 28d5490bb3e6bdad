"""What image networks were shown in training: statistics of ImageNet, order of colours."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""RGB, 0..255."""

NO_STD = (1.0, 1.0, 1.0)
"""Of networks from Caffe, for which only the mean is taken off."""


@runtime_checkable
class Pixels(Protocol):
    """How colours are scaled (RGB, 0..255) after the mean is taken off, and in which order they stand."""

    @property
    def std(self) -> tuple[float, float, float]: ...
    @property
    def is_bgr(self) -> bool: ...


def convert_first_convolution(
    weight: Float[Tensor, "D 3 kh kw"], source: Pixels, target: Pixels
) -> Float[Tensor, "D 3 kh kw"]:
    """The same answers to ``target``'s pixels as ``weight`` gives to ``source``'s (spec POP-3D errata 23)."""
    rgb = weight.flip(1) if source.is_bgr else weight
    scale = weight.new_tensor(target.std) / weight.new_tensor(source.std)
    rgb = rgb * scale[:, None, None]
    return rgb.flip(1) if target.is_bgr else rgb
