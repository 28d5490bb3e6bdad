"""Compiled weighted pooling into voxels for the CPU; the rule is that of :mod:`lexivox.ops.voxel_pool`.

The forward pass gives every thread some voxels, the backward pass some pixels: no number is written by two of them,
so results and gradients are the same with any number of threads. ``no_type_check`` keeps run-time checkers from
wrapping functions that only the compiler calls.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numba
import torch

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}
_ALONE = 1 << 16
"""With fewer points a second thread costs more than it helps."""


@numba.njit(fastmath={"contract", "nsz"}, **_OPTIONS)
@no_type_check
def _pool(feature, weight, point, voxel, first, out, begin, end):
    bins, channels = weight.shape[1], feature.shape[1]
    flat = weight.reshape(-1)
    for k in range(begin, end):
        total = out[voxel[k]]
        stop = first[k + 1] if k + 1 < len(first) else len(point)
        for i in range(first[k], stop):
            share, row = flat[point[i]], feature[point[i] // bins]
            for c in range(channels):
                total[c] += share * row[c]


# "reassoc": sums over channels in several lanes at once.
@numba.njit(fastmath={"contract", "nsz", "reassoc"}, **_OPTIONS)
@no_type_check
def _pool_backward(feature, weight, voxel_of_point, grad, grad_feature, grad_weight, begin, end):
    channels = feature.shape[1]
    for n in range(begin, end):
        own, target = feature[n], grad_feature[n]
        for d in range(weight.shape[1]):
            v = voxel_of_point[n, d]
            if v < 0:
                continue
            row, share, dot = grad[v], weight[n, d], weight[n, d] * 0
            for c in range(channels):
                dot += row[c] * own[c]
                target[c] += share * row[c]
            grad_weight[n, d] = dot


def _in_parts(loop: Callable[[int, int], None], count: int, points: int) -> None:
    """Run a loop over a range on as many threads as torch uses."""
    threads = min(torch.get_num_threads(), max(count, 1)) if points > _ALONE else 1
    if threads == 1:
        loop(0, count)
        return
    cuts = [count * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda i: loop(cuts[i], cuts[i + 1]), range(threads)))


class VoxelPool(torch.autograd.Function):
    """Rows ``(num_rows, C)`` from feature (N, C) and weight (N, D), contiguous, on the CPU, both float32 or float64."""

    @staticmethod
    @no_type_check
    def forward(ctx, feature, weight, voxel_of_point, point, voxel, first, num_rows):
        ctx.save_for_backward(feature, weight, voxel_of_point)
        out = feature.new_zeros(num_rows, feature.shape[1])
        inputs = [x.detach().numpy() for x in (feature, weight, point, voxel, first, out)]
        _in_parts(lambda begin, end: _pool(*inputs, begin, end), len(voxel), len(point))
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    @no_type_check
    def backward(ctx, grad):
        feature, weight, voxel_of_point = (x.detach() for x in ctx.saved_tensors)
        gradients = torch.zeros_like(feature), torch.zeros_like(weight)
        inputs = [x.numpy() for x in (feature, weight, voxel_of_point, grad.contiguous(), *gradients)]
        _in_parts(lambda begin, end: _pool_backward(*inputs, begin, end), len(feature), voxel_of_point.numel())
        return *gradients, None, None, None, None, None
