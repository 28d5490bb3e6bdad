"""The image tower of a CLIP checkpoint, read patch by patch (MaskCLIP and its successors; spec pop3d 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lexivox.teachers.last_attention import DROPS_REST, LastAttention, mix_values


@dataclass(frozen=True, slots=True)
class DenseTokens:
    """What the last block says of every patch: values after the final norm (or in the joint space), and keys."""

    values: Float[Tensor, "V C h w"]
    keys: Float[Tensor, "V T K"]


def use_legacy_gelu(model: Any) -> Any:
    """Turns activation and norms of the vision tower into those of the published MaskCLIP code, in place."""
    for layer in model.vision_model.encoder.layers:
        layer.mlp.activation_fn = nn.GELU()
    for module in model.vision_model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    return model


def project(model: Any, values: Float[Tensor, "V C h w"]) -> Float[Tensor, "V D h w"]:
    """Values in the joint space of images and texts."""
    return torch.einsum("vchw,dc->vdhw", values, model.visual_projection.weight)


def dense_tokens(model: Any, pixels: Float[Tensor, "V 3 H W"], attention: LastAttention = "value") -> DenseTokens:
    """Values and keys of the last block for every patch.

    Args:
        model: a ``transformers.CLIPModel``.
        pixels: normalised images, sides whole patches.
        attention: the last block's.
    """
    tower = model.vision_model
    tokens, grid_hw = _embed_patches(tower.embeddings, pixels)
    tokens = tower.pre_layrnorm(tokens)
    *blocks, last = tower.encoder.layers
    for block in blocks:
        output = block(tokens, attention_mask=None)
        tokens = output[0] if isinstance(output, tuple) else output
    own, normed = last.self_attn, last.layer_norm1(tokens)
    query, key, value = own.q_proj(normed), own.k_proj(normed), own.v_proj(normed)
    values = own.out_proj(mix_values(query, key, value, own.num_heads, attention, grid_hw))
    if attention not in DROPS_REST:
        values = values + tokens
        values = values + last.mlp(last.layer_norm2(values))
    values = tower.post_layernorm(values)
    return DenseTokens(values[:, 1:].transpose(1, 2).unflatten(2, grid_hw), own.out_proj(key)[:, 1:])


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
