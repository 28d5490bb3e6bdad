"""Residual networks over voxels (OccFlowNet spec 1.4 and 1.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lexivox.encoders.norms import NormKind, norm3d


class ConvNorm3d(nn.Module):
    """A convolution without bias and its norm."""

    def __init__(self, in_channels: int, channels: int, norm: NormKind, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, channels, kernel, stride, kernel // 2, bias=False)
        self.norm = norm3d(norm, channels)

    def forward(self, x: Float[Tensor, "B _ X Y Z"]) -> Float[Tensor, "B _ _ _ _"]:
        return self.norm(self.conv(x))


class VolumeBlock(nn.Module):
    """Two 3x3x3 convolutions around a shortcut; the first block of a stage has a third one there."""

    def __init__(self, in_channels: int, channels: int, norm: NormKind, stride: int, has_shortcut: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm3d(in_channels, channels, norm, stride=stride)
        self.conv2 = ConvNorm3d(channels, channels, norm)
        self.shortcut = ConvNorm3d(in_channels, channels, norm, stride=stride) if has_shortcut else nn.Identity()
        self.checkpointing = False

    def forward(self, x: Float[Tensor, "B _ X Y Z"]) -> Float[Tensor, "B _ _ _ _"]:
        again = self.checkpointing and torch.is_grad_enabled()
        return checkpoint(self._block, x, use_reentrant=False) if again else self._block(x)  # type: ignore[return-value]

    def _block(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


def volume_stage(in_channels: int, channels: int, blocks: int, stride: int, norm: NormKind) -> nn.Sequential:
    """Blocks of one resolution."""
    first = VolumeBlock(in_channels, channels, norm, stride, has_shortcut=True)
    return nn.Sequential(first, *[VolumeBlock(channels, channels, norm, 1, False) for _ in range(blocks - 1)])


class VolumeEncoder(nn.Module):
    """A volume to one that has looked around: stages of falling resolution, brought back and joined.

    Args:
        in_channels: of the volume.
        widths, blocks: channels and blocks of the stages; each but the first halves the resolution.
        joined_channels: after the stages are joined.
        channels: given out.
        norm: of all convolutions.
        align_corners: as published: coarse stages are enlarged so that their outermost *centres* lie on those of the
            finest, which shifts them by up to half a coarse voxel. False keeps every centre in its place.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        widths: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (1, 2, 4),
        joined_channels: int = 32,
        channels: int = 64,
        norm: NormKind = "group",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        before = [in_channels, *widths[:-1]]
        self.stages = nn.ModuleList(
            volume_stage(c_in, c_out, n, 1 if i == 0 else 2, norm)
            for i, (c_in, c_out, n) in enumerate(zip(before, widths, blocks, strict=True))
        )
        self.join = ConvNorm3d(sum(widths), joined_channels, norm, kernel=1)
        self.last = nn.Conv3d(joined_channels, channels, 3, 1, 1)
        self.channels, self.align_corners = channels, align_corners

    def forward(self, volume: Float[Tensor, "B _ X Y Z"]) -> Float[Tensor, "B C X Y Z"]:
        levels, x = [], volume
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        joined = F.relu(self.join(torch.cat([self._enlarged(level, levels[0]) for level in levels], dim=1)))
        return F.relu(self.last(joined))

    def _enlarged(self, level: Tensor, finest: Tensor) -> Tensor:
        size = finest.shape[2:]
        if level.shape[2:] == size:
            return level
        return F.interpolate(level, size=size, mode="trilinear", align_corners=self.align_corners)
