"""Published names of the arrays of BEVDet's lift-splat encoders, which OccFlowNet took over, and ours (spec 1)."""

from __future__ import annotations

DEPTH_NET = (
    ("reduce.*", "reduce_conv.*"),
    ("camera_norm.*", "bn.*"),
    ("context_gate.mlp.0.*", "context_mlp.fc1.*"),
    ("context_gate.mlp.2.*", "context_mlp.fc2.*"),
    ("context_gate.gate.0.*", "context_se.conv_reduce.*"),
    ("context_gate.gate.2.*", "context_se.conv_expand.*"),
    ("depth_gate.mlp.0.*", "depth_mlp.fc1.*"),
    ("depth_gate.mlp.2.*", "depth_mlp.fc2.*"),
    ("depth_gate.gate.0.*", "depth_se.conv_reduce.*"),
    ("depth_gate.gate.2.*", "depth_se.conv_expand.*"),
    ("context.*", "context_conv.*"),
    ("cost.*", "cost_volumn_net.*"),
    ("depth.#.conv#.*", "depth_conv.#.conv#.*"),
    ("depth.#.norm#.*", "depth_conv.#.bn#.*"),
    ("depth.#.shortcut.*", "depth_conv.#.downsample.*"),
    *((f"depth.3.branches.{i}.0.*", f"depth_conv.3.aspp{i + 1}.atrous_conv.*") for i in range(4)),
    *((f"depth.3.branches.{i}.1.*", f"depth_conv.3.aspp{i + 1}.bn.*") for i in range(4)),
    ("depth.3.mean.0.*", "depth_conv.3.global_avg_pool.1.*"),
    ("depth.3.mean.1.*", "depth_conv.3.global_avg_pool.2.*"),
    ("depth.3.join.0.*", "depth_conv.3.conv1.*"),
    ("depth.3.join.1.*", "depth_conv.3.bn1.*"),
    ("depth.4.*", "depth_conv.4.*"),
)
"""Of the depth network, the first that fits."""

_VOLUME = (
    ("frame_block.#", "pre_process_net.layers.0.#"),
    ("volume.stages.#.#", "img_bev_encoder_backbone.layers.#.#"),
)

_BLOCK, _THEIR_BLOCK = "image.backbone.stages.#.blocks.#", "img_backbone.stages.#.blocks.#"

_SWIN = (
    ("image.backbone.embeddings.patch_embeddings.*", "img_backbone.patch_embed.*"),
    ("image.backbone.embeddings.norm.*", "img_backbone.patch_embed.norm.*"),
    (f"{_BLOCK}.layernorm_before.*", f"{_THEIR_BLOCK}.norm1.*"),
    (f"{_BLOCK}.layernorm_after.*", f"{_THEIR_BLOCK}.norm2.*"),
    *((f"{_BLOCK}.attention.{part}_proj.*", f"{_THEIR_BLOCK}.attn.w_msa.qkv.{part}.*") for part in "qkv"),
    (f"{_BLOCK}.attention.o_proj.*", f"{_THEIR_BLOCK}.attn.w_msa.proj.*"),
    (f"{_BLOCK}.attention.relative_position_bias.*", f"{_THEIR_BLOCK}.attn.w_msa.*"),
    (f"{_BLOCK}.mlp.fc1.*", f"{_THEIR_BLOCK}.ffn.layers.0.0.*"),
    (f"{_BLOCK}.mlp.fc2.*", f"{_THEIR_BLOCK}.ffn.layers.1.*"),
    *((f"image.backbone.norms.{stage}.*", f"img_backbone.norm{stage - 1}.*") for stage in (1, 2, 3, 4)),
)
"""Of a Swin backbone; :mod:`lexivox.weights.lift` splits the published query-key-value layers first."""

LIFT = (
    *_SWIN,
    ("image.backbone.*", "img_backbone.*"),
    ("image.pyramid.join.*", "img_neck.conv.*"),
    ("image.pyramid.lateral.#.*", "img_neck.lateral_convs.#.conv.*"),
    ("image.pyramid.smooth.#.*", "img_neck.fpn_convs.#.conv.*"),
    *((f"depth_net.{ours}", f"img_view_transformer.depth_net.{theirs}") for ours, theirs in DEPTH_NET),
    *((f"{ours}.conv#.conv.*", f"{theirs}.conv#.conv.*") for ours, theirs in _VOLUME),
    *((f"{ours}.conv#.norm.*", f"{theirs}.conv#.bn.*") for ours, theirs in _VOLUME),
    *((f"{ours}.shortcut.conv.*", f"{theirs}.downsample.conv.*") for ours, theirs in _VOLUME),
    *((f"{ours}.shortcut.norm.*", f"{theirs}.downsample.bn.*") for ours, theirs in _VOLUME),
    ("volume.join.conv.*", "img_bev_encoder_neck.conv.conv.*"),
    ("volume.join.norm.*", "img_bev_encoder_neck.conv.bn.*"),
    ("volume.last.*", "final_conv.conv.*"),
)
"""Of the encoder, the first that fits. Heads have no names here: see :mod:`lexivox.weights.lift`."""

IMAGE_BRANCH = ("img_backbone.", "img_neck.", "img_view_transformer.")
VOLUME_BRANCH = ("pre_process_net.", "img_bev_encoder_backbone.", "img_bev_encoder_neck.", "final_conv.")
"""Prefixes of published names; a detector has the first branch and something flat instead of the second."""
