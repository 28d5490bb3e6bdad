"""How alike a pixel looks at each depth in an earlier image of the same camera (OccFlowNet spec 1.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexivox.geometry.frustum import Places, cell_pixels

BEHIND_M = 1e-3
"""Points nearer to the other camera's plane than this are not seen by it."""

UNSEEN_COST = 5.0
"""Added where the other image does not show the place: unlikely, but not impossible."""


@torch.no_grad()
def cost_volume(
    current: Float[Tensor, "N C h w"],
    other: Float[Tensor, "N C h w"],
    motion: tuple[Float[Tensor, "N 3 3"], Float[Tensor, "N 3"]],
    depths_m: Float[Tensor, "D"],
    image_hw: tuple[int, int],
    places: Places = "centres",
) -> Float[Tensor, "N D h w"]:
    """Probability of each depth from sums of absolute differences, by a softmax over depths; no gradient.

    One view and one depth at a time: memory beyond the result is three times one view's features.

    Args:
        current, other: features of the same channels, of pixels now and in the other image.
        motion: from :func:`lexivox.geometry.frustum.pixel_motion`, of each view.
        depths_m: what the bins stand for.
        image_hw: size of the images that the maps cover.
        places: what cells stand for.
    """
    cells_hw = (current.shape[-2], current.shape[-1])
    uv = cell_pixels(cells_hw, image_hw, places).to(current.device)
    homogeneous = torch.cat([uv, torch.ones_like(uv[..., :1])], dim=-1)
    cost = current.new_zeros(current.shape[0], len(depths_m), *cells_hw, dtype=torch.float32)
    for view, (matrix, shift) in enumerate(zip(*motion, strict=True)):
        turned = homogeneous @ matrix.to(homogeneous).T  # (h, w, 3)
        for depth, depth_m in enumerate(depths_m.tolist()):
            cell = _cells((turned * depth_m + shift.to(turned)), cells_hw, image_hw, places)
            cost[view, depth] = _difference(current[view], other[view], cell)
    return (-cost).softmax(dim=1)


def _cells(
    homogeneous: Float[Tensor, "h w 3"], cells_hw: tuple[int, int], image_hw: tuple[int, int], places: Places
) -> Float[Tensor, "h w 2"]:
    """Continuous indices (column, row), cell i being centred at i; far outside for what lies behind."""
    uv, depth_m = homogeneous[..., :2], homogeneous[..., 2:]
    uv = uv / depth_m.clamp_min(BEHIND_M)
    (h, w), (height, width) = cells_hw, image_hw
    if places == "centres":
        cell = uv * uv.new_tensor([w / width, h / height]) - 0.5
    else:
        cell = uv * uv.new_tensor([(w - 1) / (width - 1), (h - 1) / (height - 1)])
    return torch.where(depth_m < BEHIND_M, -2.0, cell.clamp(-2.0, 2.0 * max(h, w))).float()


def _difference(
    current: Float[Tensor, "C h w"], other: Float[Tensor, "C h w"], cell: Float[Tensor, "h w 2"]
) -> Float[Tensor, "h w"]:
    size = cell.new_tensor(current.shape[:0:-1])  # w, h
    read = F.grid_sample(other[None], ((2.0 * cell + 1.0) / size - 1.0).to(other)[None], align_corners=False)[0]
    unseen = ((cell <= -1.0) | (cell >= size)).any(dim=-1)
    return (current - read).abs().sum(dim=0, dtype=torch.float32) + UNSEEN_COST * unseen
