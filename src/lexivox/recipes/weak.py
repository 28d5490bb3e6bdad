"""The best weak supervision we know: questions along rays over time, and a teacher's language at their ends.

No label is used. A mixture is a list of supervisions; docs/weak.md says what was tried and measured.
"""

from __future__ import annotations

from typing import Literal

from lexivox.config import (
    CameraDepthConfig,
    ExperimentConfig,
    HeadConfig,
    HeadsConfig,
    LanguageConfig,
    NuscenesData,
    RayQueriesConfig,
    RaysConfig,
    RenderingConfig,
    StreetTeacherConfig,
    SupervisionConfig,
)
from lexivox.data.queries import NUSCENES16_QUERIES
from lexivox.recipes.occflownet import OCC3D_GRID, SMALL_GRID, published_augment, published_training, stereo_encoder
from lexivox.recipes.pop3d import (
    NUSCENES_QUERIES,
    STREET_QUERIES,
    STREET_VOCABULARY,
    pop3d_pandaset,
    published_teacher,
    small_encoder,
    small_training,
)


def mixture(
    reach: int,
    rays: int,
    *,
    flow: Literal["none", "boxes", "sweeps"] = "sweeps",
    language: float = 3.0,
    rendering: bool = False,
    outside: Literal["drop", "keep"] = "keep",
) -> list[SupervisionConfig]:
    """Ray queries with language at the returns; the teacher at all of its points of now; rendering if asked.

    Args:
        reach: neighbouring keyframes on each side.
        rays: per sample and step.
        flow: where moving things of other keyframes are now: found in the sweeps themselves, without any label; by
            tracked boxes; or the world is taken for static.
        language: weight of the teacher.
        rendering: render as many rays as well, for depth and the likelihood of their returns.
        outside: returns beyond the grid free what their rays pass, or are dropped.
    """
    chosen = RaysConfig(reach=reach, per_sample=rays, outside=outside)
    signals: list[SupervisionConfig] = [
        RayQueriesConfig(rays=chosen, flow=flow, occupied_weight=2.0, lovasz=1.0),
        LanguageConfig(weight=language, voxel_weight=0.4 * language),
    ]
    if rendering:
        signals.append(RenderingConfig(rays=chosen, flow=flow, behind_m=4.0, ending=0.3, opacity=0.1))
    return signals


def density_heads(hidden: int = 128) -> HeadsConfig:
    head = HeadConfig(hidden=hidden, num_layers=3)
    return HeadsConfig(occupancy=None, density=head, language=head)


def weak_tiny(root: str = "runs/demo/city") -> ExperimentConfig:
    """The weak mixture at a size that trains on two CPU cores within minutes, on the synthetic city."""
    return ExperimentConfig(
        name="weak_tiny",
        grid=SMALL_GRID,
        data=NuscenesData(root=root, synthetic=True),
        encoder=small_encoder((160, 288)),
        heads=density_heads(),
        teacher=StreetTeacherConfig(),
        supervision=mixture(reach=2, rays=2000),
        train=small_training(steps=450),
        vocabulary=STREET_VOCABULARY,
        queries=STREET_QUERIES,
    )


def weak(root: str = "data/nuscenes") -> ExperimentConfig:
    """The weak mixture on nuScenes at Occ3D's grid: no label, a CLIP teacher, rays of seven keyframes."""
    return ExperimentConfig(
        name="weak",
        grid=OCC3D_GRID,
        data=NuscenesData(root=root),
        encoder=stereo_encoder(),
        heads=density_heads(hidden=256),
        teacher=published_teacher(),
        supervision=[*mixture(reach=3, rays=8192), CameraDepthConfig(weight=0.05)],
        augment=published_augment(),
        train=published_training(epochs=12),
        vocabulary={name: list(phrases) for name, phrases in NUSCENES16_QUERIES.items()},
        queries=NUSCENES_QUERIES,
    )


def weak_pandaset(
    root: str = "data/pandaset", espnet: str = "data/espnet.npz", sequence: str = "002"
) -> ExperimentConfig:
    """One real drive without labels or boxes, an ESPNet as teacher, 3 keyframes held out.

    POP-3D's voxels of the sweep count near and far alike, and give the better occupancy; questions along rays of
    neighbouring keyframes give the better depth. Here are both.
    """
    config = pop3d_pandaset(root, espnet, sequence)
    questions = mixture(reach=2, rays=2000, flow="none")[0]
    return config.changed(
        name="weak_pandaset",
        heads=density_heads(),
        supervision=[questions, *config.supervision],
        train=config.train.model_copy(update={"steps": 600}),
    )
