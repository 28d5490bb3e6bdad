"""How much classes of rays count, and which rays are drawn: rare things must not drown in road."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.types import Rays
from lexivox.errors import ShapeError
from lexivox.geometry.grid import VoxelGrid

RARITY_RATE = 0.005
"""Of the published sampler (RenderOcc; spec occflownet 2.6)."""


def log_inverse_frequency(counts: Sequence[int] | Sequence[float]) -> Float[Tensor, "K"]:
    """Loss weights ``log(sum of counts / count)``, scaled to mean 1, as published (spec occflownet 2.6).

    A class that was never counted weighs like one seen once.

    Raises:
        ShapeError: a count is below zero, or fewer than two classes have any.
    """
    number = torch.tensor(counts, dtype=torch.float64)
    if (number < 0).any() or int((number > 0).sum()) < 2:
        raise ShapeError(f"counts of classes must be 0 or more, two of them above 0; got {list(counts)}.")
    weight = (number.sum() / number.clamp_min(1.0)).log()
    return (weight / weight.mean()).float()


def capped_rarity(
    counts: Sequence[int] | Sequence[float], rate: float = RARITY_RATE, cap: float = 10.0
) -> Float[Tensor, "K"]:
    """Chances of being drawn, ``exp(rate * (largest count / count - 1))``, at most ``cap``.

    RenderOcc has no cap, and draws a bicycle 933 times as eagerly as road (spec occflownet 2.6, A10).
    """
    number = torch.tensor(counts, dtype=torch.float64).clamp_min(1.0)
    return (rate * (number.amax() / number - 1.0)).clamp_max(torch.tensor(cap).log().double()).exp().float()


def by_label(
    table: Float[Tensor, "K"], label: Int64[Tensor, "R"] | None, like: Float[Tensor, "R"]
) -> Float[Tensor, "R"]:
    """The table's value of each label; 1 where there is no label, or none that the table knows."""
    if label is None:
        return torch.ones_like(like)
    known = (label >= 0) & (label < len(table))
    return torch.where(known, table.to(like)[label.clamp(0, len(table) - 1)], 1.0)


def even_over_voxels(grid: VoxelGrid, rays: Rays) -> Float[Tensor, "R"]:
    """Chances that give every voxel with returns of a sweep as many rays, however many returns it holds.

    Most returns are near the car: drawn alike, rays hardly ever tell of a voxel far away. A ray that ends outside the
    grid is drawn as eagerly as the average one that ends inside.
    """
    ends = rays.origins + rays.depth_m[:, None] * rays.directions
    is_inside = grid.contains(ends)
    if not bool(is_inside.any()):
        return torch.ones_like(rays.depth_m)
    keyframe = rays.offset - rays.offset.amin()
    sweep = rays.batch * (keyframe.amax() + 1) + keyframe
    place = (sweep * grid.num_voxels + grid.flat_from_index(grid.index_from_xyz(ends)))[is_inside]
    returns = place.bincount()
    chance = torch.full_like(rays.depth_m, int((returns > 0).sum()) / len(place))
    chance[is_inside] = 1.0 / returns[place]
    return chance


def draw(chance: Float[Tensor, "R"], count: int, generator: torch.Generator) -> Int64[Tensor, "N"]:
    """So many rows without repetition, each as likely as its chance says (Efraimidis and Spirakis 2006).

    All with a chance above 0 where there are no more; in no particular order.
    """
    key = torch.rand(len(chance), generator=generator, dtype=torch.float64).log() / chance.double()
    possible = int((chance > 0).sum())
    return torch.where(chance > 0, key, -torch.inf).topk(min(count, possible)).indices


def draw_shared(
    chance: Float[Tensor, "R"],
    is_now: Bool[Tensor, "R"],
    count: int,
    share_now: float,
    generator: torch.Generator,
) -> Int64[Tensor, "N"]:
    """Like :func:`draw`, but at least ``share_now`` of the rows are of now, if there are as many.

    Neighbouring keyframes outnumber the current one; drawn alike, it would get a seventh of the rays with three on
    each side (spec occflownet A10). A side that has too few leaves its room to the other.
    """
    now, other = (rows.nonzero()[:, 0] for rows in (is_now & (chance > 0), ~is_now & (chance > 0)))
    even = count * len(now) / max(len(now) + len(other), 1)
    wanted = min(max(round(count * share_now), round(even), count - len(other)), len(now))
    return torch.cat(
        [
            now[draw(chance[now], wanted, generator)],
            other[draw(chance[other], count - wanted, generator)],
        ]
    )
