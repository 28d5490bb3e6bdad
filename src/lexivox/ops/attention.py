"""The two attention blocks of a triplane encoder: the top plane reads itself, all planes read the images.

Both are deformable: a query names the places it reads and how much each counts. Nothing is computed for a
query and a camera that cannot see each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lexivox.ops.sampling import deformable_gather, multi_scale_deformable_sampling


@dataclass(frozen=True, slots=True, eq=False)
class SeenQueries:
    """The (camera, query) pairs of one plane where at least one anchor of the query lies in the image.

    The pairs stand camera by camera (sample-major), the order :func:`deformable_gather` wants.

    Attributes:
        sample, query: which sample and which query of the plane each pair belongs to.
        uv: all anchors of the query in that camera, in [0, 1] of the image; those outside are kept, unmasked.
        count: pairs of each of the B * V cameras.
        share: one over the number of cameras that see the query; 1 where none does.
    """

    sample: Int64[Tensor, "R"]
    query: Int64[Tensor, "R"]
    uv: Float[Tensor, "R D 2"]
    count: tuple[int, ...]
    share: Float[Tensor, "B Q"]

    @classmethod
    def from_projection(cls, uv: Float[Tensor, "B V Q D 2"], visible: Bool[Tensor, "B V Q D"]) -> SeenQueries:
        seen = visible.any(-1)  # (B, V, Q)
        sample, view, query = seen.nonzero(as_tuple=True)
        share = 1.0 / seen.sum(1).clamp_min(1).to(uv.dtype)
        return cls(sample, query, uv[sample, view, query], tuple(seen.sum(-1).flatten().tolist()), share)


class PlaneSelfAttention(nn.Module):
    """Deformable self-attention of the top plane ("cross-view hybrid attention", spec POP-3D 2.5a).

    The published block attends to a queue of two equal copies of the plane and averages the two results; one
    read with twice the points and half the weights gives the same. Offsets and weights are predicted from
    ``[query, query + position]``; their rows run (head, copy, point, xy).
    """

    copies = 2

    def __init__(self, channels: int, num_heads: int, num_points: int = 4, dropout: float = 0.1):
        super().__init__()
        samples = num_heads * self.copies * num_points
        self.num_heads, self.num_points = num_heads, num_points
        self.sampling_offsets = nn.Linear(2 * channels, samples * 2)
        self.attention_weights = nn.Linear(2 * channels, samples)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        star = star_offsets(self.num_heads, self.num_points)  # (heads, points, 2)
        star = star[:, None].expand(-1, self.copies, -1, -1)
        reset_deformable(self.sampling_offsets, self.attention_weights, star)
        reset_projections(self.value_proj, self.output_proj)

    def forward(
        self,
        query: Float[Tensor, "B Q C"],
        position: Float[Tensor, "Q C"],
        reference: Float[Tensor, "Q 2"],
        plane_hw: tuple[int, int],
    ) -> Float[Tensor, "B Q C"]:
        """``reference``: the queries' own places in [0, 1] of the plane, (x along the width, y)."""
        heads = (self.num_heads, self.copies, self.num_points)
        both = torch.cat([query, query + position], dim=-1)
        offsets = self.sampling_offsets(both).unflatten(-1, (*heads, 2))
        weights = self.attention_weights(both).unflatten(-1, heads).softmax(-1) / self.copies
        size = query.new_tensor([plane_hw[1], plane_hw[0]])
        places = reference[:, None, None, None, :] + offsets / size
        value = self.value_proj(query).unflatten(-1, (self.num_heads, -1))
        read = multi_scale_deformable_sampling(
            value, [plane_hw], places.flatten(3, 4)[:, :, :, None], weights.flatten(3, 4)[:, :, :, None]
        )
        return query + self.dropout(self.output_proj(read))


