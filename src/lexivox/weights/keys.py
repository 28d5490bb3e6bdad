"""Published names of the arrays of POP-3D and TPVFormer, and ours (spec POP-3D 8)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count

from lexivox.errors import WeightsError

_LAYER, _THEIR_LAYER = "encoder.triplane.layers.#", "tpv_head.encoder.layers.#"

NAMES = (
    ("encoder.image.backbone.*", "img_backbone.*"),
    ("encoder.image.pyramid.lateral.#.*", "img_neck.lateral_convs.#.conv.*"),
    ("encoder.image.pyramid.smooth.#.*", "img_neck.fpn_convs.#.conv.*"),
    ("encoder.triplane.level_embedding", "tpv_head.level_embeds"),
    ("encoder.triplane.camera_embedding", "tpv_head.cams_embeds"),
    ("encoder.triplane.row_position", "tpv_head.positional_encoding.row_embed.weight"),
    ("encoder.triplane.column_position", "tpv_head.positional_encoding.col_embed.weight"),
    ("encoder.triplane.plane_queries.0", "tpv_head.tpv_embedding_hw.weight"),
    ("encoder.triplane.plane_queries.1", "tpv_head.tpv_embedding_zh.weight"),
    ("encoder.triplane.plane_queries.2", "tpv_head.tpv_embedding_wz.weight"),
    (f"{_LAYER}.self_attention.*", f"{_THEIR_LAYER}.attentions.0.*"),
    (f"{_LAYER}.cross_attention.output_proj.*", f"{_THEIR_LAYER}.attentions.1.output_proj.*"),
    (f"{_LAYER}.cross_attention.*", f"{_THEIR_LAYER}.attentions.1.deformable_attention.*"),
    (f"{_LAYER}.ffn.0.*", f"{_THEIR_LAYER}.ffns.0.layers.0.0.*"),
    (f"{_LAYER}.ffn.3.*", f"{_THEIR_LAYER}.ffns.0.layers.1.*"),
    (f"{_LAYER}.norms.*", f"{_THEIR_LAYER}.norms.*"),
    ("heads.occupancy.*", "tpv_aggregator.*"),
    ("heads.semantic.*", "tpv_aggregator.*"),
    ("heads.language.decoder.*", "tpv_aggregator.decoder_ft.*"),
    ("heads.language.classifier.*", "tpv_aggregator.classifier_ft.*"),
)
"""Ours and the published one, the first that fits; ``#`` is a number and ``*`` the rest of a name."""

PLANES = ("hw", "zh", "wz")
"""Published names of the planes xy, yz, xz."""

DERIVED = (
    "tpv_head.tpv_mask_hw",
    *(f"tpv_head.encoder.ref_{dims}_{plane}" for dims in ("3d", "2d") for plane in PLANES),
)
"""Buffers of the published model that ours computes from the grid and does not keep."""

OLD_NAMES = (
    ("pts_bbox_head.", "tpv_head."),
    ("transformer.", ""),
    ("fusion_head.", "tpv_aggregator."),
    ("bev", "tpv"),
    ("conv2_offset.", "conv2.conv_offset."),
)
"""Parts of names in older files, and what became of them (spec POP-3D 8.2)."""


Names = tuple[tuple[str, str], ...]


def published_names(own: Iterable[str], table: Names = NAMES) -> dict[str, str]:
    """Own name -> published name.

    Raises:
        WeightsError: an own array has no published counterpart.
    """
    rules = [_rule(*pair) for pair in table]
    names = {name: _published(name, rules) for name in own}
    alone = [name for name, theirs in names.items() if theirs is None]
    if alone:
        raise WeightsError(
            f"a model must be the published one to take published weights; got {len(alone)} arrays of its own "
            f"({', '.join(alone[:3])}). Use the recipe that the weights were made with."
        )
    return {name: theirs for name, theirs in names.items() if theirs is not None}


def modern_name(name: str) -> str:
    """A name of an older file as newer ones have it."""
    for old, new in OLD_NAMES:
        name = name.replace(old, new)
    return name


def _published(name: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, replacement in rules:
        found = pattern.fullmatch(name)
        if found:
            return found.expand(replacement)
    return None


def _rule(ours: str, theirs: str) -> tuple[re.Pattern[str], str]:
    """``#`` and ``*`` become the groups 1, 2, ... in the order in which they stand, the same on both sides."""
    pattern = re.escape(ours).replace(r"\#", r"(\d+)").replace(r"\*", r"(.+)")
    groups = count(1)
    return re.compile(pattern), re.sub(r"[#*]", lambda _: rf"\g<{next(groups)}>", theirs)
