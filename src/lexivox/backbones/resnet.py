"""ResNet-50 and -101 as detectors use them (He et al. 2016): frozen norms, levels of several strides.

Parameters have the names of the published checkpoints, so their state dicts load as they are: ``conv1`` and
``bn1`` (``stem.0`` to ``stem.7`` of a deep stem), ``layer1.0.conv1``, ``layer1.0.downsample.0``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lexivox.errors import ConfigError
from lexivox.ops.deform_conv import ModulatedDeformConv2d

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Blocks of the four stages by depth."""

Style = Literal["caffe", "pytorch"]
"""Where a block that halves the size does so: in its first 1x1 convolution, or in its 3x3."""


class FrozenNorm(nn.BatchNorm2d):
    """Batch norm that never learns: its statistics, scale and shift stay what the checkpoint says.

    :func:`convolve` multiplies it into the kernel before it, which saves a pass over the image and, in training,
    the copy of it that the backward pass would need.
    """

    def __init__(self, channels: int):
        super().__init__(channels)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> FrozenNorm:
        """Stays in evaluation mode."""
        return super().train(False)

    def folded(self, kernel: Float[Tensor, "D C kh kw"]) -> tuple[Float[Tensor, "D C kh kw"], Float[Tensor, "D"]]:
        """Kernel and bias of a convolution that does what one with this kernel and this norm do."""
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        scale = self.weight * (variance + self.eps).rsqrt()
        return kernel * scale[:, None, None, None], self.bias - mean * scale


def convolve(
    conv: nn.Conv2d | ModulatedDeformConv2d, norm: FrozenNorm, x: Float[Tensor, "N C _ _"]
) -> Float[Tensor, "N D _ _"]:
    """``norm(conv(x))`` for a convolution without bias; the result is nobody else's and may be overwritten."""
    kernel, bias = norm.folded(conv.weight)
    if isinstance(conv, ModulatedDeformConv2d):
        y = conv(x, kernel)
        return y.add_(bias[:, None, None].to(y.dtype))
    return F.conv2d(x, kernel, bias, conv.stride, conv.padding, conv.dilation)  # pyright: ignore[reportArgumentType]


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut; the 3x3 may be deformable."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, *, stride: int, dilation: int, style: Style, has_dcn: bool):
        super().__init__()
        out_channels = width * self.expansion
        first, second = (stride, 1) if style == "caffe" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = FrozenNorm(width)
        self.conv2 = (
            ModulatedDeformConv2d(width, width, second, dilation)
            if has_dcn
            else nn.Conv2d(width, width, 3, second, dilation, dilation, bias=False)
        )
        self.bn2 = FrozenNorm(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = FrozenNorm(out_channels)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), FrozenNorm(out_channels))
            if stride > 1 or in_channels != out_channels
            else None
        )

    def forward(self, x: Float[Tensor, "N _ _ _"]) -> Float[Tensor, "N _ _ _"]:
        y = F.relu_(convolve(self.conv1, self.bn1, x))
        y = F.relu_(convolve(self.conv2, self.bn2, y))
        y = convolve(self.conv3, self.bn3, y)
        y += x if self.downsample is None else convolve(*self.downsample, x)  # type: ignore[arg-type]
        return F.relu_(y)


class ResNet(nn.Module):
    """Normalised images to the outputs of chosen stages, fine to coarse.

    Args:
        depth: 50 or 101.
        style: ``"caffe"`` for weights of Caffe and Detectron, ``"pytorch"`` for torchvision's and MoCo's.
        deep_stem: three 3x3 convolutions instead of one 7x7 (the "v1c" of segmenters).
        strides: of the four stages, after the stem's 4.
        dilations: of the four stages' 3x3 convolutions; the first block of a dilated stage has half of it.
        dcn_stages: stages, counted from 1, whose 3x3 convolutions are all deformable.
        frozen_stages: so many stages, and the stem if 1 or more, learn nothing.
        out_stages: stages, counted from 1, whose outputs are given out.
        checkpointing: keep no activations inside a block and compute them again in the backward pass.

    Raises:
        ConfigError: another depth.
    """

    def __init__(
        self,
        depth: int = 50,
        *,
        style: Style = "pytorch",
        deep_stem: bool = False,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        dcn_stages: Sequence[int] = (),
        frozen_stages: int = 0,
        out_stages: Sequence[int] = (2, 3, 4),
        checkpointing: bool = False,
    ):
        super().__init__()
        if depth not in BLOCKS:
            raise ConfigError(f"depth of a ResNet must be one of {', '.join(map(str, BLOCKS))}; got {depth}.")
        self.out_stages, self.checkpointing = tuple(out_stages), checkpointing
        self.channels = tuple(64 * 2 ** (stage - 1) * Bottleneck.expansion for stage in self.out_stages)
        if deep_stem:
            self.stem = _deep_stem()
        else:
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = FrozenNorm(64)
        self.has_deep_stem = deep_stem
        in_channels = 64
        for stage in range(1, max(self.out_stages) + 1):
            width = 64 * 2 ** (stage - 1)
            dilation = dilations[stage - 1]
            blocks = [
                Bottleneck(
                    in_channels if i == 0 else width * Bottleneck.expansion,
                    width,
                    stride=strides[stage - 1] if i == 0 else 1,
                    dilation=max(dilation // 2, 1) if i == 0 else dilation,
                    style=style,
                    has_dcn=stage in dcn_stages,
                )
                for i in range(BLOCKS[depth][stage - 1])
            ]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            in_channels = width * Bottleneck.expansion
        self._reset_parameters()
        self._freeze(frozen_stages)

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> list[Tensor]:
        return self._levels(images, max(self.out_stages))

    def first_level(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N _ _ _"]:
        """The first of the levels alone; later stages are not run."""
        return self._levels(images, self.out_stages[0])[0]

    def _levels(self, images: Tensor, last_stage: int) -> list[Tensor]:
        x = self.stem(images) if self.has_deep_stem else F.relu_(convolve(self.conv1, self.bn1, images))
        x = F.max_pool2d(x, 3, 2, 1)
        levels = []
        for stage in range(1, last_stage + 1):
            for block in self._stage(stage):
                again = self.checkpointing and torch.is_grad_enabled()
                x = checkpoint(block, x, use_reentrant=False) if again else block(x)
            if stage in self.out_stages:
                levels.append(x)
        return levels

    def _stage(self, stage: int) -> nn.Sequential:
        return self.get_submodule(f"layer{stage}")  # type: ignore[return-value]

    def _reset_parameters(self) -> None:
        """Start values for training without a checkpoint."""
        blocks = [module for module in self.modules() if isinstance(module, Bottleneck)]
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for block in blocks:  # a norm that does not learn cannot tame the sum of so many branches
            nn.init.constant_(block.bn3.weight, len(blocks) ** -0.5)

    def _freeze(self, stages: int) -> None:
        if stages:
            parts = [self.stem] if self.has_deep_stem else [self.conv1, self.bn1]
            for part in [*parts, *(self._stage(stage) for stage in range(1, stages + 1))]:
                part.requires_grad_(False)


def _deep_stem() -> nn.Sequential:
    layers: list[nn.Module] = []
    for in_channels, out_channels, stride in ((3, 32, 2), (32, 32, 1), (32, 64, 1)):
        layers += [
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            FrozenNorm(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
