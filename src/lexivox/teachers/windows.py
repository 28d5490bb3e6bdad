"""Large images piece by piece: overlapping windows, averaged where they overlap (spec ovpanoptic 8.4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Dense = Callable[[Tensor], Tensor]
"""Pixels (1, 3, H, W), sides whole patches, to features (1, D, H / patch, W / patch)."""


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """First cells of the windows along one side; the last one ends at the border.

    Every cell is covered once ``stride <= window``.
    """
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def slide(
    dense: Dense, pixels: Float[Tensor, "1 3 H W"], patch_px: int, window_px: int, stride_px: int
) -> Float[Tensor, "1 D h w"]:
    """Mean over all windows of a cell's unit features.

    Features are made unit in each window first: their length says how sure the network is of a whole window, and
    would otherwise decide which window is heard.

    Args:
        dense: the network.
        pixels: an image whose sides are whole patches.
        patch_px: pixels of a cell.
        window_px, stride_px: sides and steps of the windows, rounded to whole patches.
    """
    grid_h, grid_w = pixels.shape[-2] // patch_px, pixels.shape[-1] // patch_px
    window, stride = (max(1, round(side / patch_px)) for side in (window_px, stride_px))
    total = pixels.new_zeros(1, 1, grid_h, grid_w)
    count = pixels.new_zeros(grid_h, grid_w)
    for top in window_starts(grid_h, window, stride):
        for left in window_starts(grid_w, window, stride):
            rows, cols = slice(top, top + window), slice(left, left + window)
            piece = pixels[..., _in_px(rows, patch_px), _in_px(cols, patch_px)]
            features = F.normalize(dense(piece), dim=1)
            if total.shape[1] == 1:  # the first window tells how many channels there are
                total = total.expand(1, features.shape[1], grid_h, grid_w).clone()
            total[..., rows, cols] += features
            count[rows, cols] += 1
    return total / count


def _in_px(cells: slice, patch_px: int) -> slice:
    return slice(cells.start * patch_px, cells.stop * patch_px)


def resize_short_side(image: Float[Tensor, "1 3 H W"], short_side_px: int, patch_px: int) -> Float[Tensor, "1 3 h w"]:
    """The image with about this short side, its ratio kept, both sides whole patches; values stay in 0..255."""
    scale = short_side_px / min(image.shape[-2:])
    size = [max(1, round(side * scale / patch_px)) * patch_px for side in image.shape[-2:]]
    resized = F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)
    return torch.clamp(resized, 0, 255)
