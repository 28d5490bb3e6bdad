"""CLIP's own checkpoints as folders that everything else here reads (spec pop3d 8.4).

A folder holds what ``transformers`` expects: ``config.json``, ``model.safetensors`` and the tokenizer's files. A ResNet
image tower, which ``transformers`` lacks, lies beside the text tower as ``visual.safetensors`` under its own names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from lexivox.errors import WeightsError
from lexivox.files import write_atomically
from lexivox.weights.checkpoint import read_checkpoint
from lexivox.weights.clip_words import write_words

HEAD_WIDTH = 64
"""Every published CLIP splits its transformers' channels into heads of this width."""

Arrays = dict[str, Tensor]

_BLOCK = (
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("attn.out_proj.", "self_attn.out_proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)
_VISION = (
    ("class_embedding", "embeddings.class_embedding"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("conv1.weight", "embeddings.patch_embedding.weight"),
    ("ln_pre.", "pre_layrnorm."),
    ("ln_post.", "post_layernorm."),
)
_TEXT = (
    ("token_embedding.weight", "embeddings.token_embedding.weight"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_final.", "final_layer_norm."),
)
"""Published beginnings of names and those of ``transformers``."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Attention heads of the towers; 0 = as every published CLIP has them. No array tells their number."""

    vision: int = 0
    text: int = 0


def import_clip(
    weights: str | Path,
    vocabulary: str | Path,
    folder: str | Path,
    heads: Heads = Heads(),
) -> Path:
    """Write a published CLIP checkpoint as a folder for :class:`lexivox.teachers.clip.MaskClipTeacher` and its words.

    Args:
        weights: a state dict under CLIP's own names, or the TorchScript archive that CLIP is published as.
        vocabulary: ``bpe_simple_vocab_16e6.txt.gz``, which is published beside CLIP's code.
        folder: made where needed.
        heads: of towers of unusual shape.

    Returns:
        The folder.

    Raises:
        WeightsError: an array is missing or unknown, or a file cannot be read.
    """
    folder, given = Path(folder), {name: array.float() for name, array in read_checkpoint(weights).items()}
    given = {name: array for name, array in given.items() if name not in _SIZES}
    try:
        text, text_config = _text_tower(given, heads.text)
        if "visual.layer1.0.conv1.weight" in given:
            towers, config = text, {**text_config, "model_type": "clip_text_model", "visual": _resnet_config(given)}
            _write_arrays(folder / "visual.safetensors", _below(given, "visual."))
        else:
            vision, vision_config = _vision_tower(given, heads.vision)
            towers = {**text, **vision, "logit_scale": given["logit_scale"]}
            config = {"model_type": "clip", "text_config": text_config, "vision_config": vision_config}
            config["projection_dim"] = text_config["projection_dim"]
    except KeyError as error:
        raise WeightsError(f"CLIP weights must hold {error}; got none. Check: {weights}") from None
    write_words(vocabulary, folder)
    _write_arrays(folder / "model.safetensors", towers)
    content = json.dumps(config, indent=1, sort_keys=True).encode()
    write_atomically(folder / "config.json", lambda file: file.write(content), "CLIP folder")
    return folder


_SIZES = ("input_resolution", "context_length", "vocab_size")
"""Numbers in the published archives that the arrays tell too."""


def _vision_tower(given: Mapping[str, Tensor], heads: int) -> tuple[Arrays, dict[str, Any]]:
    own = _below(given, "visual.")
    width, _, patch, _ = own["conv1.weight"].shape
    arrays = {f"vision_model.{key}": value for key, value in _transformer(own, _VISION, "proj").items()}
    arrays["visual_projection.weight"] = own["proj"].T
    side = round((len(own["positional_embedding"]) - 1) ** 0.5)
    sizes = {"image_size": side * patch, "patch_size": patch, "projection_dim": own["proj"].shape[1]}
    return arrays, {**_tower_config(own, width, heads), **sizes}


def _text_tower(given: Mapping[str, Tensor], heads: int) -> tuple[Arrays, dict[str, Any]]:
    own = {key: value for key, value in given.items() if not key.startswith("visual.") and key != "logit_scale"}
    tokens, width = own["token_embedding.weight"].shape
    arrays = {f"text_model.{key}": value for key, value in _transformer(own, _TEXT, "text_projection").items()}
    arrays["text_projection.weight"] = own["text_projection"].T
    sizes = {"vocab_size": tokens, "max_position_embeddings": len(own["positional_embedding"])}
    ends = {"bos_token_id": tokens - 2, "eos_token_id": tokens - 1, "projection_dim": own["text_projection"].shape[1]}
    return arrays, {**_tower_config(own, width, heads), **sizes, **ends}


def _tower_config(own: Mapping[str, Tensor], width: int, heads: int) -> dict[str, Any]:
    layers = {name.split(".")[2] for name in own if name.startswith("transformer.resblocks.")}
    return {
        "hidden_size": width,
        "intermediate_size": own["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads or width // HEAD_WIDTH,
        "hidden_act": "quick_gelu",
    }


def _transformer(own: Mapping[str, Tensor], renames: tuple[tuple[str, str], ...], skip: str) -> Arrays:
    """Arrays of a tower under the names of ``transformers``; queries, keys and values get their own."""
    arrays: Arrays = {}
    for name, array in own.items():
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", name)
        if name == skip:
            continue
        if block is None:
            arrays[_renamed(name, renames)] = array
            continue
        place, inner = f"encoder.layers.{block[1]}.", block[2]
        if inner.startswith("attn.in_proj_"):
            part = inner.removeprefix("attn.in_proj_")
            arrays |= {f"{place}self_attn.{x}_proj.{part}": y for x, y in zip("qkv", array.chunk(3), strict=True)}
        else:
            arrays[place + _renamed(inner, _BLOCK)] = array
    return arrays


def _renamed(name: str, renames: tuple[tuple[str, str], ...]) -> str:
    for old, new in renames:
        if name.startswith(old):
            return new + name.removeprefix(old)
    raise WeightsError(f"CLIP weights must hold CLIP's arrays only; got {name}. Check the file.")


def _resnet_config(given: Mapping[str, Tensor]) -> dict[str, Any]:
    """Shape of a ResNet tower: blocks of its stages and channels of its stem."""
    blocks = [
        len({name.split(".")[2] for name in given if name.startswith(f"visual.layer{stage}.")}) for stage in range(1, 5)
    ]
    return {"kind": "resnet", "blocks": blocks, "width": int(given["visual.conv3.weight"].shape[0])}


def _below(given: Mapping[str, Tensor], prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in given.items() if name.startswith(prefix)}


def _write_arrays(path: Path, arrays: Arrays) -> None:
    content = save({name: array.contiguous().clone() for name, array in arrays.items()}, metadata={"format": "pt"})
    write_atomically(path, lambda file: file.write(content), "CLIP folder")
