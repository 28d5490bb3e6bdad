"""Published names of the triplane weights and ours (spec POP-3D 8.1)."""

from __future__ import annotations


def encoder_keys(num_layers: int) -> dict[str, str]:
    keys = {
        "tpv_head.level_embeds": "level_embedding",
        "tpv_head.cams_embeds": "camera_embedding",
        "tpv_head.positional_encoding.row_embed.weight": "row_position",
        "tpv_head.positional_encoding.col_embed.weight": "column_position",
    }
    for plane, name in enumerate(("hw", "zh", "wz")):
        keys[f"tpv_head.tpv_embedding_{name}.weight"] = f"plane_queries.{plane}"
    for i in range(num_layers):
        for theirs, ours in _layer_keys().items():
            keys[f"tpv_head.encoder.layers.{i}.{theirs}"] = f"layers.{i}.{ours}"
    return keys


def aggregator_keys(suffix: str) -> dict[str, str]:
    """``suffix`` is empty for the occupancy head and ``_ft`` for the language head."""
    modules = {f"decoder{suffix}.0": "decoder.0", f"decoder{suffix}.2": "decoder.2"}
    modules[f"classifier{suffix}"] = "classifier"
    return {f"tpv_aggregator.{theirs}": ours for theirs, ours in _weights_and_biases(modules).items()}


def _layer_keys() -> dict[str, str]:
    cross = "attentions.1.deformable_attention"
    modules = {
        "attentions.0.sampling_offsets": "self_attention.sampling_offsets",
        "attentions.0.attention_weights": "self_attention.attention_weights",
        "attentions.0.value_proj": "self_attention.value_proj",
        "attentions.0.output_proj": "self_attention.output_proj",
        f"{cross}.value_proj": "cross_attention.value_proj",
        "attentions.1.output_proj": "cross_attention.output_proj",
        "ffns.0.layers.0.0": "ffn.0",
        "ffns.0.layers.1": "ffn.3",
    }
    for plane in range(3):
        modules[f"{cross}.sampling_offsets.{plane}"] = f"cross_attention.sampling_offsets.{plane}"
        modules[f"{cross}.attention_weights.{plane}"] = f"cross_attention.attention_weights.{plane}"
        modules[f"norms.{plane}"] = f"norms.{plane}"
    return _weights_and_biases(modules)


def _weights_and_biases(modules: dict[str, str]) -> dict[str, str]:
    return {f"{a}.{part}": f"{b}.{part}" for a, b in modules.items() for part in ("weight", "bias")}
