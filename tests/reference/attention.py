"""The published attention blocks (spec POP-3D 2.5), one query, camera and head at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from lexivox.ops.attention import ImageCrossAttention, PlaneSelfAttention
from tests.reference.sampling import deformable


def _read(value: Tensor, level_hw: list[tuple[int, int]], places: Tensor, weights: Tensor) -> Tensor:
    arrays = (x.detach().numpy() for x in (places[None], weights[None]))
    return torch.from_numpy(deformable(value.detach().numpy(), level_hw, *arrays))[0]


def plane_self_attention(
    block: PlaneSelfAttention, query: Tensor, position: Tensor, reference: Tensor, plane_hw: tuple[int, int]
) -> Tensor:
    """One sample ``(Q, C)``: two equal copies of the plane, each with its own offsets, and their mean."""
    height, width = plane_hw
    value = block.value_proj(query).unflatten(-1, (block.num_heads, -1))
    rows = []
    for q in range(len(query)):
        both = torch.cat([query[q], query[q] + position[q]])
        offsets = block.sampling_offsets(both).view(block.num_heads, 2, 1, block.num_points, 2)
        weights = block.attention_weights(both).view(block.num_heads, 2, 1, block.num_points).softmax(-1)
        places = reference[q] + offsets / torch.tensor([width, height])
        copies = [_read(value, [plane_hw], places[:, copy], weights[:, copy]) for copy in (0, 1)]
        rows.append(query[q] + block.output_proj((copies[0] + copies[1]) / 2))
    return torch.stack(rows)


def image_cross_attention(
    block: ImageCrossAttention,
    plane: int,
    query: Tensor,
    uv: Tensor,
    visible: Tensor,
    tokens: Tensor,
    level_hw: list[tuple[int, int]],
) -> Tensor:
    """One sample and plane: query (Q, C), uv (V, Q, D, 2), visible (V, Q, D), tokens (V, T, C)."""
    heads, levels, depth, around = (
        block.num_heads,
        block.num_levels,
        block.anchors[plane],
        block.points_per_anchor,
    )
    value = block.value_proj(tokens).unflatten(-1, (heads, -1))
    size = torch.tensor([(w, h) for h, w in level_hw], dtype=query.dtype)
    rows = []
    for q in range(len(query)):
        slot, seeing = torch.zeros_like(query[q]), 0
        offsets = block.sampling_offsets[plane](query[q]).view(heads, levels, depth, around, 2)
        weights = block.attention_weights[plane](query[q]).view(heads, -1).softmax(-1)
        for v in range(len(uv)):
            if visible[v, q].any():
                seeing += 1
                places = uv[v, q][None, None, :, None] + offsets / size[None, :, None, None]
                shaped = weights.view(heads, levels, depth * around)
                slot = slot + _read(value[v], level_hw, places.flatten(2, 3), shaped)
        rows.append(query[q] + block.output_proj(slot / max(1, seeing)))
    return torch.stack(rows)
