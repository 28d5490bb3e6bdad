"""Dense features from any CLIP-family vision tower without training (MaskCLIP, spec pop3d 5.1).

The last attention is skipped: every patch keeps its own value vector instead of mixing it with the others',
and is projected to the joint image-text space on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from lexivox.errors import ConfigError
from lexivox.teachers.checkpoint import model_folder, needs_transformers, read_config, silent_loading
from lexivox.teachers.text import ClipTextEncoder, clip_space

CLIP_MEAN, CLIP_STD = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SOFTMAX_SCALE = 100.0
"""Cosines are multiplied by this before a softmax (CLIP's own final temperature)."""


@dataclass(frozen=True, slots=True)
class DenseTokens:
    """What the last block says of every patch: values after the final norm, and the projected keys."""

    values: Float[Tensor, "V C h w"]
    keys: Float[Tensor, "V T C"]


class MaskClipTeacher:
    """MaskCLIP features of images of any size.

    Args:
        folder: a checkpoint folder or hub id of model type clip, as ``transformers`` reads it.
        short_side_px: images are resized to about this, keeping the ratio, to whole patches.
        legacy_gelu: exact GELU and LayerNorm eps 1e-6, as MaskCLIP was published; otherwise what CLIP was
            trained with (QuickGELU, 1e-5).
        imagenet_statistics: normalise with ImageNet's mean and deviation, as MaskCLIP was published.
    """

    def __init__(
        self,
        folder: str | Path,
        short_side_px: int = 512,
        legacy_gelu: bool = False,
        imagenet_statistics: bool = False,
    ) -> None:
        self.folder, self.short_side_px, self.legacy_gelu = folder, short_side_px, legacy_gelu
        self.statistics = (IMAGENET_MEAN, IMAGENET_STD) if imagenet_statistics else (CLIP_MEAN, CLIP_STD)

    @cached_property
    def path(self) -> Path:
        return model_folder(self.folder)

    @property
    def dim(self) -> int:
        return int(read_config(self.path)["projection_dim"])

    @property
    def space(self) -> str:
        return clip_space(self.path, self.dim)

    @property
    def fingerprint(self) -> str:
        """Everything besides the images that the features depend on."""
        return f"{self.space}-maskclip-{self.short_side_px}-{self.legacy_gelu}-{self.statistics[0][0]}"

    def text_encoder(self, prompts: str | tuple[str, ...] = "a photo of a {}.") -> ClipTextEncoder:
        """The text tower of the same checkpoint."""
        return ClipTextEncoder(self.folder, prompts)

    def features(self, images: UInt8[Tensor, "V 3 H W"]) -> Float[Tensor, "V D h w"]:
        """One feature per patch of the resized image.

        Raises:
            ConfigError: the checkpoint is not of the CLIP family or ``transformers`` is missing.
        """
        with torch.no_grad():  # one view at a time: attention is quadratic in the patches
            return torch.cat([value_features(self._model, self._prepare(image[None])) for image in images])

    @cached_property
    def _model(self) -> Any:
        model = load_clip(self.path)
        return use_legacy_gelu(model) if self.legacy_gelu else model

    def _prepare(self, image: UInt8[Tensor, "1 3 H W"]) -> Float[Tensor, "1 3 h w"]:
        patch = self._model.config.vision_config.patch_size
        scale = self.short_side_px / min(image.shape[-2:])
        size = [max(1, round(side * scale / patch)) * patch for side in image.shape[-2:]]
        resized = F.interpolate(image.float(), size=size, mode="bicubic", align_corners=False, antialias=True)
        mean, std = (resized.new_tensor(values)[:, None, None] for values in self.statistics)
        return (resized.clamp(0, 255) / 255 - mean) / std


def load_clip(folder: Path) -> Any:
    """A frozen float32 ``transformers.CLIPModel`` from safetensors.

    Raises:
        ConfigError: another kind of model, or ``transformers`` is missing.
    """
    kind = read_config(folder).get("model_type")
    if kind != "clip":
        raise ConfigError(f"image teacher must be a CLIP model; got model type '{kind}'. Choose another: {folder}")
    try:
        import transformers
    except ImportError as error:
        raise needs_transformers() from error
    with silent_loading():
        model = transformers.CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    return model.eval().requires_grad_(False)


def use_legacy_gelu(model: Any) -> Any:
    """Turns activation and norms of the vision tower into those of the published MaskCLIP code, in place."""
    for layer in model.vision_model.encoder.layers:
        layer.mlp.activation_fn = nn.GELU()
    for module in model.vision_model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    return model


def value_features(model: Any, pixels: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V D h w"]:
    """Values of the last block in the joint space; ``pixels`` are normalised, sides whole patches."""
    values = dense_tokens(model, pixels).values
    return torch.einsum("vchw,dc->vdhw", values, model.visual_projection.weight)


def dense_tokens(model: Any, pixels: Float[Tensor, "V 3 H W"]) -> DenseTokens:
    """Values and keys of the last block for every patch."""
    tower = model.vision_model
    tokens, grid_hw = _embed_patches(tower.embeddings, pixels)
    tokens = tower.pre_layrnorm(tokens)
    *blocks, last = tower.encoder.layers
    for block in blocks:
        output = block(tokens, attention_mask=None)
        tokens = output[0] if isinstance(output, tuple) else output
    attention, normed = last.self_attn, last.layer_norm1(tokens)
    values = attention.out_proj(attention.v_proj(normed)) + tokens
    values = tower.post_layernorm(values + last.mlp(last.layer_norm2(values)))
    keys = attention.out_proj(attention.k_proj(normed))
    return DenseTokens(values[:, 1:].transpose(1, 2).unflatten(2, grid_hw), keys[:, 1:])


def _embed_patches(embeddings: Any, pixels: Float[Tensor, "V 3 H W"]) -> tuple[Float[Tensor, "V T C"], tuple[int, int]]:
    """Class token and patches with positions resized to this grid."""
    patches = embeddings.patch_embedding(pixels)  # (V, C, h, w)
    grid_hw = (int(patches.shape[2]), int(patches.shape[3]))
    position = resize_positions(embeddings.position_embedding.weight, grid_hw)
    class_token = embeddings.class_embedding.expand(len(pixels), 1, -1)
    return torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1) + position, grid_hw


def resize_positions(position: Float[Tensor, "T C"], grid_hw: tuple[int, int]) -> Float[Tensor, "N C"]:
    """Position rows of a square training grid, bicubically resized; the first row (class token) is kept."""
    side = round((len(position) - 1) ** 0.5)
    grid = position[1:].T.unflatten(1, (side, side))[None]
    if grid_hw != (side, side):
        grid = F.interpolate(grid, size=grid_hw, mode="bicubic", align_corners=False)
    return torch.cat([position[:1], grid[0].flatten(1).T])


def denoise_prompts(scores: Float[Tensor, "V M h w"], threshold: float) -> Float[Tensor, "V M h w"]:
    """Removes classes (score -100) whose best probability in the whole image stays below ``threshold``."""
    best = (scores * SOFTMAX_SCALE).softmax(dim=1).amax(dim=(2, 3), keepdim=True)
    return scores.masked_fill(best < threshold, -100.0)


def smooth_keys(
    scores: Float[Tensor, "V M h w"],
    keys: Float[Tensor, "V T C"],
    threshold: float,
    over_tokens: bool = False,
) -> Float[Tensor, "V M h w"]:
    """Probabilities; unsure patches (best below ``threshold``) take the sum over patches with similar keys.

    Args:
        scores: cosines, after :func:`denoise_prompts` where that is used too.
        keys: of :func:`dense_tokens`, T = h * w.
        threshold: 1 smooths everywhere.
        over_tokens: normalise keys along the tokens as the published code does, not along channels.
    """
    probs = (scores * SOFTMAX_SCALE).softmax(dim=1).flatten(2).transpose(1, 2)  # (V, T, M)
    keys = F.normalize(keys, dim=1 if over_tokens else 2)
    smoothed = keys @ (keys.transpose(1, 2) @ probs)
    is_unsure = probs.amax(dim=2, keepdim=True) < threshold
    return torch.where(is_unsure, smoothed, probs).transpose(1, 2).unflatten(2, scores.shape[2:])
