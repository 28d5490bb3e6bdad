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


@numba.njit(inline="always", **_OPTIONS)
@no_type_check
def _stop(tau):
    """What a segment of length 1 does: the share it stops, the one it lets through, the moment, its slope by ``tau``.

    The moment is the mean place of stopping times the share stopped: ``opacity / tau - through``. In thin air that
    would be all rounding, and the series needs no exponential either.
    """
    if tau >= 0.1:
        through = math.exp(-tau)
        opacity = 1.0 - through
        moment = opacity / tau - through
        return opacity, through, moment, through - moment / tau
    series = 1.0 - tau * (1 / 6) * (1.0 - tau * (1 / 7) * (1.0 - tau * (1 / 8) * (1.0 - tau * (1 / 9))))
    series = 1.0 - tau * (1 / 2) * (1.0 - tau * (1 / 3) * (1.0 - tau * (1 / 4) * (1.0 - tau * (1 / 5) * series)))
    # Terms n * (-1)^(n+1) * tau^n / (n+1)!, and their derivatives.
    high = 1 / 144 - tau * (1 / 840 - tau * (1 / 5760 - tau * (1 / 45360)))
    moment = tau * (1 / 2 - tau * (1 / 3 - tau * (1 / 8 - tau * (1 / 30 - tau * high))))
    high = 5 / 144 - tau * (6 / 840 - tau * (7 / 5760 - tau * (8 / 45360)))
    slope = 1 / 2 - tau * (2 / 3 - tau * (3 / 8 - tau * (4 / 30 - tau * high)))
    return tau * series, 1.0 - tau * series, moment, slope


@numba.njit(**_OPTIONS)
@no_type_check
def _forward(extinction, start_m, stop_m, offsets, tiny, weight, transmittance, remaining, moment_m, first, last):
    for ray in range(first, last):
        depth, total = 0.0, 1.0
        for k in range(offsets[ray], offsets[ray + 1]):
            transmittance[k] = total
            start, stop = float(start_m[k]), float(stop_m[k])
            opacity, through, moment, _ = _stop(extinction[k] * (stop - start))
            weight[k] = total * opacity
            depth += total * (opacity * start + (stop - start) * moment)
            total *= through
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
            here, start, stop = float(transmittance[k]), float(start_m[k]), float(stop_m[k])
            length = stop - start
            opacity, _, moment, slope = _stop(extinction[k] * length)
            own = grad_weight[k] * after + grad_moment[ray] * (after * start + here * length * slope)
            grad_extinction[k] = (own - behind) * length
            stopped = grad_moment[ray] * (opacity * start + length * moment)
            behind += here * (grad_weight[k] * opacity + stopped + grad_transmittance[k])
            after = here


def in_threads(work, num_segments):
    """Call ``work(number, threads)`` once in each thread that is worth it."""
    threads = 1 if num_segments < _ALONE else torch.get_num_threads()
    if threads == 1:
        work(0, 1)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda number: work(number, threads), range(threads)))


def over_rays(kernel, offsets, *arguments):
    """Run a kernel over all rays; each thread takes rays with about as many segments."""
    num_rays, total = len(offsets) - 1, int(offsets[-1])

    def work(number, threads):
        inner = np.searchsorted(offsets, [total * part // threads for part in range(1, threads)])
        bounds = [0, *inner.tolist(), num_rays]
        kernel(*arguments, bounds[number], bounds[number + 1])

    in_threads(work, total)


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
        over_rays(_forward, inputs[3], *inputs, tiny, *outputs)
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
        over_rays(_backward, saved[3], *saved, *(x.numpy() for x in grads), grad_extinction.numpy())
        return grad_extinction, None, None, None


def _grad_shapes(saved):
    extinction, *_, remaining = saved
    return [(extinction, extinction.shape)] * 2 + [(extinction, remaining.shape)] * 2
