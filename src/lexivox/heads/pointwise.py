"""One MLP for every answer at a point: occupancy, density, class, language feature (spec POP-3D 3)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lexivox.errors import ShapeError

Activation = Literal["softplus", "relu"]

LEARNT_CHUNK = 8192
"""Rows per pass of a head that keeps no activations: its widest layer then never holds more rows than these."""


class PointwiseHead(nn.Module):
    """Linear layers with an activation between them, then a classifier; no norms, nothing squashed at the end.

    POP-3D has Softplus, and nothing between the decoder's last Linear and the classifier; without gradients the two
    are multiplied into one, which more than halves the work. OccFlowNet has ReLU after every Linear but the
    classifier, weights drawn evenly after Glorot, and biases of zero (spec occflownet 1.5): ``last_activation=True,
    activation="relu", glorot=True``.

    Args:
        in_channels: of the field.
        hidden: width of the decoder.
        out_channels: logits or feature channels.
        num_layers: Linear layers of the decoder; the classifier is not counted.
        decoder_channels: width of the decoder's last layer, ``hidden`` if None.
        chunk: rows per pass when no gradient is needed, which bounds the memory at fine grids.
        checkpointing: keep no hidden activations and compute them again, chunk by chunk, in the backward pass.
        activation: between Linear layers.
        last_activation: also before the classifier.
        glorot: start from Glorot's even distribution and zero biases instead of torch's own.
        output_prob: start with about this probability everywhere (after a sigmoid), by the classifier's bias; a volume
            that starts half full hides everything behind it from a renderer. ``None`` leaves the bias alone.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        num_layers: int = 2,
        *,
        decoder_channels: int | None = None,
        chunk: int = 65536,
        checkpointing: bool = False,
        activation: Activation = "softplus",
        last_activation: bool = False,
        glorot: bool = False,
        output_prob: float | None = None,
    ):
        super().__init__()
        if num_layers < 1:
            raise ShapeError(f"num_layers of a head must be 1 or more; got {num_layers}.")
        widths = [in_channels, *[hidden] * (num_layers - 1), decoder_channels or hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU() if activation == "relu" else nn.Softplus()]
        self.decoder = nn.Sequential(*(layers if last_activation else layers[:-1]))
        self.classifier = nn.Linear(widths[-1], out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.chunk, self.checkpointing = chunk, checkpointing
        self._initialise(glorot, output_prob)

    def _initialise(self, glorot: bool, output_prob: float | None) -> None:
        if glorot:
            for layer in (module for module in self.modules() if isinstance(module, nn.Linear)):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        if output_prob is not None:
            nn.init.constant_(self.classifier.bias, math.log(output_prob / (1.0 - output_prob)))

    def forward(self, features: Float[Tensor, "P C"]) -> Float[Tensor, "P K"]:
        composes = isinstance(self.decoder[-1], nn.Linear) and len(features) >= self.classifier.in_features
        if not torch.is_grad_enabled() and composes:
            hidden, (kernel, bias) = self.decoder[:-1], self._composed()
            return torch.cat([F.linear(hidden(part), kernel, bias) for part in features.split(self.chunk)])
        if not torch.is_grad_enabled():
            return torch.cat([self._rows(part) for part in features.split(self.chunk)])
        if not self.checkpointing:
            return self._rows(features)
        parts = features.split(LEARNT_CHUNK)
        return torch.cat([checkpoint(self._rows, part, use_reentrant=False) for part in parts])

    def _rows(self, features: Float[Tensor, "P C"]) -> Float[Tensor, "P K"]:
        return self.classifier(self.decoder(features))

    def _composed(self) -> tuple[Float[Tensor, "K _"], Float[Tensor, "K"]]:
        """Kernel and bias of the two linear layers at the end: with nothing between them they are one."""
        last: nn.Linear = self.decoder[-1]  # type: ignore[assignment]
        with torch.autocast(last.weight.device.type, enabled=False):
            bias = self.classifier(last.bias)
            return self.classifier.weight @ last.weight, bias
