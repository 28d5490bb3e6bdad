"""The encoder of OccFlowNet at the size of its paper (spec occflownet 1.2 to 1.5)."""

from __future__ import annotations

from lexivox.config import DepthNetConfig, ImageConfig, LiftRulesConfig, LiftSplatConfig


def published_lift(weights: str | None = None) -> LiftSplatConfig:
    """Swin-B at 512 x 1408 and every choice as released: norms, places, rounding, statistics of the past.

    Args:
        weights: a BEVDet4D-stereo checkpoint of this size to start from.
    """
    image = ImageConfig(
        image_hw=(512, 1408),
        fit="crop",
        backbone="swin_base",
        out_stages=(1, 3, 4),
        skip_levels=1,
        channels=512,
        num_levels=1,
        joined="batch",
    )
    rules = LiftRulesConfig(
        places="corners",
        truncate=True,
        is_relative=False,
        native_scale=0.88,
        native_top_px=280.0,
        own_mounting=False,
        past_statistics=True,
    )
    return LiftSplatConfig(
        image=image,
        weights=weights,
        depth_net=DepthNetConfig(channels=512, dropout=0.5),
        past=1,
        stereo=True,
        norm="batch",
        align_corners=True,
        rules=rules,
    )
