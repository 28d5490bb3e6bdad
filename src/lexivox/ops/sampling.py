"""Reading feature maps, volumes and pyramids at continuous places, for packed points.

Points are packed and name the map they read, so nothing is padded. A gather is a weighted sum of table
rows: the cells around a place are found, their weights multiplied out, and :func:`gather_rows` adds the rows
up; cells outside a map weigh nothing, as in ``grid_sample`` with zero padding and ``align_corners=False``.
With long rows that is the fastest way on a CPU; the short rows of attention heads are faster through
``grid_sample`` itself.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from itertools import accumulate

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor


def gather_rows(
    table: Float[Tensor, "N C"], rows: Int64[Tensor, "P K"], weight: Float[Tensor, "P K"]
) -> Float[Tensor, "P C"]:
    """``out[p] = sum over k of weight[p, k] * table[rows[p, k]]``; differentiable in table and weight."""
    if rows.shape[0] == 0 or table.shape[0] == 0:
        return table.new_zeros(rows.shape[0], table.shape[1])
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weight.to(table.dtype))


def gather_ragged_rows(
    table: Float[Tensor, "N C"],
    rows: Int64[Tensor, "R"],
    weight: Float[Tensor, "R"],
    count: Int64[Tensor, "P"],
) -> Float[Tensor, "P C"]:
    """As :func:`gather_rows`, point p owning the next ``count[p]`` rows; 0 for a point without rows."""
    offsets = torch.cumsum(count, 0) - count
    return F.embedding_bag(rows, table, offsets, mode="sum", per_sample_weights=weight.to(table.dtype))


def axis_cells(
    coordinate: Float[Tensor, "*points"], size: int
) -> tuple[Int64[Tensor, "*points 2"], Float[Tensor, "*points 2"]]:
    """The two cells around a continuous cell coordinate (cell i is centred at i + 0.5) and their weights.

    A cell outside [0, size) has weight 0 and a legal index.
    """
    # The clamp keeps points behind a camera (1e7 pixels away) inside the integers; their weights stay 0.
    place = (coordinate - 0.5).clamp(-1.0, float(size))
    low = torch.floor(place.detach())
    part = place - low
    weight = torch.stack([1.0 - part, part], dim=-1)
    cell = torch.stack([low, low + 1.0], dim=-1).to(torch.int64)
    inside = (cell >= 0) & (cell < size)
    return cell.clamp(0, size - 1), weight * inside


def bilinear_cells(
    xy: Float[Tensor, "*points 2"], height: int, width: int
) -> tuple[Int64[Tensor, "*points 4"], Float[Tensor, "*points 4"]]:
    """Rows in a flattened ``(height * width)`` map and weights of the four cells around ``xy`` in cells."""
    column, column_weight = axis_cells(xy[..., 0], width)
    line, line_weight = axis_cells(xy[..., 1], height)
    rows = line[..., :, None] * width + column[..., None, :]
    weight = line_weight[..., :, None] * column_weight[..., None, :]
    return rows.flatten(-2), weight.flatten(-2)


def table_from_maps(maps: Float[Tensor, "N C *size"]) -> Float[Tensor, "T C"]:
    """Cells of all maps as rows: map-major, then the spatial axes in their order."""
    return maps.movedim(1, -1).reshape(-1, maps.shape[1])


def bilinear_gather(
    maps: Float[Tensor, "N C h w"], xy: Float[Tensor, "P 2"], owner: Int64[Tensor, "P"]
) -> Float[Tensor, "P C"]:
    """Bilinear samples of map ``owner[p]`` at ``xy[p]``, in [-1, 1] with x along w; 0 outside."""
    _, _, height, width = maps.shape
    size = xy.new_tensor([width, height])
    rows, weight = bilinear_cells((xy + 1.0) * 0.5 * size, height, width)
    return gather_rows(table_from_maps(maps), rows + owner[:, None] * (height * width), weight)


def trilinear_cells(
    coordinate: Float[Tensor, "P 3"], shape: tuple[int, int, int]
) -> tuple[Int64[Tensor, "P 8"], Float[Tensor, "P 8"]]:
    """Rows in a flattened volume and weights of the eight voxels around continuous voxel coordinates."""
    X, Y, Z = shape
    rows, weight = bilinear_cells(coordinate[:, [1, 0]], X, Y)
    z, z_weight = axis_cells(coordinate[:, 2], Z)
    rows = rows[:, :, None] * Z + z[:, None, :]
    return rows.flatten(1), (weight[:, :, None] * z_weight[:, None, :]).flatten(1)


def trilinear_gather(
    volume: Float[Tensor, "B C X Y Z"], coordinate: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]
) -> Float[Tensor, "P C"]:
    """Trilinear samples at continuous voxel coordinates (voxel i is centred at i + 0.5); 0 outside."""
    _, _, X, Y, Z = volume.shape
    rows, weight = trilinear_cells(coordinate, (X, Y, Z))
    return gather_rows(table_from_maps(volume), rows + batch[:, None] * (X * Y * Z), weight)


def deformable_gather(
    value: Float[Tensor, "N T heads c"],
    level_hw: Sequence[tuple[int, int]],
    locations: Float[Tensor, "P heads L S 2"],
    attention: Float[Tensor, "P heads L S"],
    count: Sequence[int],
) -> Float[Tensor, "P C"]:
    """Multi-scale deformable sampling for packed queries (Deformable DETR, eq. 3, without the projections).

    On CUDA a Triton kernel runs, on a CPU a compiled loop where numba is installed. The kernel's gradients are the
    same in every run under ``torch.use_deterministic_algorithms(True)`` only; the loop's always are.

    Args:
        value: tokens of N pyramids, the levels one after the other, each row-major; any float dtype.
        level_hw: height and width of every level; their areas sum to T.
        locations: where to read, (x, y) in [0, 1] of the image; outside counts 0. Best in float32 or wider:
            bfloat16 knows only 256 places along an image.
        attention: weight of every sample.
        count: how many queries read each pyramid; the queries stand in that order and ``sum(count) == P``.

    Returns:
        The heads' weighted sums side by side, C = heads * c, in the dtype of ``value``.
    """
    if not any(count):  # grid_sample refuses an empty list of places, and kernels an empty grid
        return value.new_zeros(0, value.shape[2] * value.shape[3])
    device = value.device.type
    if device == "cuda" and has_triton():
        return deformable_gather_triton(value, level_hw, locations, attention, count)
    if device == "cpu" and has_numba():
        return deformable_gather_numba(value, level_hw, locations, attention, count)
    return deformable_gather_torch(value, level_hw, locations, attention, count)


@cache
def has_triton() -> bool:
    """True when triton is installed; it comes with torch's builds for CUDA."""
    return importlib.util.find_spec("triton") is not None