class ImageCrossAttention(nn.Module):
    """Queries of all planes read the images where their anchors project (spec POP-3D 2.5b).

    Anchors of a seen query that fall outside an image are not masked: they read zeros and keep their softmax
    weight. A query gets the mean over the cameras that see it, 0 where none does. Rows of the fused linears
    run (head, level, anchor, point[, xy]), anchor-major as in TPVFormer (BEVFormer has it point-major).
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        num_levels: int,
        anchors: Sequence[int],
        points_per_anchor: int = 2,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.num_heads, self.num_levels = num_heads, num_levels
        self.anchors, self.points_per_anchor = tuple(anchors), points_per_anchor
        samples = [num_heads * num_levels * depth * points_per_anchor for depth in self.anchors]
        self.sampling_offsets = nn.ModuleList(nn.Linear(channels, n * 2) for n in samples)
        self.attention_weights = nn.ModuleList(nn.Linear(channels, n) for n in samples)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        star = star_offsets(self.num_heads, self.points_per_anchor)[:, None, None]
        for depth, offsets, weights in zip(self.anchors, self.sampling_offsets, self.attention_weights, strict=True):
            reset_deformable(offsets, weights, star.expand(-1, self.num_levels, depth, -1, -1))
        reset_projections(self.value_proj, self.output_proj)

    def forward(
        self,
        queries: Sequence[Float[Tensor, "B _ C"]],
        seen: Sequence[SeenQueries],
        tokens: Float[Tensor, "N T C"],
        level_hw: Sequence[tuple[int, int]],
    ) -> Float[Tensor, "B Q C"]:
        """Queries plane by plane with the pairs of each; ``tokens`` of the N = B * V cameras."""
        value = self.value_proj(tokens).unflatten(-1, (self.num_heads, -1))
        slots = [self._read(plane, query, seen[plane], value, level_hw) for plane, query in enumerate(queries)]
        return torch.cat(list(queries), 1) + self.dropout(self.output_proj(torch.cat(slots, 1)))

    def _read(
        self,
        plane: int,
        query: Float[Tensor, "B Q C"],
        seen: SeenQueries,
        value: Float[Tensor, "N T heads c"],
        level_hw: Sequence[tuple[int, int]],
    ) -> Float[Tensor, "B Q C"]:
        batch, num_queries, channels = query.shape
        shape = (self.num_heads, self.num_levels, self.anchors[plane], self.points_per_anchor)
        row = seen.sample * num_queries + seen.query
        # Linear layers, softmax and scale run once per query; a pair copies the rows of its query.
        size = query.new_tensor([(w, h) for h, w in level_hw])[:, None, None, :]
        offsets = self.sampling_offsets[plane](query).flatten(0, 1).unflatten(-1, (*shape, 2)) / size
        weights = self.attention_weights[plane](query).unflatten(-1, (self.num_heads, -1)).softmax(-1).flatten(0, 1)
        weights = weights.index_select(0, row).unflatten(-1, (self.num_levels, -1))
        places = offsets.index_select(0, row) + seen.uv[:, None, None, :, None, :]
        read = deformable_gather(value, level_hw, places.flatten(3, 4), weights, seen.count)
        slot = query.new_zeros(batch * num_queries, channels).index_add(0, row, read.to(query.dtype))
        return slot.unflatten(0, (batch, num_queries)) * seen.share[..., None]


def star_offsets(num_heads: int, num_points: int) -> Float[Tensor, "heads S 2"]:
    """Start offsets: head k looks in direction k of a star, point i by i + 1 cells (Deformable DETR)."""
    angle = torch.arange(num_heads) * (2.0 * math.pi / num_heads)
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    return direction[:, None] * torch.arange(1.0, num_points + 1.0)[:, None]


def reset_deformable(offsets: nn.Module, weights: nn.Module, star: Tensor) -> None:
    """Every query starts with the star's offsets and equal weights; both modules are Linear."""
    assert isinstance(offsets, nn.Linear)
    assert isinstance(weights, nn.Linear)
    nn.init.zeros_(offsets.weight)
    nn.init.zeros_(weights.weight)
    nn.init.zeros_(weights.bias)
    with torch.no_grad():
        offsets.bias.copy_(star.reshape(-1))


def reset_projections(*layers: nn.Linear) -> None:
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
