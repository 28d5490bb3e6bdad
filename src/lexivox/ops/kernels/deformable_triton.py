"""Triton kernels of multi-scale deformable sampling: one program reads for a block of queries and one head.

Forward and backward keep their sums in registers: nothing as large as (queries x heads x levels x samples x
channels) ever exists. The gradient of ``value`` is added up with atomics in float32 (float64 for float64), whose
order is not fixed. Under ``torch.use_deterministic_algorithms(True)`` it is added up in fixed point instead:
integers add the same in any order, at twice the memory of that one buffer.
``no_type_check`` keeps run-time checkers from wrapping functions that only the compiler calls.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import custom_op

_BLOCK = 1024
"""Numbers that a program adds up at once, queries times channels: eight per thread."""


@triton.jit
@no_type_check
def _place(locations, attention, at, alive, height, width, ACC: tl.constexpr):
    """Lower cell of a block of samples, the part of a cell beyond it, and the weight: 0 outside the map."""
    x = tl.load(locations + 2 * at, mask=alive, other=0.0).to(ACC) * width - 0.5
    y = tl.load(locations + 2 * at + 1, mask=alive, other=0.0).to(ACC) * height - 0.5
    weight = tl.load(attention + at, mask=alive, other=0.0).to(ACC)
    reads = alive & (x >= -1.0) & (x < width) & (y >= -1.0) & (y < height)
    # Cut before they become integers: behind a camera places lie beyond 2**31 cells. Selects instead of the
    # minimum and maximum crash the layout pass of Triton 3.6.
    x, y = tl.minimum(tl.maximum(x, -1.0), width), tl.minimum(tl.maximum(y, -1.0), height)
    column, line = tl.floor(x), tl.floor(y)
    return column.to(tl.int32), line.to(tl.int32), x - column, y - line, weight, reads


@triton.jit
@no_type_check
def _corner(value, base, line, column, height, width, reads, channel, HEADS: tl.constexpr, CHANNELS: tl.constexpr):
    """Addresses of one cell's channels for a block of samples, and which of them exist."""
    inside = reads & (column >= 0) & (column < width) & (line >= 0) & (line < height)
    mask = inside[:, None] & (channel < CHANNELS)[None, :]
    return ((base + line * width + column) * (HEADS * CHANNELS))[:, None] + channel[None, :], mask


