"""Dense features from TIPSv2: trained so that patches, not only images, agree with their words.

The recommended teacher (spec ovpanoptic 8.5): twice MaskCLIP's zero-shot score at the cost of one ViT-L.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from lexivox.teachers.checkpoint import load_image_text
from lexivox.teachers.dense import DenseTeacher, Statistics


class TipsTeacher(DenseTeacher):
    """Features of TIPSv2's patches.

    Args:
        folder: a checkpoint folder or hub id of model type tipsv2, e.g. ``google/tipsv2-l14``.
        use_values: skip the last attention and keep its values, which its authors found better for segmenting;
            otherwise the network's own output.
        short_side_px, window_px, stride_px: as in :class:`~lexivox.teachers.dense.DenseTeacher`; it was trained
            with 448.
    """

    def __init__(
        self,
        folder: str | Path,
        use_values: bool = True,
        short_side_px: int = 448,
        window_px: int | None = None,
        stride_px: int | None = None,
    ) -> None:
        super().__init__(folder, short_side_px, window_px, stride_px)
        self.use_values = use_values

    @property
    def statistics(self) -> Statistics:
        """Images stay in 0..1."""
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    @property
    def fingerprint(self) -> str:
        """Everything besides the images that the features depend on."""
        return f"{super().fingerprint}-tips-{self.use_values}"

    @cached_property
    def network(self) -> Any:
        return load_image_text(self.path, ("tipsv2",))

    def _dense(self, pixels: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 D h w"]:
        tower = self.network.vision_model
        tokens = tower.embeddings(pixels)  # class token, registers, patches
        *blocks, last = tower.encoder.layer
        for block in blocks:
            tokens = block(tokens)
        tokens = tower.layernorm(_value_block(last, tokens) if self.use_values else last(tokens))
        grid_hw = pixels.shape[-2] // self.patch_px, pixels.shape[-1] // self.patch_px
        patches = tokens[:, 1 + tower.config.num_register_tokens :]
        return patches.transpose(1, 2).unflatten(2, grid_hw)


def _value_block(block: Any, tokens: Float[Tensor, "V T C"]) -> Float[Tensor, "V T C"]:
    """A block whose attention gives every token its own value; shortcut and feed-forward part stay."""
    own = block.attention
    tokens = tokens + block.layer_scale1(own.o_proj(own.v_proj(block.norm1(tokens))))
    return tokens + block.layer_scale2(block.mlp(block.norm2(tokens)))
