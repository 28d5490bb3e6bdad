"""Compiled distortion loss along packed segments; the formula is that of :func:`lexivox.ops.render.distortion_loss`."""

from __future__ import annotations

from typing import no_type_check

import numba
import torch

from lexivox.ops.kernels.render_numba import over_rays

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


@numba.njit(**_OPTIONS)
@no_type_check
def _forward(weight, start_m, stop_m, offsets, loss, first, last):
    for ray in range(first, last):
        total, before, moment = 0.0, 0.0, 0.0
        for k in range(offsets[ray], offsets[ray + 1]):
            own, start, stop = float(weight[k]), float(start_m[k]), float(stop_m[k])
            middle = 0.5 * (start + stop)
            total += 2.0 * own * (middle * before - moment) + own * own * (stop - start) / 3.0
            before += own
            moment += own * middle
        loss[ray] = total


@numba.njit(**_OPTIONS)
@no_type_check
def _backward(weight, start_m, stop_m, offsets, grad_loss, grad_weight, first, last):
    for ray in range(first, last):
        after, moment_after = 0.0, 0.0
        for k in range(offsets[ray], offsets[ray + 1]):
            after += weight[k]
            moment_after += weight[k] * 0.5 * (float(start_m[k]) + float(stop_m[k]))
        before, moment_before = 0.0, 0.0
        for k in range(offsets[ray], offsets[ray + 1]):
            own, start, stop = float(weight[k]), float(start_m[k]), float(stop_m[k])
            middle = 0.5 * (start + stop)
            after -= own
            moment_after -= own * middle
            apart = middle * (before - after) - moment_before + moment_after
            grad_weight[k] = 2.0 * grad_loss[ray] * (apart + own * (stop - start) / 3.0)
            before += own
            moment_before += own * middle


class Distortion(torch.autograd.Function):
    """Weight (N,) -> loss (R,); all of one float dtype, distances without a gradient."""

    @staticmethod
    @no_type_check
    def forward(ctx, weight, start_m, stop_m, offsets):
        loss = weight.new_empty(len(offsets) - 1)
        inputs = tuple(x.detach().numpy() for x in (weight, start_m, stop_m, offsets))
        over_rays(_forward, inputs[3], *inputs, loss.numpy())
        ctx.save_for_backward(weight, start_m, stop_m, offsets)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    @no_type_check
    def backward(ctx, grad):
        saved = tuple(x.detach().numpy() for x in ctx.saved_tensors)
        grad_weight = torch.empty_like(ctx.saved_tensors[0])
        over_rays(_backward, saved[3], *saved, grad.numpy(), grad_weight.numpy())
        return grad_weight, None, None, None
