"""OccFlowNet: occupancy from cameras, learnt by rendering rays of neighbouring keyframes through one prediction.

Methods and losses as published (spec occflownet), with what the released code got wrong repaired by default;
:func:`released` brings that back.
"""

from __future__ import annotations

from typing import Any

from lexivox.config import (
    AugmentConfig,
    CameraDepthConfig,
    DenseConfig,
    DepthNetConfig,
    ExperimentConfig,
    GridConfig,
    HeadConfig,
    HeadsConfig,
    ImageConfig,
    JitterConfig,
    LiftRulesConfig,
    LiftSplatConfig,
    NuscenesData,
    RaysConfig,
    RenderingConfig,
    SamplingConfig,
    TrainConfig,
)
from lexivox.data.classes import NUSCENES16
from lexivox.recipes.lifting import published_lift
from lexivox.recipes.pop3d import NUSCENES_QUERIES, STREET_QUERIES, small_encoder, small_training

KEYFRAMES, BATCH = 28_130, 16
"""Of the training split of nuScenes; four keyframes on each of four GPUs."""

FREE = NUSCENES16.num_classes - 1
MOVING = (0, 1, 3, 4, 5, 7, 9, 10)
"""Classes that the published filter takes out of other keyframes; bicycles and motorcycles are not among them (A17)."""

OCC3D_GRID = GridConfig(lower_m=(-40.0, -40.0, -1.0), voxel_size_m=(0.4, 0.4, 0.4), shape=(200, 200, 16), frame="ego")
SMALL_GRID = GridConfig(lower_m=(-25.6, -25.6, -1.4), voxel_size_m=(0.8, 0.8, 0.8), shape=(64, 64, 8), frame="ego")


def occflownet_2d(root: str = "data/nuscenes") -> ExperimentConfig:
    """2D labels alone: rays of seven keyframes, moving things filtered out of the other six."""
    rays = RaysConfig(
        reach=3,
        per_sample=8192,
        origin="camera",
        min_depth_m=0.05,
        max_depth_m=39.0,
        moving="class",
        class_weights="occ3d_voxels",
        ignore_label=None,
    )
    rendering = RenderingConfig(
        rays=rays,
        transparent=MOVING,
        far_m=40.0,
        depth=0.05,
        depth_loss="mse",
        weigh_depth=True,
        average="plain",
        semantic=1.0,
        blend="logits",
    )
    return ExperimentConfig(
        name="occflownet_2d",
        grid=OCC3D_GRID,
        data=NuscenesData(root=root),
        encoder=stereo_encoder(),
        heads=published_heads(),
        supervision=[rendering, CameraDepthConfig(weight=0.05)],
        augment=published_augment(),
        train=published_training(epochs=12),
        queries=NUSCENES_QUERIES,
    )


def occflownet_2d_flow(root: str = "data/nuscenes") -> ExperimentConfig:
    """2D labels alone; moving things are followed by their boxes ("occupancy flow") instead of being left out."""
    config = occflownet_2d(root)
    rendering = _rendering(config)
    rays = rendering.rays.model_copy(update={"moving": "none"})
    flow = rendering.model_copy(update={"rays": rays, "transparent": (), "flow": "boxes", "match_class": True})
    return config.changed(name="occflownet_2d_flow", supervision=[flow, *config.supervision[1:]])


def occflownet_2d_flow_3d(root: str = "data/nuscenes") -> ExperimentConfig:
    """2D labels with flow, and labels of all voxels: those of Occ3D in ``gts`` of the data set's folder."""
    config = occflownet_2d_flow(root)
    data = config.data.model_copy(update={"voxels": "occ3d"})
    return config.changed(
        name="occflownet_2d_flow_3d", data=data, supervision=[*config.supervision, DenseConfig(free_label=FREE)]
    )


def occflownet_tiny(root: str = "runs/demo/city") -> ExperimentConfig:
    """All of OccFlowNet's signals at a size that trains on two CPU cores within minutes, on the synthetic city."""
    head = HeadConfig(num_layers=3)
    rays = RaysConfig(reach=2, per_sample=3000, class_weights="lidarseg_rays")
    rendering = RenderingConfig(rays=rays, flow="boxes", behind_m=4.0, semantic=1.0, ending=0.3)
    return ExperimentConfig(
        name="occflownet_tiny",
        grid=SMALL_GRID,
        data=NuscenesData(root=root, synthetic=True),
        encoder=small_encoder((160, 288)),
        heads=HeadsConfig(
            occupancy=None,
            density=head.model_copy(update={"output_prob": 0.1}),
            language=None,
            semantic=head,
        ),
        supervision=[rendering, DenseConfig(free_label=FREE, max_voxels=16_000)],
        train=small_training(steps=450, balance_power=0.0),
        queries=STREET_QUERIES,
    )


