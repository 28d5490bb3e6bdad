"""AdamW with linear warm-up and cosine decay (spec pop3d 6), and an optional running mean of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn


def learning_rate(step: int, steps: int, lr: float, lr_min: float, warmup_steps: int, start: float = 1e-5) -> float:
    """Linear from ``start`` for ``warmup_steps``, then cosine to ``lr_min``.

    The clock of the cosine is not shifted by the warm-up, as in the released trainer.
    """
    if step < warmup_steps:
        return start + step * (lr - start) / warmup_steps
    return lr_min + 0.5 * (lr - lr_min) * (1.0 + math.cos(math.pi * step / steps))


def adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW on every parameter; decay is kept off biases, norms and embeddings (one-dimensional tensors)."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr)


class RunningMean:
    """Exponential moving average of the weights; what is evaluated and saved when it is switched on."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1.0 + step) / (10.0 + step))  # the first steps are forgotten quickly
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                self.weights[name].lerp_(tensor, 1.0 - decay)
            else:
                self.weights[name].copy_(tensor)