@triton.jit
@no_type_check
def _forward_kernel(
    value, levels, owner, locations, attention, out, queries, tokens,
    HEADS: tl.constexpr, CHANNELS: tl.constexpr, LEVELS: tl.constexpr, SAMPLES: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0) % HEADS
    query = (tl.program_id(0) // HEADS) * BLOCK_P + tl.arange(0, BLOCK_P)
    alive = query < queries
    channel = tl.arange(0, BLOCK_C)
    row = query.to(tl.int64) * HEADS + head
    pyramid = tl.load(owner + query, mask=alive, other=0).to(tl.int64) * tokens
    value += head * CHANNELS
    total = tl.zeros([BLOCK_P, BLOCK_C], ACC)
    for level in range(LEVELS):
        height, width = tl.load(levels + 3 * level), tl.load(levels + 3 * level + 1)
        base = pyramid + tl.load(levels + 3 * level + 2)
        for sample in range(SAMPLES):
            at = (row * LEVELS + level) * SAMPLES + sample
            column, line, dx, dy, weight, reads = _place(locations, attention, at, alive, height, width, ACC)
            p00, m00 = _corner(value, base, line, column, height, width, reads, channel, HEADS, CHANNELS)
            p01, m01 = _corner(value, base, line, column + 1, height, width, reads, channel, HEADS, CHANNELS)
            p10, m10 = _corner(value, base, line + 1, column, height, width, reads, channel, HEADS, CHANNELS)
            p11, m11 = _corner(value, base, line + 1, column + 1, height, width, reads, channel, HEADS, CHANNELS)
            total += (weight * (1 - dx) * (1 - dy))[:, None] * tl.load(value + p00, mask=m00, other=0.0).to(ACC)
            total += (weight * dx * (1 - dy))[:, None] * tl.load(value + p01, mask=m01, other=0.0).to(ACC)
            total += (weight * (1 - dx) * dy)[:, None] * tl.load(value + p10, mask=m10, other=0.0).to(ACC)
            total += (weight * dx * dy)[:, None] * tl.load(value + p11, mask=m11, other=0.0).to(ACC)
    mask = alive[:, None] & (channel < CHANNELS)[None, :]
    tl.store(out + (row * CHANNELS)[:, None] + channel[None, :], total.to(out.dtype.element_ty), mask=mask)


@triton.jit
@no_type_check
def _spread(grad_value, places, mask, weight, grad, unit, FIXED: tl.constexpr):
    """Add ``weight * grad`` to the gradient of one cell; in whole multiples of ``1 / unit`` if FIXED."""
    part = weight[:, None] * grad
    if FIXED:
        part = (part * unit).to(tl.int64)
    tl.atomic_add(grad_value + places, part, mask=mask, sem="relaxed")


@triton.jit
@no_type_check
def _backward_kernel(
    value, levels, owner, locations, attention, grad_out, units, grad_value, grad_locations, grad_attention,
    queries, tokens,
    HEADS: tl.constexpr, CHANNELS: tl.constexpr, LEVELS: tl.constexpr, SAMPLES: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr, FIXED: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0) % HEADS
    query = (tl.program_id(0) // HEADS) * BLOCK_P + tl.arange(0, BLOCK_P)
    alive = query < queries
    channel = tl.arange(0, BLOCK_C)
    row = query.to(tl.int64) * HEADS + head
    pyramid = tl.load(owner + query, mask=alive, other=0).to(tl.int64) * tokens
    value += head * CHANNELS
    grad_value += head * CHANNELS
    mask = alive[:, None] & (channel < CHANNELS)[None, :]
    grad = tl.load(grad_out + (row * CHANNELS)[:, None] + channel[None, :], mask=mask, other=0.0).to(ACC)
    unit = tl.load(units)
    for level in range(LEVELS):
        height, width = tl.load(levels + 3 * level), tl.load(levels + 3 * level + 1)
        base = pyramid + tl.load(levels + 3 * level + 2)
        for sample in range(SAMPLES):
            at = (row * LEVELS + level) * SAMPLES + sample
            column, line, dx, dy, weight, reads = _place(locations, attention, at, alive, height, width, ACC)
            p00, m00 = _corner(value, base, line, column, height, width, reads, channel, HEADS, CHANNELS)
            p01, m01 = _corner(value, base, line, column + 1, height, width, reads, channel, HEADS, CHANNELS)
            p10, m10 = _corner(value, base, line + 1, column, height, width, reads, channel, HEADS, CHANNELS)
            p11, m11 = _corner(value, base, line + 1, column + 1, height, width, reads, channel, HEADS, CHANNELS)
            # What each corner's value says along the incoming gradient; everything else follows from these.
            d00 = tl.sum(tl.load(value + p00, mask=m00, other=0.0).to(ACC) * grad, 1)
            d01 = tl.sum(tl.load(value + p01, mask=m01, other=0.0).to(ACC) * grad, 1)
            d10 = tl.sum(tl.load(value + p10, mask=m10, other=0.0).to(ACC) * grad, 1)
            d11 = tl.sum(tl.load(value + p11, mask=m11, other=0.0).to(ACC) * grad, 1)
            _spread(grad_value, p00, m00, weight * (1 - dx) * (1 - dy), grad, unit, FIXED)
            _spread(grad_value, p01, m01, weight * dx * (1 - dy), grad, unit, FIXED)
            _spread(grad_value, p10, m10, weight * (1 - dx) * dy, grad, unit, FIXED)
            _spread(grad_value, p11, m11, weight * dx * dy, grad, unit, FIXED)
            top, bottom = d00 + dx * (d01 - d00), d10 + dx * (d11 - d10)
            along_x = weight * width * ((1 - dy) * (d01 - d00) + dy * (d11 - d10))
            kind = grad_locations.dtype.element_ty
            tl.store(grad_locations + 2 * at, along_x.to(kind), mask=alive)
            tl.store(grad_locations + 2 * at + 1, (weight * height * (bottom - top)).to(kind), mask=alive)
            read = top + dy * (bottom - top)
            tl.store(grad_attention + at, read.to(grad_attention.dtype.element_ty), mask=alive)


def _options(value: Tensor, attention: Tensor) -> tuple[tuple[int], dict[str, object]]:
    """Launch grid and compile-time sizes."""
    queries, heads, levels, samples = attention.shape
    block_c = triton.next_power_of_2(value.shape[3])
    block_p = max(_BLOCK // block_c, 1)
    sizes = {"HEADS": heads, "CHANNELS": value.shape[3], "LEVELS": levels, "SAMPLES": samples}
    acc = tl.float64 if value.dtype == torch.float64 else tl.float32
    blocks = {"BLOCK_P": block_p, "BLOCK_C": block_c, "ACC": acc, "enable_fp_fusion": True}
    return (triton.cdiv(queries, block_p) * heads,), {**sizes, **blocks}


@custom_op("lexivox::deformable_gather", mutates_args=())
@no_type_check
def deformable_gather(value: Tensor, levels: Tensor, owner: Tensor, locations: Tensor, attention: Tensor) -> Tensor:
    """Weighted sums ``(P, heads * c)`` in the dtype of ``value``; differentiable in value, locations, attention.

    All contiguous: value (N, T, heads, c), levels (L, 3) int32 rows of height, width and first token, owner (P,)
    int32 pyramid of each query, locations (P, heads, L, S, 2) and attention (P, heads, L, S).
    """
    out = value.new_empty(len(attention), value.shape[2] * value.shape[3])
    grid, options = _options(value, attention)
    inputs = (value, levels, owner, locations, attention)
    _forward_kernel[grid](*inputs, out, len(attention), value.shape[1], **options)  # pyright: ignore
    return out


@custom_op("lexivox::deformable_gather_backward", mutates_args=())
@no_type_check
def deformable_gather_backward(
    value: Tensor, levels: Tensor, owner: Tensor, locations: Tensor, attention: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of :func:`deformable_gather` by value, locations and attention."""
    is_fixed = torch.are_deterministic_algorithms_enabled()
    acc = torch.float64 if value.dtype == torch.float64 else torch.float32
    unit = _fixed_point_unit(attention, grad).to(acc) if is_fixed else grad.new_ones(1, dtype=acc)
    grad_value = torch.zeros_like(value, dtype=torch.int64 if is_fixed else acc)
    grad_locations, grad_attention = torch.empty_like(locations), torch.empty_like(attention)
    grid, options = _options(value, attention)
    inputs = (value, levels, owner, locations, attention, grad, unit, grad_value, grad_locations, grad_attention)
    _backward_kernel[grid](*inputs, len(attention), value.shape[1], **options, FIXED=is_fixed)  # pyright: ignore
    grad_value = grad_value / unit if is_fixed else grad_value
    return grad_value.to(value.dtype), grad_locations, grad_attention


def _fixed_point_unit(attention: Tensor, grad: Tensor) -> Tensor:
    """How many units make 1: a power of two, such that not even all samples at one cell overflow 62 bits."""
    largest = attention.abs().max().double() * grad.abs().max().double() * 4 * attention[:, 0].numel()
    return torch.exp2(torch.floor(62 - torch.log2(largest.clamp_min(1e-30)))).reshape(1)


@deformable_gather.register_fake
@no_type_check
def _(value, levels, owner, locations, attention):
    return value.new_empty(attention.shape[0], value.shape[2] * value.shape[3])


@deformable_gather_backward.register_fake
@no_type_check
def _(value, levels, owner, locations, attention, grad):
    return torch.empty_like(value), torch.empty_like(locations), torch.empty_like(attention)


@no_type_check
def _keep_inputs(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


@no_type_check
def _backward(ctx, grad):
    value, locations, attention = deformable_gather_backward(*ctx.saved_tensors, grad.contiguous())
    return value, None, None, locations, attention


deformable_gather.register_autograd(_backward, setup_context=_keep_inputs)
