"""Compiled sums of table rows along rays: each row is read once where its weight counts, forward and backward.

Threads share the rays in the forward pass and the table's rows in the backward pass, so none waits for another and
the results are the same in every run, with any number of threads.
"""

from __future__ import annotations

from typing import no_type_check

import numba
import torch

from lexivox.ops.kernels.render_numba import in_threads, over_rays

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


@numba.njit(fastmath={"contract", "nsz"}, **_OPTIONS)
@no_type_check
def _forward(weight, row, table, offsets, eps, out, first, last):
    channels = table.shape[1]
    for ray in range(first, last):
        total = out[ray]
        for k in range(offsets[ray], offsets[ray + 1]):
            share = weight[k]
            if share > eps:
                values = table[row[k]]
                for c in range(channels):
                    total[c] += share * values[c]


# "reassoc": sums over channels in several lanes at once.
@numba.njit(fastmath={"contract", "nsz", "reassoc"}, **_OPTIONS)
@no_type_check
def _backward(weight, row, table, offsets, eps, grad, grad_weight, grad_table, shares, share_number):
    """Gradients of the rows whose number leaves ``share_number`` when divided by ``shares``."""
    channels = table.shape[1]
    for ray in range(len(offsets) - 1):
        from_ray = grad[ray]
        for k in range(offsets[ray], offsets[ray + 1]):
            share, number = weight[k], row[k]
            if shares > 1 and number % shares != share_number:
                continue
            if share > eps:
                values, to_table = table[number], grad_table[number]
                total = share * 0
                for c in range(channels):
                    total += values[c] * from_ray[c]
                    to_table[c] += share * from_ray[c]
                grad_weight[k] = total
            else:
                grad_weight[k] = 0


class Composite(torch.autograd.Function):
    """weight (N,), row (N,), table (V, C), offsets (R + 1,), eps -> (R, C); differentiable in weight and table."""

    @staticmethod
    @no_type_check
    def forward(ctx, weight, row, table, offsets, eps):
        out = table.new_zeros(len(offsets) - 1, table.shape[1])
        inputs = tuple(x.detach().numpy() for x in (weight, row, table, offsets))
        over_rays(_forward, inputs[3], *inputs, eps, out.numpy())
        ctx.save_for_backward(weight, row, table, offsets)
        ctx.eps = eps
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    @no_type_check
    def backward(ctx, grad):
        weight, row, table, offsets = (x.detach().numpy() for x in ctx.saved_tensors)
        grad_weight, grad_table = torch.empty_like(ctx.saved_tensors[0]), torch.zeros_like(ctx.saved_tensors[2])
        outputs = grad_weight.numpy(), grad_table.numpy()
        inputs = weight, row, table, offsets, ctx.eps, grad.contiguous().numpy()
        in_threads(lambda share, shares: _backward(*inputs, *outputs, shares, share), len(weight))
        return grad_weight, None, grad_table, None, None
