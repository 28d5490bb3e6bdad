"""Images to a pyramid of features: a small residual network, or any backbone, and a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from lexivox.errors import ShapeError

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""RGB, 0..255."""


class Backbone(Protocol):
    """Turns normalised images into levels, fine to coarse; ``channels`` counts those of each."""

    channels: Sequence[int]

    def __call__(self, images: Float[Tensor, "N 3 H W"]) -> Sequence[Tensor]: ...


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, with group norms: no statistics that differ in training."""

    def __init__(self, channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = group_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = group_norm(out_channels)
        same = stride == 1 and channels == out_channels
        self.stride = stride
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "N _ _ _"]) -> Float[Tensor, "N _ _ _"]:
        y = F.relu(self.norm1(self.conv1(x)))
        # Thinned by slicing: a strided 1x1 convolution on few channels_last channels corrupts memory in its
        # backward pass on CPUs (oneDNN of torch 2.13).
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x[..., :: self.stride, :: self.stride]))


class ResidualBackbone(nn.Module):
    """A stem of stride 4 and one residual stage per width; strides 4, 8, 16, ...

    Raises:
        ShapeError: the image size is not a multiple of the coarsest stride, so pixels would not line up.
    """

    def __init__(self, widths: Sequence[int] = (24, 48, 96), blocks: int = 2):
        super().__init__()
        self.channels = tuple(widths)
        self.stride_px = 4 * 2 ** (len(widths) - 1)
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 4, 4, bias=False),
            group_norm(widths[0]),
            nn.ReLU(),
        )
        before = [widths[0], *widths[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(c_in, c_out, 1 if i == 0 else 2),
                *[ResidualBlock(c_out, c_out, 1) for _ in range(blocks - 1)],
            )
            for i, (c_in, c_out) in enumerate(zip(before, widths, strict=True))
        )

        reset_convolutions(self, "relu")

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> list[Tensor]:
        height, width = images.shape[-2:]
        if height % self.stride_px or width % self.stride_px:
            raise ShapeError(
                f"image height and width must be multiples of {self.stride_px}; got {height} x {width}. "
                "Resize or pad the images."
            )
        levels, x = [], self.stem(images)
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


class FeaturePyramid(nn.Module):
    """Every level in the same channels, coarse levels added into fine ones (FPN), then a 3x3 on each.

    That last 3x3 is separable: a full one at the finest level would cost more than the whole backbone.
    Only the ``num_levels`` finest levels are given out; the coarser ones are heard through them.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, num_levels: int):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, groups=channels), nn.Conv2d(channels, channels, 1))
            for _ in range(num_levels)
        )

        reset_convolutions(self, "linear")

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        merged = [lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)]
        for i in range(len(merged) - 2, -1, -1):
            merged[i] = merged[i] + F.interpolate(merged[i + 1], size=merged[i].shape[-2:], mode="nearest")
        return [smooth(level) for smooth, level in zip(self.smooth, merged, strict=False)]


class ImageEncoder(nn.Module):
    """Images ``(B, V, 3, H, W)`` to a pyramid of ``(B, V, channels, h, w)``, fine to coarse, in float32.

    Args:
        channels: of every level.
        num_levels: levels given out, the finest ones.
        backbone: turns normalised images into levels; :class:`ResidualBackbone` of ``widths`` if None.
        widths, blocks: channels of the default backbone's stages, and residual blocks in each.
        mean, std: RGB statistics of the backbone, 0..255.
        bfloat16: run the convolutions under bfloat16 autocast.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: int = 48,
        *,
        num_levels: int = 2,
        backbone: nn.Module | None = None,
        widths: Sequence[int] = (24, 48, 96),
        blocks: int = 2,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        bfloat16: bool = False,
    ):
        super().__init__()
        self.channels, self.num_levels, self.autocast = channels, num_levels, bfloat16
        self.backbone = ResidualBackbone(widths, blocks) if backbone is None else backbone
        self.pyramid = FeaturePyramid(tuple(self.backbone.channels), channels, num_levels)  # pyright: ignore
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: UInt8[Tensor, "B V 3 H W"] | Float[Tensor, "B V 3 H W"]) -> list[Tensor]:
        batch, views = images.shape[:2]
        flat = images.flatten(0, 1)
        if len(flat) == 0:  # convolutions refuse an empty batch: one blank image tells the shapes
            flat = images.new_zeros(1, 3, 64, 64)
        x = ((flat.to(self.mean.dtype) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            levels = self.pyramid(self.backbone(x))
        return [level[: batch * views].to(x.dtype).unflatten(0, (batch, views)) for level in levels]


def reset_convolutions(module: nn.Module, nonlinearity: Literal["relu", "linear"]) -> None:
    """Start values that keep the features' variance through convolutions followed by ``nonlinearity``."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, nonlinearity=nonlinearity)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with groups of 8 channels where they divide, else the widest that do."""
    size = next(n for n in (8, 6, 4, 3, 2, 1) if channels % n == 0)
    return nn.GroupNorm(channels // size, channels)
