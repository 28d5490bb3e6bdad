"""The photometric distortion that detectors and POP-3D train with (spec pop3d 1.4).

Values are floats 0..255 and are **not** clipped, as published: a bright sky may reach 280. It comes before the image is
normalised, scaled and padded in the encoder, as published.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lexivox.data.types import CameraView, Sample

STEP_PROB = 0.5
BRIGHTNESS, CONTRAST, SATURATION, HUE_DEG = 32.0, (0.5, 1.5), (0.5, 1.5), 18.0
EPSILON = 1.1920929e-07
"""The smallest float32 step at 1, which keeps the hue of grey and the saturation of black finite."""


@dataclass(frozen=True, slots=True)
class Distortion:
    """The numbers drawn for one image; the defaults change nothing.

    Attributes:
        brightness: added to every value.
        contrast: multiplies every value, before or after hue and saturation.
        saturation: multiplies the saturation.
        hue_deg: added to the hue.
        channels: the image's channels in their new order.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    contrast_first: bool = True
    saturation: float = 1.0
    hue_deg: float = 0.0
    channels: tuple[int, int, int] = (0, 1, 2)

    @classmethod
    def drawn(cls, generator: torch.Generator) -> Distortion:
        """Each step with an even chance, its strength evenly from the published range."""
        chance = torch.rand(6, generator=generator).tolist()
        brightness, contrast, saturation, hue = torch.rand(4, generator=generator).tolist()
        order = torch.randperm(3, generator=generator).tolist()
        return cls(
            brightness=_between(-BRIGHTNESS, BRIGHTNESS, brightness) if chance[0] < STEP_PROB else 0.0,
            contrast=_between(*CONTRAST, contrast) if chance[1] < STEP_PROB else 1.0,
            contrast_first=chance[2] < STEP_PROB,
            saturation=_between(*SATURATION, saturation) if chance[3] < STEP_PROB else 1.0,
            hue_deg=_between(-HUE_DEG, HUE_DEG, hue) if chance[4] < STEP_PROB else 0.0,
            channels=tuple(order) if chance[5] < STEP_PROB else (0, 1, 2),  # type: ignore[arg-type]
        )

    def apply(self, rgb: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
        """The distorted image."""
        rgb = rgb + self.brightness
        if self.contrast_first:
            rgb = rgb * self.contrast
        if self.saturation != 1.0 or self.hue_deg != 0.0:
            hue_deg, saturation, value = hsv_from_rgb(rgb)
            turned = _wrapped(hue_deg + self.hue_deg)
            rgb = rgb_from_hsv(turned, saturation * self.saturation, value)
        if not self.contrast_first:
            rgb = rgb * self.contrast
        return rgb[list(self.channels)]


def distort(sample: Sample, generator: torch.Generator) -> Sample:
    """The sample with float images 0..255, each distorted by numbers of its own; those without pixels stay."""

    def changed(view: CameraView) -> CameraView:
        return replace(view, image=Distortion.drawn(generator).apply(view.image.float())) if view.has_image else view

    return replace(sample, views=tuple(changed(view) for view in sample.views))


def hsv_from_rgb(
    rgb: Float[Tensor, "3 H W"],
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """Hue in degrees 0..360, saturation 0..1 for values that are not negative, and value: the largest channel."""
    red, green, blue = rgb
    value = rgb.amax(0)
    spread = value - rgb.amin(0)
    sixth = 60.0 / (spread + EPSILON)
    hue_deg = torch.where(
        value == red,
        (green - blue) * sixth,
        torch.where(value == green, (blue - red) * sixth + 120.0, (red - green) * sixth + 240.0),
    )
    return torch.where(hue_deg < 0, hue_deg + 360.0, hue_deg), spread / (value.abs() + EPSILON), value


def rgb_from_hsv(
    hue_deg: Float[Tensor, "H W"], saturation: Float[Tensor, "H W"], value: Float[Tensor, "H W"]
) -> Float[Tensor, "3 H W"]:
    """The inverse; a saturation above 1 gives negative channels."""
    # Of a channel: how far the hue is from its own, in sixths of the circle, and so how much of it is missing.
    offset = hue_deg.new_tensor([5.0, 3.0, 1.0])[:, None, None]
    place = torch.remainder(offset + hue_deg / 60.0, 6.0)
    missing = torch.minimum(place, 4.0 - place).clamp(0.0, 1.0)
    return value - value * saturation * missing


def _wrapped(hue_deg: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    hue_deg = torch.where(hue_deg > 360.0, hue_deg - 360.0, hue_deg)
    return torch.where(hue_deg < 0.0, hue_deg + 360.0, hue_deg)


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
