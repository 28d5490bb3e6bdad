"""Compiled compositing along packed segments; the formulas are those of :mod:`lexivox.ops.render`.

Everything is added up in float64, whatever the inputs are. A transmittance below the smallest normal number of the
output counts as 0: behind a wall there is nothing to add. Threads of Python and no parallel loop of numba, which
would change how many threads torch uses.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numba
import numpy as np
import torch

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}

_ALONE = 1 << 15
"""Segments below which one thread is enough."""


@numba.njit(**_OPTIONS)
@no_type_check
def _moment(tau, opacity):
    """Where in a segment of length 1 the light is stopped, times the share stopped; and the slope by ``tau``."""
    if tau >= 0.1:
        moment = opacity / tau - (1.0 - opacity)
        return moment, (1.0 - opacity) - moment / tau
    moment, slope, term = 0.0, 0.0, 1.0  # term: (-1)^(n+1) tau^(n-1) / (n+1)!
    for n in range(1, 9):
        term = 0.5 if n == 1 else -term * tau / (n + 1.0)
        moment += n * term * tau
        slope += n * n * term
    return moment, slope


@numba.njit(**_OPTIONS)
@no_type_check
def _forward(extinction, start_m, stop_m, offsets, tiny, weight, transmittance, remaining, moment_m, first, last):
    for ray in range(first, last):
        depth, through, total = 0.0, 0.0, 1.0
        for k in range(offsets[ray], offsets[ray + 1]):
            transmittance[k] = total
            if total == 0.0:
                weight[k] = 0.0
                continue
            length = float(stop_m[k]) - float(start_m[k])
            tau = extinction[k] * length
            opacity = -math.expm1(-tau)
            weight[k] = total * opacity
            depth += total * (opacity * start_m[k] + length * _moment(tau, opacity)[0])
            through += tau
            total = math.exp(-through)
            if total < tiny:
                total = 0.0
        remaining[ray], moment_m[ray] = total, depth


@numba.njit(**_OPTIONS)
@no_type_check
def _backward(
    extinction, start_m, stop_m, offsets, transmittance, remaining, grad_weight, grad_transmittance, grad_remaining,
    grad_moment, grad_extinction, first, last,
):  # fmt: skip
    for ray in range(first, last):
        behind = grad_remaining[ray] * remaining[ray]
        after = float(remaining[ray])
        for k in range(offsets[ray + 1] - 1, offsets[ray] - 1, -1):
            here = float(transmittance[k])
            length = float(stop_m[k]) - float(start_m[k])
            if here == 0.0:
                grad_extinction[k] = 0.0
                continue
            tau = extinction[k] * length
            opacity = -math.expm1(-tau)
            moment, slope = _moment(tau, opacity)
            own = grad_weight[k] * after + grad_moment[ray] * (after * start_m[k] + here * length * slope)
            grad_extinction[k] = (own - behind) * length
            stopped = grad_moment[ray] * (opacity * start_m[k] + length * moment)
            behind += here * (grad_weight[k] * opacity + stopped + grad_transmittance[k])
            after = here


def _over_rays(kernel, offsets, *arguments):
    """Run a kernel over all rays; each thread takes about as many segments."""
    num_rays, total, threads = len(offsets) - 1, int(offsets[-1]), torch.get_num_threads()
    if threads == 1 or total < _ALONE:
        kernel(*arguments, 0, num_rays)
        return
    inner = np.searchsorted(offsets, [total * part // threads for part in range(1, threads)])
    bounds = [0, *inner.tolist(), num_rays]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda first, last: kernel(*arguments, first, last), bounds[:-1], bounds[1:]))


class March(torch.autograd.Function):
    """Extinction (N,) -> weight (N,), transmittance (N,), remaining (R,), moment_m (R,); all one float dtype."""

    @staticmethod
    @no_type_check
    def forward(ctx, extinction, start_m, stop_m, offsets):
        weight, transmittance = torch.empty_like(extinction), torch.empty_like(extinction)
        remaining, moment_m = (extinction.new_empty(len(offsets) - 1) for _ in range(2))
        inputs = tuple(x.detach().numpy() for x in (extinction, start_m, stop_m, offsets))
        outputs = tuple(x.numpy() for x in (weight, transmittance, remaining, moment_m))
        tiny = torch.finfo(extinction.dtype).tiny
        _over_rays(_forward, inputs[3], *inputs, tiny, *outputs)
        ctx.save_for_backward(extinction, start_m, stop_m, offsets, transmittance, remaining)
        ctx.set_materialize_grads(False)
        return weight, transmittance, remaining, moment_m

    @staticmethod
    @torch.autograd.function.once_differentiable
    @no_type_check
    def backward(ctx, *grads):
        saved = tuple(x.detach().numpy() for x in ctx.saved_tensors)
        zeros = [x.new_zeros(()).expand(shape) for x, shape in _grad_shapes(ctx.saved_tensors)]
        grads = [zero if grad is None else grad for grad, zero in zip(grads, zeros, strict=True)]
        grad_extinction = torch.empty_like(ctx.saved_tensors[0])
        _over_rays(_backward, saved[3], *saved, *(x.numpy() for x in grads), grad_extinction.numpy())
        return grad_extinction, None, None, None


def _grad_shapes(saved):
    extinction, *_, remaining = saved
    return [(extinction, extinction.shape)] * 2 + [(extinction, remaining.shape)] * 2
