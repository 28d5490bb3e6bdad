"""What the last attention of an image transformer does with its values (spec ovpanoptic 8.2).

CLIP learns what an image is about, not what a patch is about: in its last attention the patches exchange their
meaning. Without any training, other weights at this one place make the patches speak for themselves.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

LastAttention = Literal["plain", "value", "sclip", "clearclip", "naclip"]
"""Weights of the values: as trained; none (MaskCLIP); queries with queries and keys with keys (SCLIP); queries
with queries (ClearCLIP); keys with keys, near patches preferred (NACLIP)."""

DROPS_REST: frozenset[LastAttention] = frozenset({"clearclip", "naclip"})
"""Those that also leave out the block's shortcut and its feed-forward part."""

NEIGHBOURHOOD_PATCHES = 5.0


def mix_values(
    query: Float[Tensor, "V T C"],
    key: Float[Tensor, "V T C"],
    value: Float[Tensor, "V T C"],
    num_heads: int,
    kind: LastAttention,
    grid_hw: tuple[int, int],
) -> Float[Tensor, "V T C"]:
    """Values after the attention, before its output projection.

    Args:
        query, key, value: projected tokens; what stands before the patches (class token) comes first.
        num_heads: of the attention; C is split among them.
        kind: which weights.
        grid_hw: rows and columns of the patches.
    """
    if kind == "value":
        return value
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))  # (V, heads, T, c)
    weight = _weights(q, k, kind, grid_hw)
    return (weight @ v).transpose(1, 2).flatten(2)


def _weights(q: Tensor, k: Tensor, kind: LastAttention, grid_hw: tuple[int, int]) -> Float[Tensor, "V N T T"]:
    scale = q.shape[-1] ** -0.5
    if kind == "sclip":
        return _softmax(q, q, scale) + _softmax(k, k, scale)
    if kind == "clearclip":
        return _softmax(q, q, scale)
    if kind == "naclip":
        near = neighbourhood(grid_hw, q.shape[2] - grid_hw[0] * grid_hw[1]).to(q)
        return (k @ k.transpose(-1, -2) * scale + near).softmax(dim=-1)
    return _softmax(q, k, scale)


def _softmax(a: Tensor, b: Tensor, scale: float) -> Tensor:
    return (a @ b.transpose(-1, -2) * scale).softmax(dim=-1)


def neighbourhood(grid_hw: tuple[int, int], num_extra: int) -> Float[Tensor, "T T"]:
    """Added to the logits of NACLIP: a Gaussian of the distance in patches, 0 for the ``num_extra`` first tokens."""
    row, col = torch.meshgrid(*(torch.arange(float(side)) for side in grid_hw), indexing="ij")
    place = torch.stack([row.flatten(), col.flatten()], dim=-1)
    squared = (place[:, None] - place).square().sum(dim=-1)
    near = torch.zeros(2 * (num_extra + len(place),))
    near[num_extra:, num_extra:] = torch.exp(-squared / (2 * NEIGHBOURHOOD_PATCHES**2))
    return near
