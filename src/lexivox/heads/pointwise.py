"""One MLP for every answer at a point: occupancy, density, class, language feature (spec POP-3D 3)."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lexivox.errors import ShapeError


class PointwiseHead(nn.Module):
    """Linear layers with Softplus between them, then a classifier; no norms, nothing squashed at the end.

    There is no activation between the decoder's last Linear and the classifier, as published.

    Args:
        in_channels: of the field.
        hidden: width of the decoder.
        out_channels: logits or feature channels.
        num_layers: Linear layers of the decoder; the classifier is not counted.
        decoder_channels: width of the decoder's last layer, ``hidden`` if None.
        chunk: rows per pass when no gradient is needed, which bounds the memory at fine grids.
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
        self.in_channels, self.out_channels, self.chunk = in_channels, out_channels, chunk

    def forward(self, features: Float[Tensor, "P C"]) -> Float[Tensor, "P K"]:
        if torch.is_grad_enabled() or len(features) <= self.chunk:
            return self.classifier(self.decoder(features))
        return torch.cat([self.classifier(self.decoder(part)) for part in features.split(self.chunk)])
