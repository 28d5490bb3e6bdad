"""GridMask: squares of every image blacked out in a regular pattern (Chen et al. 2020; spec pop3d 1.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from lexivox.data.types import Batch

RATIO = 0.5
"""Width of a stripe in shares of the period."""

PADDED_TO = 32
"""The published mask is drawn for the padded image, whose sides are multiples of this."""

MEAN_COLOR = (123.675, 116.28, 103.53)
"""RGB that normalisation turns into 0, which is what the published code writes into the squares."""


@dataclass(frozen=True, slots=True)
class Stripes:
    """One drawn pattern, in pixels: stripes of ``width`` every ``period``, from ``first_row`` and ``first_column``."""

    period: int
    first_row: int
    first_column: int

    @classmethod
    def drawn(cls, height: int, generator: torch.Generator) -> Stripes:
        """Period from 2..height - 1, offsets from 0..period - 1."""

        def below(low: int, high: int) -> int:
            return int(torch.randint(low, high, (1,), generator=generator))

        period = below(2, height)
        return cls(period, below(0, period), below(0, period))

    @property
    def width(self) -> int:
        return min(max(int(self.period * RATIO + 0.5), 1), self.period - 1)

    def kept(self, image_hw: tuple[int, int]) -> Bool[Tensor, "H W"]:
        """True where a pixel lies in at least one stripe: about 75 %. The squares between are lost.

        Comments of the original speak of the complement; its code keeps the stripes (spec pop3d, erratum 30).
        """
        height, width = image_hw
        rows, columns = self._marked(height, self.first_row), self._marked(width, self.first_column)
        return rows[:, None] | columns

    def _marked(self, length: int, first: int) -> Bool[Tensor, "N"]:
        """Stripes along one axis of a canvas one and a half times as long, cut to its middle."""
        canvas = int(1.5 * length)
        place = torch.arange(canvas) - first
        stripe = torch.div(place, self.period, rounding_mode="floor")
        marked = (place >= 0) & (stripe < canvas // self.period) & (place % self.period < self.width)
        start = (canvas - length) // 2
        return marked[start : start + length]


def mask_images(batch: Batch, prob: float, generator: torch.Generator) -> Batch:
    """With chance ``prob`` the same squares of every image of the batch get the mean colour; images become floats."""
    if float(torch.rand(1, generator=generator)) >= prob:
        return batch
    height, width = batch.cameras.image_hw
    padded_height, padded_width = (-(-n // PADDED_TO) * PADDED_TO for n in (height, width))
    stripes = Stripes.drawn(padded_height, generator)
    kept = stripes.kept((padded_height, padded_width))[:height, :width]  # padding is 0 anyway
    images = batch.cameras.images.float()
    color = images.new_tensor(MEAN_COLOR)[:, None, None]
    return replace(batch, cameras=replace(batch.cameras, images=torch.where(kept, images, color)))
