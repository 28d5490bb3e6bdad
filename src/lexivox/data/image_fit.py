"""How recorded images of any size become the network's input, with and without random changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from lexivox.data.image_warp import ImageJitter, bottom_crop, warp_views
from lexivox.data.transforms import MovingWorld, each_sample, resize_images
from lexivox.data.types import Clip, Sample

Fitting = Literal["squash", "crop"]
"""Both sides to the network's, whatever the aspect; or the width, and the band at the bottom (spec occflownet 5)."""


@dataclass(frozen=True, slots=True)
class ImageFit:
    """Brings images to one size; what it does goes into the intrinsics.

    Attributes:
        image_hw: of the network's input.
        how: ``"squash"`` keeps all content, ``"crop"`` keeps the aspect and loses the sky.
        jitter: drawn in training.
    """

    image_hw: tuple[int, int]
    how: Fitting = "squash"
    jitter: ImageJitter | None = None

    def scaled(self, sample: Sample) -> Sample:
        """As wide as the input; the height still is what a crop, fixed or random, needs. This is kept in memory."""
        if self.how == "squash":
            return resize_images(sample, self.image_hw)
        width = self.image_hw[1]
        views = (resize_images(replace(sample, views=(view,)), _as_wide(view.image_hw, width)) for view in sample.views)
        return replace(sample, views=tuple(one.views[0] for one in views))

    def fitted(self, sample: MovingWorld) -> MovingWorld:
        """What the network sees outside training."""
        return each_sample(sample, self._cut)

    def drawn(self, clip: Clip, generator: torch.Generator) -> Clip:
        """What it sees in training; the random changes of a camera are those of its neighbouring keyframes."""
        if self.jitter is None:
            return self.fitted(clip)
        warps = self.jitter.of_rig(clip.current, self.image_hw, generator)
        return each_sample(clip, lambda sample: warp_views(sample, warps))

    def _cut(self, sample: Sample) -> Sample:
        if self.how == "squash":
            return resize_images(sample, self.image_hw)
        views = (v if v.image_hw == self.image_hw else bottom_crop(v.image_hw, self.image_hw)(v) for v in sample.views)
        return replace(sample, views=tuple(views))


def _as_wide(image_hw: tuple[int, int], width: int) -> tuple[int, int]:
    return image_hw[0] * width // image_hw[1], width
