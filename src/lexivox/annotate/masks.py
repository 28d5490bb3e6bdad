"""Masks of objects on images: the box itself, a picture file, or a segmenter that is given the box."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from lexivox.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A box on an image, in pixels; the centre of the first pixel is at 0.5.

    Raises:
        ConfigError: numbers that are not finite, or a box without area.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.corners)):
            raise ConfigError(f"box must have finite numbers; got {self}.")
        if not (self.left < self.right and self.top < self.bottom):
            raise ConfigError(f"box must run from its upper left to its lower right corner; got {self}.")

    def __str__(self) -> str:
        return ",".join(f"{value:g}" for value in self.corners)

    @classmethod
    def parse(cls, text: str) -> PixelBox:
        """A box from ``"x0,y0,x1,y1"``.

        Raises:
            ConfigError: not four numbers, or no box.
        """
        try:
            left, top, right, bottom = map(float, text.split(","))
        except ValueError:
            raise ConfigError(f"box must be four numbers x0,y0,x1,y1; got '{text}'.") from None
        return cls(left, top, right, bottom)

    @property
    def corners(self) -> tuple[float, float, float, float]:
        return self.left, self.top, self.right, self.bottom

    def inside(self, image_hw: tuple[int, int]) -> PixelBox:
        """The part of the box on the image.

        Raises:
            ConfigError: there is none.
        """
        height, width = image_hw
        left, right = max(self.left, 0.0), min(self.right, float(width))
        top, bottom = max(self.top, 0.0), min(self.bottom, float(height))
        if left >= right or top >= bottom:
            raise ConfigError(f"box must lie on the image of {width}x{height} pixels; got {self}.")
        return PixelBox(left, top, right, bottom)

    def mask(self, image_hw: tuple[int, int]) -> Bool[Tensor, "H W"]:
        """True for every pixel that the box touches."""
        box, mask = self.inside(image_hw), torch.zeros(image_hw, dtype=torch.bool)
        mask[math.floor(box.top) : math.ceil(box.bottom), math.floor(box.left) : math.ceil(box.right)] = True
        return mask


@runtime_checkable
class Segmenter(Protocol):
    """Finds the object in a box."""

    name: str

    def mask(self, image: UInt8[Tensor, "3 H W"], box: PixelBox) -> Bool[Tensor, "H W"]:
        """True on the object that fills ``box``."""
        ...


class BoxSegmenter:
    """No segmenter: the box itself is the mask, with the background that it holds."""

    name = "the box itself"

    def mask(self, image: UInt8[Tensor, "3 H W"], box: PixelBox) -> Bool[Tensor, "H W"]:
        """True in the box."""
        return box.mask((int(image.shape[1]), int(image.shape[2])))


def read_mask(source: Path | bytes, image_hw: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """A PNG of the size of the image; every pixel that is neither black nor transparent belongs to the object.

    Args:
        source: a file or its content.
        image_hw: of the image that the mask belongs to.

    Raises:
        DataError: no such file, no PNG, or another size.
    """
    from PIL import Image

    where = f" Check {source}" if isinstance(source, Path) else ""
    try:
        content = source.read_bytes() if isinstance(source, Path) else source
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            width, height = picture.size
            if (height, width) != image_hw:  # before a pixel is decoded
                rule = f"mask must have the size of its image, {image_hw[1]}x{image_hw[0]}"
                raise DataError(f"{rule}; got {width}x{height}.{where}")
            pixels = np.array(picture.convert("RGBA"))
    except FileNotFoundError:
        raise DataError(f"mask must be a PNG file; got none.{where}") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise DataError(f"mask must be a readable PNG; got {type(error).__name__}.{where}") from error
    return torch.from_numpy((pixels[..., :3].max(axis=-1) > 0) & (pixels[..., 3] > 0))
