"""Dense features from any CLIP checkpoint without training: MaskCLIP and its successors (spec pop3d 5.1).

The last attention is changed so that every patch speaks for itself, and is projected to the joint image-text space on
its own.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from lexivox.teachers.checkpoint import load_image_text
from lexivox.teachers.clip_vit import DenseTokens, dense_tokens, project, use_legacy_gelu
from lexivox.teachers.dense import DenseTeacher, Statistics
from lexivox.teachers.last_attention import LastAttention
from lexivox.teachers.refinements import Refinement

CLIP_STATISTICS: Statistics = ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758))
IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class ScoringTeacher(DenseTeacher):
    """A CLIP tower whose cells also have keys, which refine scores of classes."""

    def tokens(self, pixels: Float[Tensor, "1 3 H W"]) -> DenseTokens:
        """Features in the joint space and keys of the cells of a prepared image."""
        raise NotImplementedError

    def _dense(self, pixels: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 D h w"]:
        return self.tokens(pixels).values

    def scores(
        self,
        images: UInt8[Tensor, "V 3 H W"],
        text: Float[Tensor, "M D"],
        refinement: Refinement = Refinement(),  # noqa: B008 (frozen)
    ) -> Float[Tensor, "V M h w"]:
        """How well every patch fits every text: cosines, refined if asked for.

        Images are read whole, never in windows: smoothing relates all patches of an image.

        Args:
            images: RGB 0..255.
            text: unit vectors of this teacher's :meth:`text_encoder`.
            refinement: corrections, none by default.
        """
        with torch.no_grad():
            return torch.cat([self._scores(self.prepare(image[None]), text, refinement) for image in images])

    def _scores(self, pixels: Tensor, text: Tensor, refinement: Refinement) -> Float[Tensor, "1 M h w"]:
        tokens = self.tokens(pixels)
        cosines = torch.einsum("vdhw,md->vmhw", F.normalize(tokens.values, dim=1), text.to(tokens.values))
        return refinement(cosines, tokens.keys)


class MaskClipTeacher(ScoringTeacher):
    """Features of CLIP's patches.

    Args:
        folder: a checkpoint folder or hub id of model type clip, as ``transformers`` reads it.
        attention: what the last attention becomes; ``"value"`` is MaskCLIP, ``"naclip"`` answers best.
        short_side_px, window_px, stride_px: as in :class:`~lexivox.teachers.dense.DenseTeacher`.
        legacy_gelu: exact GELU and LayerNorm eps 1e-6, as MaskCLIP was published; otherwise what CLIP was
            trained with (QuickGELU, 1e-5; errata 21).
        imagenet_statistics: normalise with ImageNet's mean and deviation, as MaskCLIP was published.
    """

    def __init__(
        self,
        folder: str | Path,
        attention: LastAttention = "value",
        short_side_px: int = 512,
        window_px: int | None = None,
        stride_px: int | None = None,
        legacy_gelu: bool = False,
        imagenet_statistics: bool = False,
    ) -> None:
        super().__init__(folder, short_side_px, window_px, stride_px)
        self.attention: LastAttention = attention
        self.legacy_gelu, self.imagenet_statistics = legacy_gelu, imagenet_statistics

    @property
    def statistics(self) -> Statistics:
        return IMAGENET_STATISTICS if self.imagenet_statistics else CLIP_STATISTICS

    @property
    def fingerprint(self) -> str:
        """Everything besides the images that the features depend on."""
        options = f"{self.attention}-{self.legacy_gelu}-{self.imagenet_statistics}"
        return f"{super().fingerprint}-maskclip-{options}"

    @cached_property
    def network(self) -> Any:
        model = load_image_text(self.path, ("clip",))
        return use_legacy_gelu(model) if self.legacy_gelu else model

    def tokens(self, pixels: Float[Tensor, "1 3 H W"]) -> DenseTokens:
        dense = dense_tokens(self.network, pixels, self.attention)
        return DenseTokens(project(self.network, dense.values), dense.keys)
