"""From the bytes of an image to what a backbone reads, and what that does to the cameras (spec POP-3D 1.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from lexivox.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD, NO_STD
from lexivox.data.types import Cameras
from lexivox.geometry.camera import resize_intrinsics


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Standardise, resize, pad, in this order and in floats.

    What is added is zero *after* standardising, the colour of the mean. It counts as part of the image: the
    cameras' images have the padded size, projections are divided by it, and a point that falls on the padding is
    seen there (the published behaviour, spec errata 5).

    Attributes:
        mean, std: RGB statistics of the backbone, 0..255.
        is_bgr: hand the channels over as blue, green, red.
        scale: enlarge images and intrinsics by this, bilinearly and without antialiasing, as published. Images made
            smaller beforehand (``transforms.resize_images``) are antialiased bytes: smoother, and quicker to move.
        pad_multiple: pad at the right and below to multiples of this many pixels.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    is_bgr: bool = False
    scale: float = 1.0
    pad_multiple: int = 1

    def __call__(
        self, images: UInt8[Tensor, "N 3 H W"] | Float[Tensor, "N 3 H W"], like: Tensor
    ) -> Float[Tensor, "N 3 h w"]:
        """Network input in the dtype of ``like``."""
        mean, std = (like.new_tensor(values).reshape(3, 1, 1) for values in (self.mean, self.std))
        pixels = (images.to(like.dtype) - mean) / std
        if self.is_bgr:
            pixels = pixels.flip(1)
        content = self._content_hw(images.shape[-2:])
        if content != images.shape[-2:]:
            pixels = F.interpolate(pixels, content, mode="bilinear", align_corners=False)
        height, width = self._padded_hw(content)
        return F.pad(pixels, (0, width - content[1], 0, height - content[0]))

    def cameras(self, cameras: Cameras) -> Cameras:
        """The cameras of the network input; their images are blank where the size changes."""
        height, width = self._padded_hw(self._content_hw(cameras.image_hw))
        if self.scale == 1.0 and (height, width) == cameras.image_hw:
            return cameras
        blank = cameras.images.new_zeros(1).expand(*cameras.images.shape[:3], height, width)  # one byte
        intrinsics = resize_intrinsics(cameras.image_from_cam, self.scale, self.scale)
        return replace(cameras, images=blank, image_from_cam=intrinsics)

    def _content_hw(self, image_hw: tuple[int, ...]) -> tuple[int, int]:
        height, width = image_hw
        return int(self.scale * height), int(self.scale * width)

    def _padded_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        height, width = (-(-size // self.pad_multiple) * self.pad_multiple for size in image_hw)
        return height, width


PREPROCESSING = {
    "rgb": Preprocessing(),
    "bgr": Preprocessing(std=NO_STD, is_bgr=True),
    "as_is": Preprocessing(mean=(0.0, 0.0, 0.0), std=NO_STD),
}
"""ImageNet's statistics; the mean colour taken off and blue first, as Caffe had it; nothing at all."""
