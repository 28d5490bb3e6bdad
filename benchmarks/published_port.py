"""POP-3D's published forward pass written down straightforwardly in torch: what ``pop3d_speed.py`` measures against.

Each step does what the text says, with the weights of our own modules: convolution, then batch norm, then ReLU, in
torch's default memory layout; a deformable convolution reads tap by tap with ``grid_sample`` into columns;
cross-attention copies the seen queries of every camera into lists padded to the longest, runs the linear layers on
these, reads every level with ``grid_sample``, stacks what was read, and takes the 64 samples of a side plane in 8
chunks. Differences to our modules are rounding only; the benchmark checks that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexivox.backbones.resnet import Bottleneck, ResNet
from lexivox.data.types import Cameras
from lexivox.encoders.image import FeaturePyramid, ImageEncoder
from lexivox.encoders.triplane import TriplaneEncoder
from lexivox.heads.pointwise import PointwiseHead
from lexivox.ops.attention import ImageCrossAttention, PlaneSelfAttention
from lexivox.ops.deform_conv import ModulatedDeformConv2d

Clock = Callable[[str], AbstractContextManager[None]]
CHUNKS = 8


def forward(
    image: ImageEncoder, planes: TriplaneEncoder, heads: Sequence[PointwiseHead], cameras: Cameras, clock: Clock
) -> list[Tensor]:
    """Outputs of the heads at all voxels, (B, X, Y, Z, K) each."""
    pixels = image.preprocess(cameras.images.flatten(0, 1), like=planes.level_embedding)
    with clock("backbone"):
        stages = backbone(image.backbone, pixels)  # type: ignore[arg-type]
    with clock("neck"):
        levels = neck(image.pyramid, stages)
    queries = triplane(planes, levels, image.preprocess.cameras(cameras), clock)
    with clock("heads"):
        volume = planes.field_from_tokens(queries).dense().movedim(1, -1)
        return [pointwise(head, volume) for head in heads]


def backbone(resnet: ResNet, x: Tensor) -> list[Tensor]:
    x = F.max_pool2d(F.relu(norm(resnet.bn1, resnet.conv1(x))), 3, 2, 1)
    levels = []
    for stage in (1, 2, 3, 4):
        for block in resnet.get_submodule(f"layer{stage}").children():
            x = bottleneck(block, x)  # type: ignore[arg-type]
        if stage in resnet.out_stages:
            levels.append(x)
    return levels


def norm(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0.0, bn.eps)


def bottleneck(block: Bottleneck, x: Tensor) -> Tensor:
    y = F.relu(norm(block.bn1, block.conv1(x)))
    y = deformable(block.conv2, y) if isinstance(block.conv2, ModulatedDeformConv2d) else block.conv2(y)
    y = norm(block.bn3, block.conv3(F.relu(norm(block.bn2, y))))
    if block.downsample is not None:
        conv, bn = block.downsample
        x = norm(bn, conv(x))  # type: ignore[arg-type]
    return F.relu(y + x)


def deformable(conv: ModulatedDeformConv2d, x: Tensor) -> Tensor:
    moved = conv.conv_offset(x)
    offset, mask = moved[:, :18], moved[:, 18:].sigmoid()
    height, width = x.shape[-2:]
    lines = torch.arange(moved.shape[2], device=x.device)[:, None] * conv.stride
    columns = torch.arange(moved.shape[3], device=x.device) * conv.stride
    taps = []
    for tap in range(9):
        line = lines + conv.dilation * (tap // 3 - 1) + offset[:, 2 * tap]
        column = columns + conv.dilation * (tap % 3 - 1) + offset[:, 2 * tap + 1]
        places = torch.stack([(2 * column + 1) / width - 1, (2 * line + 1) / height - 1], -1)
        taps.append(F.grid_sample(x, places.to(x.dtype), align_corners=False) * mask[:, tap, None])
    return F.conv2d(torch.stack(taps, 2).flatten(1, 2), conv.weight.flatten(1)[:, :, None, None])


def neck(pyramid: FeaturePyramid, levels: Sequence[Tensor]) -> list[Tensor]:
    merged = [lateral(level) for lateral, level in zip(pyramid.lateral, levels, strict=True)]
    for i in (1, 0):
        merged[i] = merged[i] + F.interpolate(merged[i + 1], size=merged[i].shape[-2:], mode="nearest")
    outputs = [smooth(level) for smooth, level in zip(pyramid.smooth, merged, strict=False)]
    return [*outputs, pyramid.smooth[3](outputs[-1])]


def triplane(encoder: TriplaneEncoder, levels: Sequence[Tensor], cameras: Cameras, clock: Clock) -> Tensor:
    """Tokens of all planes; one sample."""
    tokens = [level.flatten(2).transpose(1, 2) + encoder.level_embedding[i] for i, level in enumerate(levels)]
    value = torch.cat(tokens, 1) + encoder.camera_embedding[:, None]  # type: ignore[index]
    level_hw = [(level.shape[2], level.shape[3]) for level in levels]
    anchors = [encoder.project_anchors(plane, cameras) for plane in range(3)]
    queries = torch.cat(list(encoder.plane_queries))[None]
    lengths = [h * w for h, w in encoder.plane_hw]
    for layer in encoder.layers:
        top, *sides = queries.split(lengths, 1)
        with clock("self attention"):
            top = self_attention(layer.self_attention, top, encoder._position(), encoder.own_place, encoder.plane_hw[0])
        queries = layer.norms[0](torch.cat([top, *sides], 1))
        with clock("cross attention"):
            queries = cross_attention(layer.cross_attention, queries.split(lengths, 1), anchors, value, level_hw)
        queries = layer.norms[1](queries)
        with clock("feed forward"):
            queries = layer.norms[2](queries + layer.ffn(queries))
    return queries


def self_attention(
    block: PlaneSelfAttention, query: Tensor, position: Tensor, own: Tensor, hw: tuple[int, int]
) -> Tensor:
    """Two equal copies of the plane stand in the batch axis; the mean of what they give is taken."""
    heads, points = block.num_heads, block.num_points
    both = torch.cat([query, query + position], -1)
    value = block.value_proj(query.expand(2, -1, -1)).unflatten(-1, (heads, -1))
    offsets = block.sampling_offsets(both).view(-1, heads, 2, 1, points, 2).permute(2, 0, 1, 3, 4, 5)
    weights = block.attention_weights(both).view(-1, heads, 2, 1, points).softmax(-1).permute(2, 0, 1, 3, 4)
    places = own[:, None, None, None] + offsets / query.new_tensor([hw[1], hw[0]])
    read = deformable_sampling(value, [hw], places, weights)
    return query + block.output_proj(read.mean(0, keepdim=True))


def cross_attention(
    block: ImageCrossAttention,
    queries: Sequence[Tensor],
    anchors: Sequence[tuple[Tensor, Tensor]],
    tokens: Tensor,
    level_hw: Sequence[tuple[int, int]],
) -> Tensor:
    value = block.value_proj(tokens).unflatten(-1, (block.num_heads, -1))
    slots = []
    for plane, query in enumerate(queries):
        uv, visible = (x[0] for x in anchors[plane])  # (V, Q, D[, 2])
        rows = [seen.nonzero()[:, 0] for seen in visible.any(-1)]
        longest = max(len(row) for row in rows)
        listed = query.new_zeros(len(rows), longest, query.shape[2])
        places = query.new_zeros(len(rows), longest, *uv.shape[2:])
        for view, row in enumerate(rows):
            listed[view, : len(row)], places[view, : len(row)] = query[0, row], uv[view, row]
        read = read_cameras(block, plane, listed, places, value, level_hw)
        slot = torch.zeros_like(query[0])
        for view, row in enumerate(rows):
            slot[row] += read[view, : len(row)]
        slots.append(slot / visible.any(-1).sum(0).clamp_min(1)[:, None])
    return torch.cat(list(queries), 1) + block.output_proj(torch.cat(slots))[None]


def read_cameras(
    block: ImageCrossAttention, plane: int, query: Tensor, anchors: Tensor, value: Tensor,
    level_hw: Sequence[tuple[int, int]],
) -> Tensor:  # fmt: skip
    """query (V, Q, C), anchors (V, Q, D, 2), value (V, T, heads, c) -> (V, Q, C)."""
    depth, near = block.anchors[plane], block.points_per_anchor
    shape = (block.num_heads, block.num_levels, depth, near)
    offsets = block.sampling_offsets[plane](query).unflatten(-1, (*shape, 2))
    weights = (
        block.attention_weights[plane](query).unflatten(-1, (block.num_heads, -1)).softmax(-1).unflatten(-1, shape[1:])
    )
    size = query.new_tensor([(w, h) for h, w in level_hw])
    places = anchors[:, :, None, None, :, None] + offsets / size[:, None, None]
    step = depth if depth <= CHUNKS else depth // CHUNKS
    total = 0
    for start in range(0, depth, step):
        own = slice(start, start + step)
        total = total + deformable_sampling(
            value, level_hw, places[:, :, :, :, own].flatten(4, 5), weights[:, :, :, :, own].flatten(4, 5)
        )
    return total  # type: ignore[return-value]


def deformable_sampling(value: Tensor, level_hw: Sequence[tuple[int, int]], places: Tensor, weights: Tensor) -> Tensor:
    """The grid_sample formulation: value (N, T, heads, c), places (N, Q, heads, L, S, 2) -> (N, Q, heads * c)."""
    heads, channels = value.shape[2:]
    read = []
    for level, part in enumerate(value.split([h * w for h, w in level_hw], 1)):
        maps = part.flatten(2).transpose(1, 2).reshape(-1, channels, *level_hw[level])
        grid = (2 * places[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        read.append(F.grid_sample(maps, grid.to(maps.dtype), align_corners=False))  # (N * heads, c, Q, S)
    rows = weights.transpose(1, 2).flatten(0, 1).flatten(2)[:, None]  # (N * heads, 1, Q, L * S)
    summed = (torch.stack(read, -2).flatten(-2) * rows).sum(-1)
    return summed.view(-1, heads * channels, places.shape[1]).transpose(1, 2)


def pointwise(head: PointwiseHead, features: Tensor) -> Tensor:
    return head.classifier(head.decoder(features))