# -------------------------------------------------------------------------------------------------------- parts


def stereo_encoder() -> LiftSplatConfig:
    """The authors' cheap setting: ResNet-50, stride 16, depth by comparing keyframes, one past volume (spec 1.2)."""
    image = ImageConfig(
        image_hw=(256, 704),
        fit="crop",
        backbone="resnet50",
        out_stages=(1, 3, 4),
        skip_levels=1,
        channels=256,
        num_levels=1,
        separable=False,
    )
    return LiftSplatConfig(image=image, depth_net=DepthNetConfig(channels=256), past=1, stereo=True)


def published_heads() -> HeadsConfig:
    """Two networks of three hidden layers of 256 (spec 1.5), density and 17 classes; free is for density to say."""
    head = HeadConfig(hidden=256, num_layers=3, activation="relu", last_activation=True, glorot=True)
    return HeadsConfig(occupancy=None, density=head, language=None, semantic=head)


def published_augment(width_px: int = 704) -> AugmentConfig:
    """Images scaled, cut out, flipped and rotated, each camera by itself; the world mirrored both ways (spec 5)."""
    low, high = (change * 1600 / width_px for change in (-0.06, 0.11))  # shares of the recorded width
    return AugmentConfig(
        color=0.0, reverse_prob=0.5, jitter=JitterConfig(scale_change=(low, high), flip_prob=0.5, rotation_deg=5.4)
    )


def published_training(epochs: int) -> TrainConfig:
    """AdamW at 1e-4, 200 steps of warm-up, then constant; a running mean of the weights is what is kept (spec 5)."""
    return TrainConfig(
        steps=epochs * (KEYFRAMES // BATCH),
        batch_size=BATCH,
        lr=1e-4,
        lr_for_batch=BATCH,
        schedule="constant",
        warmup_steps=200,
        weight_decay=0.01,
        decay_all=True,
        clip_norm=5.0,
        ema=0.999,
        ema_ramp_from=10_560,
        checkpoint_every=500,
        workers=1,
        points_per_sample=0,
        balance_power=0.0,
    )


def released(config: ExperimentConfig) -> ExperimentConfig:
    """An OccFlowNet recipe with the habits of the released code: docs/occflownet.md lists what each one costs.

    Extinction is at most one per metre (A1), so the threshold is 0.35, or 0.3 with labels of voxels (A18); depth is
    the camera's z (A2), seen half a pixel aside (A4); rays are drawn from all keyframes alike (A10) and sampled, on a
    grid stretched by a voxel (A3), the end of every ray that nothing stops most of all (A15); flow scatters voxels
    (A8).
    """
    rendering, others = _rendering(config), config.supervision[1:]
    aside_px = 0.5 * config.encoder.image.image_hw[1] / 1600
    rays = {"depth": "camera_z", "pixel_offset_px": aside_px, "share_now": None}
    light = {
        "density": "sigmoid_per_metre",
        "warp": "scatter_nearest",
        "sampling": SamplingConfig(grid_align="corners", leftover="last", jitter=True),
    }
    compat = rendering.model_copy(update={"rays": rendering.rays.model_copy(update=rays), **light})
    has_voxels = any(s.uses_voxel_labels for s in others)
    parts: dict[str, Any] = {
        "name": f"{config.name}_released",
        "heads": config.heads.model_copy(update={"threshold": 0.3 if has_voxels else 0.35}),
        "supervision": [compat, *others],
    }
    if isinstance(config.encoder, LiftSplatConfig):
        rules = LiftRulesConfig(places="corners", truncate=True, own_mounting=False, past_statistics=True)
        encoder = {"rules": rules, "norm": "batch", "align_corners": True}
        parts["encoder"] = config.encoder.model_copy(update=encoder)
    return config.changed(**parts)


def paper_size(config: ExperimentConfig) -> ExperimentConfig:
    """Swin-B, images and channels of the paper's main setting, 512x1408."""
    assert isinstance(config.encoder, LiftSplatConfig), "a full-size recipe"
    published = published_lift()
    encoder = {"image": published.image, "depth_net": published.depth_net}
    return config.changed(
        name=f"{config.name}_512x1408",
        encoder=config.encoder.model_copy(update=encoder),
        augment=published_augment(width_px=1408),
    )


def _rendering(config: ExperimentConfig) -> RenderingConfig:
    first = config.supervision[0]
    assert isinstance(first, RenderingConfig), "recipes of this page put it first"
    return first
