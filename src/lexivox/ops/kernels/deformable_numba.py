"""Compiled multi-scale deformable sampling for the CPU: one pass over the samples, forward and backward.

Loops release the interpreter's lock and heads never touch each other's numbers, so every thread takes some heads.
Sums run in the order of the samples: results and gradients are the same in every run, with any number of threads.
``no_type_check`` keeps run-time checkers from wrapping functions that only the compiler calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numba
import torch
from torch import Tensor

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}
_ALONE = 1 << 16
"""With fewer samples a second thread costs more than it helps."""


@numba.njit(inline="always", **_OPTIONS)
@no_type_check
def _axis(place, size):
    """Two legal cells around a place, their weights, and +-1 for cells that exist: what the weights change by."""
    low = math.floor(place)
    part, cell = place - low, int(low)
    first, second = place * 0 + (cell >= 0), place * 0 + (cell + 1 < size)
    return max(cell, 0), min(cell + 1, size - 1), first * (1 - part), second * part, -first, second


@numba.njit(fastmath={"contract", "nsz"}, **_OPTIONS)
@no_type_check
def _read(value, levels, owner, locations, attention, out, first_head, last_head):
    """Add to ``out (P, heads, c)`` what the heads of a range read."""
    heads, channels = value.shape[2], value.shape[3]
    rows = value.reshape(-1, channels)
    half = locations.dtype.type(0.5)
    for p in range(len(owner)):
        for head in range(first_head, last_head):
            total = out[p, head]
            for level in range(len(levels)):
                height, width = levels[level, 0], levels[level, 1]
                start = owner[p] * value.shape[1] + levels[level, 2]
                for s in range(locations.shape[3]):
                    x = locations[p, head, level, s, 0] * width - half
                    y = locations[p, head, level, s, 1] * height - half
                    if not (x >= -1 and x < width and y >= -1 and y < height):
                        continue
                    x0, x1, wx0, wx1, _, _ = _axis(x, width)
                    y0, y1, wy0, wy1, _, _ = _axis(y, height)
                    wy0, wy1 = wy0 * attention[p, head, level, s], wy1 * attention[p, head, level, s]
                    v00 = rows[(start + y0 * width + x0) * heads + head]
                    v01 = rows[(start + y0 * width + x1) * heads + head]
                    v10 = rows[(start + y1 * width + x0) * heads + head]
                    v11 = rows[(start + y1 * width + x1) * heads + head]
                    w00, w01, w10, w11 = wy0 * wx0, wy0 * wx1, wy1 * wx0, wy1 * wx1
                    for c in range(channels):
                        total[c] += w00 * v00[c] + w01 * v01[c] + w10 * v10[c] + w11 * v11[c]


# "reassoc": sums over channels in several lanes at once.
@numba.njit(fastmath={"contract", "nsz", "reassoc"}, **_OPTIONS)
@no_type_check
def _read_backward(
    value, levels, owner, locations, attention, grad, grad_value, grad_locations, grad_attention,
    first_head, last_head,
):  # fmt: skip
    """Add up the gradients of a range of heads; ``grad (P, heads, c)``, the others shaped as their tensors."""
    heads, channels = value.shape[2], value.shape[3]
    rows, grad_rows = value.reshape(-1, channels), grad_value.reshape(-1, channels)
    half = locations.dtype.type(0.5)
    for p in range(len(owner)):
        for head in range(first_head, last_head):
            g = grad[p, head]
            for level in range(len(levels)):
                height, width = levels[level, 0], levels[level, 1]
                start = owner[p] * value.shape[1] + levels[level, 2]
                for s in range(locations.shape[3]):
                    x = locations[p, head, level, s, 0] * width - half
                    y = locations[p, head, level, s, 1] * height - half
                    if not (x >= -1 and x < width and y >= -1 and y < height):
                        continue
                    x0, x1, wx0, wx1, sx0, sx1 = _axis(x, width)
                    y0, y1, wy0, wy1, sy0, sy1 = _axis(y, height)
                    a = attention[p, head, level, s]
                    r00, r01 = (start + y0 * width + x0) * heads + head, (start + y0 * width + x1) * heads + head
                    r10, r11 = (start + y1 * width + x0) * heads + head, (start + y1 * width + x1) * heads + head
                    d00 = d01 = d10 = d11 = x * 0
                    v00, v01, v10, v11 = rows[r00], rows[r01], rows[r10], rows[r11]
                    for c in range(channels):
                        d00 += v00[c] * g[c]
                        d01 += v01[c] * g[c]
                        d10 += v10[c] * g[c]
                        d11 += v11[c] * g[c]
                    top, bottom = wx0 * d00 + wx1 * d01, wx0 * d10 + wx1 * d11
                    left, right = wy0 * d00 + wy1 * d10, wy0 * d01 + wy1 * d11
                    grad_attention[p, head, level, s] = wy0 * top + wy1 * bottom
                    grad_locations[p, head, level, s, 0] = a * width * (sx0 * left + sx1 * right)
                    grad_locations[p, head, level, s, 1] = a * height * (sy0 * top + sy1 * bottom)
                    # One row at a time: rows of clamped cells may be the same one.
                    for row, weight in ((r00, wy0 * wx0), (r01, wy0 * wx1), (r10, wy1 * wx0), (r11, wy1 * wx1)):
                        if weight:
                            target, share = grad_rows[row], a * weight
                            for c in range(channels):
                                target[c] += share * g[c]


def _over_heads(loop: Callable[..., None], samples: int, heads: int, *tensors: Tensor) -> None:
    """Run a loop over all heads, on as many threads as torch uses."""
    arrays = [tensor.numpy() for tensor in tensors]
    threads = min(torch.get_num_threads(), heads) if samples > _ALONE else 1
    cuts = [heads * i // threads for i in range(threads + 1)]
    if threads == 1:
        loop(*arrays, 0, heads)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda i: loop(*arrays, cuts[i], cuts[i + 1]), range(threads)))


class DeformableGather(torch.autograd.Function):
    """Weighted sums ``(P, heads * c)``.

    All contiguous, on the CPU and, but for the integers, of one dtype, float32 or float64: value (N, T, heads, c),
    levels (L, 3) int64 rows of height, width and first token, owner (P,) int64 pyramid of each query, locations
    (P, heads, L, S, 2) and attention (P, heads, L, S).
    """

    @staticmethod
    @no_type_check
    def forward(ctx, value, levels, owner, locations, attention):
        ctx.save_for_backward(value, levels, owner, locations, attention)
        _, _, heads, channels = value.shape
        out = value.new_zeros(len(owner), heads, channels)
        inputs = (x.detach() for x in (value, levels, owner, locations, attention))
        _over_heads(_read, attention.numel(), heads, *inputs, out)
        return out.flatten(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    @no_type_check
    def backward(ctx, grad):
        value, levels, owner, locations, attention = (x.detach() for x in ctx.saved_tensors)
        gradients = torch.zeros_like(value), torch.zeros_like(locations), torch.zeros_like(attention)
        own = grad.contiguous().unflatten(1, value.shape[2:])
        _over_heads(
            _read_backward,
            attention.numel(),
            value.shape[2],
            value,
            levels,
            owner,
            locations,
            attention,
            own,
            *gradients,
        )
        return gradients[0], None, None, *gradients[1:]
