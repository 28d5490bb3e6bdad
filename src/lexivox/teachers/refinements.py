"""MaskCLIP's two corrections of class scores, both off by default and not used by POP-3D (spec pop3d 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SOFTMAX_SCALE = 100.0
"""Cosines are multiplied by this before a softmax (CLIP's own final temperature)."""
REMOVED_SCORE = -100.0


@dataclass(frozen=True, slots=True)
class Refinement:
    """Which corrections are applied, denoising first.

    Attributes:
        prompt_denoising: classes whose best probability in the image stays below this are removed; published 0.5.
        key_smoothing: patches whose best probability stays below this ask the patches with similar keys;
            1 = all patches, as published.
        keys_unit_over: keys are made unit along their ``"channels"``; the published code does so along the
            ``"tokens"`` (errata 22), which makes similarity depend on how many patches there are.
    """

    prompt_denoising: float | None = None
    key_smoothing: float | None = None
    keys_unit_over: Literal["channels", "tokens"] = "channels"

    def __call__(self, scores: Float[Tensor, "V M h w"], keys: Float[Tensor, "V T C"]) -> Float[Tensor, "V M h w"]:
        """Refined scores: cosines still, or with key smoothing sums of probabilities; the largest is the answer.

        Args:
            scores: cosines of patches and texts.
            keys: of the last block at every patch, T = h * w.
        """
        if self.prompt_denoising is not None:
            scores = denoise_prompts(scores, self.prompt_denoising)
        if self.key_smoothing is not None:
            scores = smooth_keys(scores, keys, self.key_smoothing, self.keys_unit_over)
        return scores


def denoise_prompts(scores: Float[Tensor, "V M h w"], threshold: float) -> Float[Tensor, "V M h w"]:
    """Removes classes (score -100) whose best probability in the whole image stays below ``threshold``."""
    best = (scores * SOFTMAX_SCALE).softmax(dim=1).amax(dim=(2, 3), keepdim=True)
    return scores.masked_fill(best < threshold, REMOVED_SCORE)


def smooth_keys(
    scores: Float[Tensor, "V M h w"],
    keys: Float[Tensor, "V T C"],
    threshold: float,
    unit_over: Literal["channels", "tokens"] = "channels",
) -> Float[Tensor, "V M h w"]:
    """Probabilities; unsure patches (best below ``threshold``) take the sum over patches with similar keys."""
    probs = (scores * SOFTMAX_SCALE).softmax(dim=1).flatten(2).transpose(1, 2)  # (V, T, M)
    keys = F.normalize(keys, dim=1 if unit_over == "tokens" else 2)
    smoothed = keys @ (keys.transpose(1, 2) @ probs)
    is_unsure = probs.amax(dim=2, keepdim=True) < threshold
    return torch.where(is_unsure, smoothed, probs).transpose(1, 2).unflatten(2, scores.shape[2:])
