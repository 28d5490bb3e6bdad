"""Triton kernels of rendering along packed segments: weights with depth, and sums of table rows, with gradients.

One program takes one ray, in blocks of segments from near to far (backward: from far to near). The formulas are those
of :mod:`lexivox.ops.render`. The table's gradient is added up with atomics, whose order is not fixed; who needs the
same bits in every run takes the torch twin. ``no_type_check`` keeps run-time checkers from wrapping functions that
only the compiler calls.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 128
"""Segments at once: most rays have fewer."""

_TILE = 1024
"""Numbers of a table read at once, segments times channels."""


@triton.jit
@no_type_check
def _stop(tau):
    """What a segment of length 1 does: share stopped, share let through, moment, slope of the moment by ``tau``."""
    through = tl.exp(-tau)
    wide = tl.where(tau < 0.1, 1.0, tau)
    thin = tl.where(tau < 0.1, tau, 0.0)
    series = 1.0 - thin * (1 / 6) * (1.0 - thin * (1 / 7) * (1.0 - thin * (1 / 8) * (1.0 - thin * (1 / 9))))
    series = 1.0 - thin * (1 / 2) * (1.0 - thin * (1 / 3) * (1.0 - thin * (1 / 4) * (1.0 - thin * (1 / 5) * series)))
    high = 1 / 144 - thin * (1 / 840 - thin * (1 / 5760 - thin * (1 / 45360)))
    moment = thin * (1 / 2 - thin * (1 / 3 - thin * (1 / 8 - thin * (1 / 30 - thin * high))))
    high = 5 / 144 - thin * (6 / 840 - thin * (7 / 5760 - thin * (8 / 45360)))
    slope = 1 / 2 - thin * (2 / 3 - thin * (3 / 8 - thin * (4 / 30 - thin * high)))
    opacity = tl.where(tau < 0.1, thin * series, 1.0 - through)
    moment = tl.where(tau < 0.1, moment, opacity / wide - through)
    slope = tl.where(tau < 0.1, slope, through - moment / wide)
    return opacity, through, moment, slope


@triton.jit
@no_type_check
def _load(values, at, alive, ACC: tl.constexpr):
    return tl.load(values + at, mask=alive, other=0.0).to(ACC)


@triton.jit
@no_type_check
def _march_kernel(
    extinction, start_m, stop_m, offsets, weight, transmittance, remaining, moment_m,
    BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64)
    first, last = tl.load(offsets + ray), tl.load(offsets + ray + 1)
    lane = tl.arange(0, BLOCK)
    depth = tl.zeros([BLOCK], ACC)
    reached = tl.sum(depth, 0)  # the optical depth before the block
    for base in range(first, last, BLOCK):
        at = base + lane
        alive = at < last
        start = _load(start_m, at, alive, ACC)
        length = _load(stop_m, at, alive, ACC) - start
        tau = _load(extinction, at, alive, ACC) * length
        # Sums before a segment from its neighbours, not by taking it off again: a wall would leave rounding.
        is_next = alive & (lane > 0)
        last_length = _load(stop_m, at - 1, is_next, ACC) - _load(start_m, at - 1, is_next, ACC)
        before = reached + tl.cumsum(_load(extinction, at - 1, is_next, ACC) * last_length, 0)
        here = tl.exp(-before)
        opacity, _, moment, _ = _stop(tau)
        tl.store(transmittance + at, here.to(transmittance.dtype.element_ty), mask=alive)
        tl.store(weight + at, (here * opacity).to(weight.dtype.element_ty), mask=alive)
        depth += tl.where(alive, here * (opacity * start + length * moment), 0.0)
        reached += tl.sum(tau, 0)
    tl.store(remaining + ray, tl.exp(-reached).to(remaining.dtype.element_ty))
    tl.store(moment_m + ray, tl.sum(depth, 0).to(moment_m.dtype.element_ty))


@triton.jit
@no_type_check
def _march_backward_kernel(
    extinction, start_m, stop_m, offsets, transmittance, remaining, grad_weight, grad_transmittance, grad_remaining,
    grad_moment, grad_extinction,
    BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64)
    first, last = tl.load(offsets + ray), tl.load(offsets + ray + 1)
    behind = tl.load(grad_remaining + ray).to(ACC) * tl.load(remaining + ray).to(ACC)
    by_depth = tl.load(grad_moment + ray).to(ACC)
    blocks = (last - first + BLOCK - 1) // BLOCK
    for block in range(0, blocks):
        at = first + (blocks - 1 - block) * BLOCK + tl.arange(0, BLOCK)
        alive = at < last
        start = _load(start_m, at, alive, ACC)
        length = _load(stop_m, at, alive, ACC) - start
        here = _load(transmittance, at, alive, ACC)
        by_weight = _load(grad_weight, at, alive, ACC)
        opacity, through, moment, slope = _stop(_load(extinction, at, alive, ACC) * length)
        stopped = by_depth * (opacity * start + length * moment)
        part = here * (by_weight * opacity + stopped + _load(grad_transmittance, at, alive, ACC))
        later = behind + tl.cumsum(part, 0, reverse=True) - part
        own = here * (by_weight * through + by_depth * (through * start + length * slope))
        grad = (own - later) * length
        tl.store(grad_extinction + at, grad.to(grad_extinction.dtype.element_ty), mask=alive)
        behind += tl.sum(part, 0)


@triton.jit
@no_type_check
def _composite_kernel(
    weight, row, table, offsets, out, eps,
    CHANNELS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    ray, channel = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    first, last = tl.load(offsets + ray), tl.load(offsets + ray + 1)
    total = tl.zeros([BLOCK_C], ACC)
    for base in range(first, last, BLOCK_S):
        at = base + tl.arange(0, BLOCK_S)
        share = _load(weight, at, at < last, ACC)
        counts = (at < last) & (share > eps)
        places = tl.load(row + at, mask=counts, other=0)[:, None] * CHANNELS + channel[None, :]
        mask = counts[:, None] & (channel < CHANNELS)[None, :]
        total += tl.sum(share[:, None] * _load(table, places, mask, ACC), 0)
    places = ray * CHANNELS + channel
    tl.store(out + places, total.to(out.dtype.element_ty), mask=channel < CHANNELS)


@triton.jit
@no_type_check
def _composite_backward_kernel(
    weight, row, table, offsets, grad_out, grad_weight, grad_table, eps,
    CHANNELS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64)
    first, last = tl.load(offsets + ray), tl.load(offsets + ray + 1)
    for base in range(first, last, BLOCK_S):
        at = base + tl.arange(0, BLOCK_S)
        share = _load(weight, at, at < last, ACC)
        counts = (at < last) & (share > eps)
        rows = tl.load(row + at, mask=counts, other=0)
        total = tl.zeros([BLOCK_S], ACC)
        for low in range(0, CHANNELS, BLOCK_C):
            channel = low + tl.arange(0, BLOCK_C)
            slope = _load(grad_out, ray * CHANNELS + channel, channel < CHANNELS, ACC)
            places = rows[:, None] * CHANNELS + channel[None, :]
            mask = counts[:, None] & (channel < CHANNELS)[None, :]
            total += tl.sum(_load(table, places, mask, ACC) * slope[None, :], 1)
            tl.atomic_add(grad_table + places, share[:, None] * slope[None, :], mask=mask, sem="relaxed")
        tl.store(grad_weight + at, total.to(grad_weight.dtype.element_ty), mask=at < last)


def _accumulator(values: Tensor) -> tl.dtype:
    return tl.float64 if values.dtype == torch.float64 else tl.float32


class March(torch.autograd.Function):
    """Extinction (N,) -> weight (N,), transmittance (N,), remaining (R,), moment_m (R,); all one float dtype."""

    @staticmethod
    @no_type_check
    def forward(ctx, extinction, start_m, stop_m, offsets):
        rays = len(offsets) - 1
        weight, transmittance = torch.empty_like(extinction), torch.empty_like(extinction)
        remaining, moment_m = (extinction.new_empty(rays) for _ in range(2))
        tensors = extinction, start_m, stop_m, offsets, weight, transmittance, remaining, moment_m
        if rays:
            _march_kernel[(rays,)](*tensors, BLOCK=_BLOCK, ACC=_accumulator(extinction), num_warps=1)
        ctx.save_for_backward(extinction, start_m, stop_m, offsets, transmittance, remaining)
        return weight, transmittance, remaining, moment_m

    @staticmethod
    @torch.autograd.function.once_differentiable
    @no_type_check
    def backward(ctx, *grads):
        extinction, *_, remaining = ctx.saved_tensors
        grad_extinction = torch.empty_like(extinction)
        tensors = *ctx.saved_tensors, *(grad.contiguous() for grad in grads), grad_extinction
        if len(remaining):
            options = {"BLOCK": _BLOCK, "ACC": _accumulator(extinction), "num_warps": 1}
            _march_backward_kernel[(len(remaining),)](*tensors, **options)
        return grad_extinction, None, None, None


def _tiles(table: Tensor) -> dict[str, object]:
    block_c = min(triton.next_power_of_2(table.shape[1]), 128)
    acc = _accumulator(table)
    return {"CHANNELS": table.shape[1], "BLOCK_S": max(_TILE // block_c, 1), "BLOCK_C": block_c, "ACC": acc}


class Composite(torch.autograd.Function):
    """weight (N,), row (N,), table (V, C), offsets (R + 1,), eps -> (R, C); differentiable in weight and table."""

    @staticmethod
    @no_type_check
    def forward(ctx, weight, row, table, offsets, eps):
        out = table.new_empty(len(offsets) - 1, table.shape[1])
        tiles = _tiles(table)
        if out.numel():
            grid = len(out), triton.cdiv(table.shape[1], tiles["BLOCK_C"])
            _composite_kernel[grid](weight, row, table, offsets, out, eps, **tiles)
        ctx.save_for_backward(weight, row, table, offsets)
        ctx.eps = eps
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    @no_type_check
    def backward(ctx, grad):
        weight, _, table, _ = ctx.saved_tensors
        grad_weight, grad_table = torch.empty_like(weight), torch.zeros_like(table)
        if grad.numel():
            tensors = *ctx.saved_tensors, grad.contiguous(), grad_weight, grad_table
            _composite_backward_kernel[(len(grad),)](*tensors, ctx.eps, **_tiles(table))
        return grad_weight, None, grad_table, None, None
