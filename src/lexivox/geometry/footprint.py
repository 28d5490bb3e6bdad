"""The smallest rectangle around points on the ground: the footprint of an oriented box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lexivox.errors import ShapeError


@dataclass(frozen=True, slots=True)
class Rectangle:
    """An oriented rectangle.

    Attributes:
        center: x, y in metres.
        size_m: length and width, the length at least the width.
        yaw_rad: direction of the length, counter-clockwise from x, in (-pi/2, pi/2].
    """

    center: tuple[float, float]
    size_m: tuple[float, float]
    yaw_rad: float


def min_area_rectangle(xy: Float[Tensor, "P 2"]) -> Rectangle:
    """The rectangle of least area around points; one of its sides lies along a side of their convex hull.

    Of equal areas the one turned least is taken, so that what lies along the axes stays along them.

    Raises:
        ShapeError: no points.
    """
    if len(xy) == 0:
        raise ShapeError("a rectangle must enclose at least one point; got none.")
    corners = convex_hull(xy.to(torch.float64))
    edges = corners.roll(-1, dims=0) - corners
    angles = torch.atan2(edges[:, 1], edges[:, 0]) % (math.pi / 2)
    angles = torch.cat([torch.zeros(1, dtype=torch.float64), angles])
    axes = torch.stack([angles.cos(), angles.sin(), -angles.sin(), angles.cos()], dim=-1).view(-1, 2, 2)
    along = axes @ corners.T  # (angle, axis, corner)
    lower, upper = along.amin(dim=-1), along.amax(dim=-1)
    area = (upper - lower).prod(dim=-1)
    turned = torch.minimum(angles, math.pi / 2 - angles)
    # Rounding must not choose between equal areas.
    best = int(torch.where(area <= area.min() * (1 + 1e-9) + 1e-12, turned, torch.inf).argmin())
    center = ((lower[best] + upper[best]) / 2) @ axes[best]
    return _lengthwise(center, upper[best] - lower[best], float(angles[best]))


def _lengthwise(center: Tensor, size: Tensor, angle: float) -> Rectangle:
    length, width = size.tolist()
    if width > length + 1e-9:
        length, width, angle = width, length, angle + math.pi / 2
    yaw = (angle + math.pi / 2 - 1e-12) % math.pi - math.pi / 2 + 1e-12 if abs(angle) > 1e-12 else 0.0
    return Rectangle((float(center[0]), float(center[1])), (length, width), yaw)


def convex_hull(xy: Float[Tensor, "P 2"]) -> Float[Tensor, "Q 2"]:
    """Corners of the convex hull, counter-clockwise, without points on its sides (Andrew's monotone chain)."""
    points = sorted(set(map(tuple, xy.tolist())))
    if len(points) < 3:
        return torch.tensor(points, dtype=xy.dtype).reshape(-1, 2)
    chains = [_chain(points), _chain(points[::-1])]
    return torch.tensor(chains[0][:-1] + chains[1][:-1], dtype=xy.dtype)


def _chain(points: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    chain: list[tuple[float, ...]] = []
    for point in points:
        while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
            chain.pop()
        chain.append(point)
    return chain


def _turn(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...]) -> float:
    """Above 0 where the way from a over b to c turns left."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
