"""One MLP for every answer at a point: occupancy, density, class, language feature (spec POP-3D 3)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lexivox.errors import ShapeError

LEARNT_CHUNK = 8192
"""Rows per pass of a head that keeps no activations: its widest layer then never holds more rows than these."""


class PointwiseHead(nn.Module):
    """Linear layers with Softplus between them, then a classifier; no norms, nothing squashed at the end.

    There is no activation between the decoder's last Linear and the classifier, as published; without gradients the
    two are multiplied into one, which more than halves the work.

    Args:
        in_channels: of the field.
        hidden: width of the decoder.
        out_channels: logits or feature channels.
        num_layers: Linear layers of the decoder; the classifier is not counted.
        decoder_channels: width of the decoder's last layer, ``hidden`` if None.
        chunk: rows per pass when no gradient is needed, which bounds the memory at fine grids.
        checkpointing: keep no hidden activations and compute them again, chunk by chunk, in the backward pass.
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
    ):
        super().__init__()
        if num_layers < 1:
            raise ShapeError(f"num_layers of a head must be 1 or more; got {num_layers}.")
        widths = [in_channels, *[hidden] * (num_layers - 1), decoder_channels or hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.Softplus()]
        self.decoder = nn.Sequential(*layers[:-1])
        self.classifier = nn.Linear(widths[-1], out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.chunk, self.checkpointing = chunk, checkpointing

    def forward(self, features: Float[Tensor, "P C"]) -> Float[Tensor, "P K"]:
        if not torch.is_grad_enabled() and len(features) >= self.classifier.in_features:
            hidden, (kernel, bias) = self.decoder[:-1], self._composed()
            return torch.cat([F.linear(hidden(part), kernel, bias) for part in features.split(self.chunk)])
        if not (self.checkpointing and torch.is_grad_enabled()):
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