@cache
def has_numba() -> bool:
    """True when the optional numba is installed (``pip install lexivox[fast]``)."""
    return importlib.util.find_spec("numba") is not None


def deformable_gather_triton(
    value: Float[Tensor, "N T heads c"],
    level_hw: Sequence[tuple[int, int]],
    locations: Float[Tensor, "P heads L S 2"],
    attention: Float[Tensor, "P heads L S"],
    count: Sequence[int],
) -> Float[Tensor, "P C"]:
    """:func:`deformable_gather` by the Triton kernel, for at least one query."""
    from lexivox.ops.kernels import deformable_triton

    tables = _level_rows(level_hw, torch.int32, value.device), _owner_rows(count, torch.int32, value.device)
    inputs = value.contiguous(), *tables, locations.contiguous(), attention.contiguous()
    return deformable_triton.deformable_gather(*inputs)


def deformable_gather_numba(
    value: Float[Tensor, "N T heads c"],
    level_hw: Sequence[tuple[int, int]],
    locations: Float[Tensor, "P heads L S 2"],
    attention: Float[Tensor, "P heads L S"],
    count: Sequence[int],
) -> Float[Tensor, "P C"]:
    """:func:`deformable_gather` by the compiled loop; tensors on the CPU only."""
    from lexivox.ops.kernels import deformable_numba

    wide = torch.float64 if locations.dtype == torch.float64 else torch.float32
    floats = (x.to(wide).contiguous() for x in (value, locations, attention))
    tables = _level_rows(level_hw, torch.int64, value.device), _owner_rows(count, torch.int64, value.device)
    wide_value, *others = floats
    return deformable_numba.DeformableGather.apply(wide_value, *tables, *others).to(value.dtype)


