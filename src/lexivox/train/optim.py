"""AdamW with linear warm-up, then cosine decay or none, and an optional running mean of the weights."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import nn

from lexivox.errors import WeightsError
from lexivox.train.engine import like

Schedule = Literal["cosine", "constant"]


def learning_rate(
    step: int,
    steps: int,
    lr: float,
    lr_min: float,
    warmup_steps: int,
    start: float = 1e-5,
    schedule: Schedule = "cosine",
) -> float:
    """Linear for ``warmup_steps``, then cosine to ``lr_min`` (POP-3D), or constant (OccFlowNet).

    The clock of the cosine is not shifted by the warm-up, as in the released trainer. ``start`` and ``lr_min`` are
    absolute, the same for every group: a group with a tenth of the rate warms up from half of it (erratum 34). The
    constant schedule warms up from a thousandth of its rate (spec occflownet 5).
    """
    if schedule == "constant":
        return lr * (1e-3 + (1.0 - 1e-3) * step / warmup_steps) if step < warmup_steps else lr
    if step < warmup_steps:
        return start + step * (lr - start) / warmup_steps
    return lr_min + 0.5 * (lr - lr_min) * (1.0 + math.cos(math.pi * step / steps))


BACKBONE = "encoder.image.backbone."
"""Prefix of the parameters that may come pretrained."""


def adamw(
    model: nn.Module, lr: float, weight_decay: float, backbone_lr_scale: float = 1.0, *, decay_all: bool = False
) -> torch.optim.AdamW:
    """AdamW on every parameter; each group remembers its peak rate as ``base_lr``.

    Decay is kept off biases and norms (one-dimensional tensors), unless ``decay_all``, as published. A pretrained
    image backbone learns ``backbone_lr_scale`` times as fast as the rest (0.1 in the published trainer).
    """
    groups = []
    for in_backbone, scale in ((False, 1.0), (True, backbone_lr_scale)):
        own = [
            p for name, p in model.named_parameters() if p.requires_grad and name.startswith(BACKBONE) == in_backbone
        ]
        for decayed, decay in ((True, weight_decay), (False, 0.0)):
            params = [p for p in own if (decay_all or p.ndim > 1) == decayed]
            groups.append({"params": params, "weight_decay": decay, "base_lr": lr * scale})
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr)


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any], source: str) -> None:
    """Give an optimiser the state of an earlier one, sharded where its parameters are.

    Raises:
        WeightsError: it was that of other parameters.
    """
    owners = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        slots = {
            place: {name: like(v, owners[place]) if v.shape == owners[place].shape else v for name, v in known.items()}
            for place, known in state["state"].items()
        }
        optimizer.load_state_dict({**state, "state": slots})
    except (ValueError, KeyError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"an optimiser's state must fit its parameters; got {reason}. Delete the training state of {source}."
        ) from None


RAMP_STEPS = 2000
"""Of the published ramp of the running mean's decay."""


class RunningMean:
    """Exponential moving average of the weights; what is evaluated and saved when it is switched on.

    Args:
        decay: in the long run.
        ramp_from: count at the first step of a ramp ``decay * (1 - exp(-count / 2000))``, as published (spec
            occflownet 5). Without it the decay is at most ``(1 + step) / (10 + step)``: a short run forgets its start.
    """

    def __init__(self, model: nn.Module, decay: float, ramp_from: int | None = None) -> None:
        self.decay, self.ramp_from = decay, ramp_from
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def decay_at(self, step: int) -> float:
        """The share of the mean that a step leaves."""
        if self.ramp_from is None:
            return min(self.decay, (1.0 + step) / (10.0 + step))
        return self.decay * (1.0 - math.exp(-(self.ramp_from + step) / RAMP_STEPS))

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step; the first is step 0."""
        decay = self.decay_at(step)
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                self.weights[name].lerp_(tensor, 1.0 - decay)
            else:
                self.weights[name].copy_(tensor)
