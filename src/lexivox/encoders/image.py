"""Images to a pyramid of features: a small residual network, or any backbone, and a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lexivox.encoders.norms import NormKind, group_norm, norm2d
from lexivox.encoders.preprocess import Preprocessing
from lexivox.errors import ConfigError, ShapeError


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

    Args:
        checkpointing: keep no activations inside a stage and compute them again in the backward pass.

    Raises:
        ShapeError: the image size is not a multiple of the coarsest stride, so pixels would not line up.
    """

    def __init__(self, widths: Sequence[int] = (24, 48, 96), blocks: int = 2, checkpointing: bool = False):
        super().__init__()
        self.channels, self.checkpointing = tuple(widths), checkpointing
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
            again = self.checkpointing and torch.is_grad_enabled()
            x = checkpoint(stage, x, use_reentrant=False) if again else stage(x)
            levels.append(x)
        return levels

    def first_level(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N _ _ _"]:
        """The first of the levels alone."""
        return self.stages[0](self.stem(images))


class FeaturePyramid(nn.Module):
    """Every level in the same channels, coarse levels added into fine ones (FPN), then a 3x3 on each.

    Fewer ``num_levels`` than inputs: the finest are given out, the coarser ones heard through them. More: each
    further level is a 3x3 of stride 2 on the last output, as published (spec POP-3D 2.2).

    Args:
        is_separable: make the 3x3 convolutions depthwise and pointwise, because a full one at the finest level
            costs more than a small backbone; False is the published neck.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, num_levels: int, is_separable: bool = True):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        strides = [1 if i < len(in_channels) else 2 for i in range(num_levels)]
        self.smooth = nn.ModuleList(_smoothing(channels, stride, is_separable) for stride in strides)
        if is_separable:
            reset_convolutions(self, "linear")
        else:
            _reset_as_published(self)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        merged = [lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)]
        for i in range(len(merged) - 2, -1, -1):
            merged[i] = merged[i] + F.interpolate(merged[i + 1], size=merged[i].shape[-2:], mode="nearest")
        outputs = [smooth(level) for smooth, level in zip(self.smooth, merged, strict=False)]
        for smooth in list(self.smooth)[len(outputs) :]:
            outputs.append(smooth(outputs[-1]))
        return outputs


class JoinedLevels(nn.Module):
    """The two levels of a backbone at the finer one's size, joined by two 3x3 convolutions (spec occflownet 1.2).

    Args:
        in_channels: of the fine and the coarse level.
        channels: given out, in one level.
        norm: after both convolutions.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, norm: NormKind = "batch"):
        super().__init__()
        layers: list[nn.Module] = []
        for before in (sum(in_channels), channels):
            layers += [nn.Conv2d(before, channels, 3, 1, 1, bias=False), norm2d(norm, channels), nn.ReLU()]
        self.join = nn.Sequential(*layers)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        fine, coarse = levels
        enlarged = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=True)
        return [self.join(torch.cat([fine, enlarged], dim=1))]


def _smoothing(channels: int, stride: int, is_separable: bool) -> nn.Module:
    if not is_separable:
        return nn.Conv2d(channels, channels, 3, stride, 1)
    depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels)
    return nn.Sequential(depthwise, nn.Conv2d(channels, channels, 1))


class ImageEncoder(nn.Module):
    """Images ``(B, V, 3, H, W)`` to a pyramid of ``(B, V, channels, h, w)``, fine to coarse, in float32.

    Args:
        channels: of every level.
        num_levels: levels given out, the finest ones.
        backbone: turns normalised images into levels; :class:`ResidualBackbone` of ``widths`` if None.
        widths, blocks: channels of the default backbone's stages, and residual blocks in each.
        preprocess: what happens to images before the backbone.
        is_separable: of the :class:`FeaturePyramid`.
        joined: make one level of the last two with :class:`JoinedLevels` instead, with this norm.
        skip_levels: so many of the backbone's finest levels are no part of the pyramid.
        bfloat16: run the convolutions under bfloat16 autocast.

    Raises:
        ConfigError: no level is left for the pyramid.
    """

    def __init__(
        self,
        channels: int = 48,
        *,
        num_levels: int = 2,
        backbone: nn.Module | None = None,
        widths: Sequence[int] = (24, 48, 96),
        blocks: int = 2,
        preprocess: Preprocessing = Preprocessing(),  # noqa: B008 (frozen)
        is_separable: bool = True,
        skip_levels: int = 0,
        joined: NormKind | None = None,
        bfloat16: bool = False,
    ):
        super().__init__()
        self.channels, self.num_levels, self.autocast = channels, num_levels, bfloat16
        self.skip_levels = skip_levels
        self.preprocess = preprocess
        self.backbone = ResidualBackbone(widths, blocks) if backbone is None else backbone
        inputs: tuple[int, ...] = tuple(self.backbone.channels)[skip_levels:]  # pyright: ignore
        if not inputs:
            raise ConfigError(
                f"an image pyramid must have a level of the backbone; got {len(self.backbone.channels)} "  # type: ignore[arg-type]
                f"levels of which {skip_levels} are skipped. Lower skip_levels."
            )
        self.pyramid = (
            FeaturePyramid(inputs, channels, num_levels, is_separable)
            if joined is None
            else JoinedLevels(inputs, channels, joined)
        )
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: UInt8[Tensor, "B V 3 H W"] | Float[Tensor, "B V 3 H W"]) -> list[Tensor]:
        return self.with_finest(images)[0]

    def with_finest(
        self, images: UInt8[Tensor, "B V 3 H W"] | Float[Tensor, "B V 3 H W"]
    ) -> tuple[list[Tensor], Float[Tensor, "B V _ _ _"]]:
        """The pyramid, and the backbone's finest level as it is."""
        x = self._prepared(images)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            levels = self.backbone(x)
            pyramid = self.pyramid(levels[self.skip_levels :])
        return [_by_view(level, images, x) for level in pyramid], _by_view(levels[0], images, x)

    def finest(self, images: UInt8[Tensor, "B V 3 H W"] | Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B V _ _ _"]:
        """The backbone's finest level alone; cheaper where the backbone can stop there."""
        x = self._prepared(images)
        first_level = getattr(self.backbone, "first_level", lambda pixels: self.backbone(pixels)[0])
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            return _by_view(first_level(x), images, x)

    def _prepared(self, images: Tensor) -> Float[Tensor, "N 3 H W"]:
        flat = images.flatten(0, 1)
        if len(flat) == 0:  # convolutions refuse an empty batch: one blank image tells the shapes
            flat = images.new_zeros(1, 3, 64, 64)
        x = self.preprocess(flat, like=next(self.pyramid.parameters()))
        return x.contiguous(memory_format=torch.channels_last)


def _by_view(level: Tensor, images: Tensor, like: Tensor) -> Float[Tensor, "B V _ _ _"]:
    batch, views = images.shape[:2]
    return level[: batch * views].to(like.dtype).unflatten(0, (batch, views))


def reset_convolutions(module: nn.Module, nonlinearity: Literal["relu", "linear"]) -> None:
    """Start values that keep the features' variance through convolutions followed by ``nonlinearity``."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, nonlinearity=nonlinearity)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)


def _reset_as_published(module: nn.Module) -> None:
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]
