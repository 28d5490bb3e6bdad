"""Oriented boxes standing upright: which points they hold, and carrying points along with them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def box_of_points(
    xyz: Float[Tensor, "P 3"],
    center: Float[Tensor, "N 3"],
    size_m: Float[Tensor, "N 3"],
    yaw_rad: Float[Tensor, "N"],
    margin_m: float = 0.0,
) -> Int64[Tensor, "P"]:
    """Number of the box that holds each point, the nearest centre's where several do; -1 for none.

    Args:
        margin_m: boxes are enlarged by this on every side but the lower one, so that they do not take the ground.
    """
    best = torch.full((len(xyz),), torch.inf, dtype=xyz.dtype, device=xyz.device)
    owner = torch.full((len(xyz),), -1, dtype=torch.int64, device=xyz.device)
    for number in range(len(center)):
        own = into_box(xyz, center[number], yaw_rad[number])
        half = size_m[number].to(own) / 2.0
        inside = (own.abs() <= half + margin_m).all(-1) & (own[:, 2] >= -half[2])
        distance = own.square().sum(-1)
        nearer = inside & (distance < best)
        best = torch.where(nearer, distance, best)
        owner = torch.where(nearer, number, owner)
    return owner


def into_box(xyz: Float[Tensor, "P 3"], center: Float[Tensor, "3"], yaw_rad: Float[Tensor, ""]) -> Float[Tensor, "P 3"]:
    """Points in the box's own axes: x along its length, y to its left, z up, origin in its centre."""
    return _turned(xyz - center.to(xyz), -yaw_rad.to(xyz))


def out_of_box(
    own: Float[Tensor, "P 3"], center: Float[Tensor, "3"], yaw_rad: Float[Tensor, ""]
) -> Float[Tensor, "P 3"]:
    """The inverse of :func:`into_box`."""
    return _turned(own, yaw_rad.to(own)) + center.to(own)


def _turned(xyz: Float[Tensor, "P 3"], yaw_rad: Float[Tensor, ""]) -> Float[Tensor, "P 3"]:
    c, s = yaw_rad.cos(), yaw_rad.sin()
    x, y, z = xyz.unbind(-1)
    return torch.stack([c * x - s * y, s * x + c * y, z], -1)
