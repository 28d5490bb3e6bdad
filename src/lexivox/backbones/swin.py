"""Swin transformers (Liu et al. 2021) as image backbones, on the implementation of the optional ``transformers``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

SIZES = {
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
}
"""Width, blocks and heads of the four stages, and the side of a window."""


class Swin(nn.Module):
    """Normalised images to the outputs of chosen stages, fine to coarse, at strides 4, 8, 16 and 32.

    Args:
        size: of the network; ``"base"`` has windows of 12, as OccFlowNet's (spec 1.2).
        out_stages: stages, counted from 1, whose outputs are given out.
        raw_stages: those of them without the layer norm after them: what two keyframes are compared in.
        drop_path: share of residual branches left out in training, at the last block.
        checkpointing: keep no activations inside a block and compute them again in the backward pass.
    """

    def __init__(
        self,
        size: Literal["tiny", "base"] = "base",
        *,
        out_stages: Sequence[int] = (3, 4),
        raw_stages: Sequence[int] = (1,),
        drop_path: float = 0.1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        from transformers import SwinConfig, SwinModel

        width, blocks, heads, window = SIZES[size]
        config = SwinConfig(
            embed_dim=width, depths=blocks, num_heads=heads, window_size=window, drop_path_rate=drop_path
        )
        network = SwinModel(config, add_pooling_layer=False)
        self.embeddings, self.stages = network.embeddings, network.encoder.layers[: max(out_stages)]
        self.stages[-1].downsample = None  # type: ignore[assignment] (nobody hears what follows)
        self.out_stages, self.checkpointing = tuple(out_stages), checkpointing
        self.channels = tuple(width * 2 ** (stage - 1) for stage in self.out_stages)
        self.norms = nn.ModuleDict(
            {
                str(stage): nn.Identity() if stage in raw_stages else nn.LayerNorm(channels)
                for stage, channels in zip(self.out_stages, self.channels, strict=True)
            }
        )

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> list[Tensor]:
        return self._levels(images, max(self.out_stages))

    def first_level(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N _ _ _"]:
        """The first of the levels alone; later stages are not run."""
        return self._levels(images, self.out_stages[0])[0]

    def _levels(self, images: Tensor, last_stage: int) -> list[Tensor]:
        tokens, (height, width) = self.embeddings(images)
        levels = []
        for number, stage in enumerate(self.stages[:last_stage], 1):
            for block in stage.get_submodule("blocks").children():
                tokens = self._run(block, tokens, (height, width))
            if number in self.out_stages:
                level = self.norms[str(number)](tokens)
                levels.append(level.unflatten(1, (height, width)).movedim(-1, 1))
            if number < last_stage:
                tokens = stage.get_submodule("downsample")(tokens, (height, width))
                height, width = (height + 1) // 2, (width + 1) // 2
        return levels

    def _run(self, block: nn.Module, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        def run(x: Tensor) -> Tensor:
            return block(x, size, always_partition=True)[0]

        again = self.checkpointing and torch.is_grad_enabled()
        return checkpoint(run, tokens, use_reentrant=False) if again else run(tokens)  # type: ignore[return-value]
