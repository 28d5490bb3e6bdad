"""Single pixels of a map that is enlarged several times, without making the large maps (spec pop3d 5.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def resize_taps(sizes: Sequence[int]) -> tuple[Int64[Tensor, "N K"], Float[Tensor, "N K"]]:
    """Cells and weights that make each pixel of a row after linear resizing from size to size.

    Args:
        sizes: the row's cells first, its N pixels last.
    """
    row = torch.eye(sizes[0], dtype=torch.float64)[None]
    for size in sizes[1:]:
        row = F.interpolate(row, size=size, mode="linear", align_corners=False)
    matrix = row[0].T  # (N, cells)
    is_used = matrix > 0
    first = is_used.int().argmax(dim=1)
    reach = int((is_used.int().cumsum(dim=1).argmax(dim=1) - first).max()) + 1
    cells = first.clamp(max=sizes[0] - reach)[:, None] + torch.arange(reach)
    return cells, matrix.gather(1, cells)


def sample_resized(
    maps: Float[Tensor, "1 D h w"],
    row: Int64[Tensor, "P"],
    column: Int64[Tensor, "P"],
    sizes_hw: Sequence[tuple[int, int]],
) -> Float[Tensor, "P D"]:
    """What stands at pixels after bilinear resizing to each of ``sizes_hw`` in turn (half-pixel centres).

    Bilinear resizing is separable and linear, so a pixel is a small weighted sum of cells of the first map.

    Args:
        row, column: in the last size.
    """
    height, width = maps.shape[-2:]
    (cell_v, weight_v), (cell_u, weight_u) = (
        resize_taps([height, *(hw[0] for hw in sizes_hw)]),
        resize_taps([width, *(hw[1] for hw in sizes_hw)]),
    )
    flat = maps[0].flatten(1).T  # (h * w, D)
    total = flat.new_zeros(len(row), maps.shape[1])
    for i in range(cell_v.shape[1]):
        for j in range(cell_u.shape[1]):
            weight = weight_v[row, i] * weight_u[column, j]
            total += flat[cell_v[row, i] * width + cell_u[column, j]] * weight[:, None].to(flat)
    return total


def fit_within(image_hw: tuple[int, int], limit_hw: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same ratio within ``limit_hw``, or within it turned by 90 degrees for tall images."""
    scale = min(max(limit_hw) / max(image_hw), min(limit_hw) / min(image_hw))
    return int(image_hw[0] * scale + 0.5), int(image_hw[1] * scale + 0.5)
