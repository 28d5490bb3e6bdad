"""Images scaled, cropped, flipped and rotated into the network's input; the whole change goes into the intrinsics.

Published camera networks cut a band from the bottom of every image and jitter it while training (spec occflownet 5;
Philion & Fidler 2020). A pixel keeps its viewing ray: ``image_from_cam`` becomes ``new_from_old @ image_from_cam``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexivox.data.sample import CameraView, Sample


@dataclass(frozen=True, slots=True)
class ImageWarp:
    """First enlarged, then cut out, then flipped left to right, then rotated about the middle of the cut.

    Attributes:
        scale: of the image.
        left_px, top_px: where the cut begins in the scaled image; beyond the image is black.
        image_hw: size of the cut.
        is_flipped: pixels only; the world stays as it is, its picture is a mirror image.
        rotation_rad: counter-clockwise as one looks at the picture.
    """

    scale: float
    left_px: int
    top_px: int
    image_hw: tuple[int, int]
    is_flipped: bool = False
    rotation_rad: float = 0.0

    @property
    def new_from_old(self) -> Float[Tensor, "3 3"]:
        """Homogeneous pixels, the centre of the first one at 0.5 on both sides; float64."""
        height, width = self.image_hw
        scaled = _matrix([[self.scale, 0, 0], [0, self.scale, 0], [0, 0, 1]])
        cut = _matrix([[1, 0, -self.left_px], [0, 1, -self.top_px], [0, 0, 1]])
        flipped = _matrix([[-1, 0, width], [0, 1, 0], [0, 0, 1]]) if self.is_flipped else torch.eye(3).double()
        cos, sin = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        center = _matrix([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1]])
        rotated = center @ _matrix([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ center.inverse()
        return rotated @ flipped @ cut @ scaled

    def __call__(self, view: CameraView) -> CameraView:
        intrinsics = (self.new_from_old @ view.image_from_cam.double()).to(view.image_from_cam)
        image = self._warped(view.image) if view.has_image else view.image.new_zeros(0, *self.image_hw)
        return replace(view, image=image, image_from_cam=intrinsics)

    def _warped(self, image: Tensor) -> Tensor:
        old_hw = image.shape[-2:]
        size = [max(round(side * self.scale), 1) for side in old_hw]
        # Averaged when it shrinks: a grid alone would skip pixels.
        scaled = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)
        old_from_new = self.new_from_old.inverse().float()
        height, width = self.image_hw
        v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        uv = torch.stack([u, v, torch.ones_like(u)], -1) @ old_from_new.T
        normalized = 2.0 * uv[..., :2] / torch.tensor([old_hw[1], old_hw[0]]) - 1.0
        warped = F.grid_sample(scaled, normalized[None], align_corners=False)[0]
        return warped if image.is_floating_point() else warped.round().clamp(0, 255).to(image.dtype)


def _matrix(rows: Sequence[Sequence[float | int]]) -> Float[Tensor, "3 3"]:
    return torch.tensor(rows, dtype=torch.float64)


def bottom_crop(old_hw: tuple[int, int], image_hw: tuple[int, int]) -> ImageWarp:
    """As wide as the network's input, then the band at the bottom: the sky is lost, the aspect is kept."""
    scale = image_hw[1] / old_hw[1]
    return ImageWarp(scale, 0, int(old_hw[0] * scale + 1e-6) - image_hw[0], image_hw)


@dataclass(frozen=True, slots=True)
class ImageJitter:
    """Random warps around the fitted image, one for each camera; its neighbouring keyframes share it (spec 5).

    Attributes:
        scale_change: shares of the scale that brings the image to the network's width. Published are -0.06 to 0.11 of
            the *recorded* width: times 1600 / 704 here, or 1600 / 1408.
        flip_prob: chance of a flip.
        rotation_rad: drawn from both sides of 0; published 5.4 degrees.
    """

    scale_change: tuple[float, float] = (-0.136, 0.25)
    flip_prob: float = 0.5
    rotation_rad: float = math.radians(5.4)

    def drawn(self, old_hw: tuple[int, int], image_hw: tuple[int, int], generator: torch.Generator) -> ImageWarp:
        """A warp whose crop lies anywhere in the width and at the bottom."""
        u_scale, u_left, u_flip, u_rotation = torch.rand(4, generator=generator).tolist()
        low, high = self.scale_change
        scale = image_hw[1] / old_hw[1] * (1.0 + low + u_scale * (high - low))
        spare = int(old_hw[1] * scale + 1e-6) - image_hw[1]
        return ImageWarp(
            scale,
            int(u_left * max(spare, 0)),
            int(old_hw[0] * scale + 1e-6) - image_hw[0],
            image_hw,
            u_flip < self.flip_prob,
            (2.0 * u_rotation - 1.0) * self.rotation_rad,
        )

    def of_rig(self, sample: Sample, image_hw: tuple[int, int], generator: torch.Generator) -> Mapping[str, ImageWarp]:
        """A warp for each camera by its name."""
        return {view.name: self.drawn(view.image_hw, image_hw, generator) for view in sample.views}


def warp_views(sample: Sample, warps: Mapping[str, ImageWarp]) -> Sample:
    """Each view through the warp of its name."""
    return replace(sample, views=tuple(warps[view.name](view) for view in sample.views))