def _level_rows(level_hw: Sequence[tuple[int, int]], dtype: torch.dtype, device: torch.device) -> Int[Tensor, "L 3"]:
    """Height, width and first token of every level."""
    firsts = accumulate([0, *(height * width for height, width in level_hw)])
    rows = [(height, width, first) for (height, width), first in zip(level_hw, firsts, strict=False)]
    return torch.tensor(rows, dtype=dtype, device=device)


def _owner_rows(count: Sequence[int], dtype: torch.dtype, device: torch.device) -> Int[Tensor, "P"]:
    """Which pyramid each packed query reads."""
    counts = torch.tensor(list(count), dtype=dtype, device=device)
    pyramids = torch.arange(len(count), dtype=dtype, device=device)
    return torch.repeat_interleave(pyramids, counts, output_size=sum(count))


def deformable_gather_torch(
    value: Float[Tensor, "N T heads c"],
    level_hw: Sequence[tuple[int, int]],
    locations: Float[Tensor, "P heads L S 2"],
    attention: Float[Tensor, "P heads L S"],
    count: Sequence[int],
) -> Float[Tensor, "P C"]:
    """:func:`deformable_gather` in torch, on any device, for at least one query."""
    # Cut with split and unbind: their gradients are one copy, those of index slices a full volume each.
    areas = [height * width for height, width in level_hw]
    maps = value.to(locations.dtype).permute(0, 2, 3, 1).split(areas, dim=-1)  # L x (N, heads, c, h * w)
    places = (2.0 * locations - 1.0).permute(2, 1, 0, 3, 4).unbind()  # L x (heads, P, S, 2)
    weights = attention.permute(2, 1, 0, 3).unbind()  # L x (heads, P, S)
    totals = [locations.new_zeros(())] * len(count)
    for level, (height, width) in enumerate(level_hw):
        planes = maps[level].unflatten(-1, (height, width)).unbind()  # N x (heads, c, h, w)
        level_places, level_weights = (
            places[level].split(list(count), 1),
            weights[level].split(list(count), 1),
        )
        for pyramid, queries in enumerate(count):
            if queries:
                read = F.grid_sample(planes[pyramid], level_places[pyramid], align_corners=False)
                totals[pyramid] = totals[pyramid] + (read * level_weights[pyramid][:, None]).sum(-1)
    parts = [total.flatten(0, 1).T for total, queries in zip(totals, count, strict=True) if queries]
    return torch.cat(parts).to(value.dtype)


def multi_scale_deformable_sampling(
    value: Float[Tensor, "B T heads c"],
    level_hw: Sequence[tuple[int, int]],
    locations: Float[Tensor, "B Q heads L S 2"],
    attention: Float[Tensor, "B Q heads L S"],
) -> Float[Tensor, "B Q C"]:
    """:func:`deformable_gather` where each batch item reads its own pyramid."""
    batch, queries = locations.shape[:2]
    packed = locations.flatten(0, 1), attention.flatten(0, 1)
    return deformable_gather(value, level_hw, *packed, [queries] * batch).unflatten(0, (batch, queries))
