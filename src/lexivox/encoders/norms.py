"""Norms of convolutional networks, in two and three dimensions."""

from __future__ import annotations

from typing import Literal

from torch import nn

NormKind = Literal["group", "batch"]
"""``"group"`` is the same in training and afterwards and knows no neighbours, which suits one sample a step;
``"batch"`` is what the published encoders have, and what their weights need."""


def norm2d(kind: NormKind, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else group_norm(channels)


def norm3d(kind: NormKind, channels: int) -> nn.Module:
    return nn.BatchNorm3d(channels) if kind == "batch" else group_norm(channels)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with groups of 8 channels where they divide, else the widest that do."""
    size = next(n for n in (8, 6, 4, 3, 2, 1) if channels % n == 0)
    return nn.GroupNorm(channels // size, channels)
