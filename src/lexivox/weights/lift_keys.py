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
