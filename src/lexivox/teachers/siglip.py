"""Dense features from SigLIP and SigLIP 2 (spec ovpanoptic 8.4).

Their image vector comes out of a pooling attention, so plain patch tokens do not speak the language of the texts.
Each token is sent through the value path of that attention by itself.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexivox.teachers.checkpoint import load_image_text
from lexivox.teachers.dense import DenseTeacher, Statistics


class SiglipTeacher(DenseTeacher):
    """Features of SigLIP's patches.

    Args:
        folder: a checkpoint folder or hub id of model type siglip (fixed size, SigLIP 2 included) or siglip2
            (any size), e.g. ``google/siglip2-large-patch16-512``.
        short_side_px, window_px, stride_px: as in :class:`~lexivox.teachers.dense.DenseTeacher`.
    """

    def __init__(
        self,
        folder: str | Path,
        short_side_px: int = 512,
        window_px: int | None = None,
        stride_px: int | None = None,
    ) -> None:
        super().__init__(folder, short_side_px, window_px, stride_px)

    @property
    def statistics(self) -> Statistics:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    @property
    def fingerprint(self) -> str:
        """Everything besides the images that the features depend on."""
        return f"{super().fingerprint}-siglip"

    @cached_property
    def network(self) -> Any:
        return load_image_text(self.path, ("siglip", "siglip2"))

    def _dense(self, pixels: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 D h w"]:
        tower = self.network.vision_model
        grid_hw = pixels.shape[-2] // self.patch_px, pixels.shape[-1] // self.patch_px
        if self.network.config.model_type == "siglip2":
            tokens = tower.embeddings(_patch_rows(pixels, self.patch_px), torch.tensor([grid_hw]))
        else:
            tokens = tower.embeddings(pixels, interpolate_pos_encoding=True)
        for block in tower.encoder.layers:
            tokens = block(tokens, attention_mask=None)
        alone = pool_alone(tower.head, tower.post_layernorm(tokens))
        return alone.transpose(1, 2).unflatten(2, grid_hw)


def _patch_rows(pixels: Float[Tensor, "V 3 H W"], patch_px: int) -> Float[Tensor, "V T C"]:
    """Patches as rows, each in the order row, column, colour, which the linear embedding was trained with."""
    patches = pixels.unflatten(3, (-1, patch_px)).unflatten(2, (-1, patch_px))  # (V, 3, h, p, w, p)
    return patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def pool_alone(head: Any, tokens: Float[Tensor, "V T C"]) -> Float[Tensor, "V T C"]:
    """What the pooling head would answer if a token were the only one: its value, then the head's own network."""
    attention = head.attention
    weight, bias = (parameter.chunk(3)[2] for parameter in (attention.in_proj_weight, attention.in_proj_bias))
    pooled = attention.out_proj(F.linear(tokens, weight, bias))
    return pooled + head.mlp(head.layernorm(pooled))
