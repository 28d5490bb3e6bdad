"""Recipes of rendering and ray queries: what is published stands in them, and they learn."""

from __future__ import annotations

import pytest
import torch

from lexivox.config import (
    CameraDepthConfig,
    DenseConfig,
    LanguageConfig,
    LiftSplatConfig,
    RayQueriesConfig,
    RenderingConfig,
)
from lexivox.geometry.grid import OCC3D
from lexivox.recipes import (
    RECIPES,
    occflownet_2d,
    occflownet_2d_flow,
    occflownet_2d_flow_3d,
    paper_size,
    released,
    weak,
    weak_pandaset,
)

FULL = (occflownet_2d, occflownet_2d_flow, occflownet_2d_flow_3d)


def rendering_of(config) -> RenderingConfig:
    (found,) = (s for s in config.supervision if isinstance(s, RenderingConfig))
    return found


@pytest.mark.parametrize("recipe", [*FULL, weak])
def test_the_grid_and_the_schedule_are_published(recipe):
    """Spec 1.1 and 5."""
    config = recipe()
    assert config.grid.build() == OCC3D
    train = config.train
    assert (train.steps, train.batch_size, train.lr, train.lr_for_batch) == (12 * 1758, 16, 1e-4, 16)
    assert (train.schedule, train.warmup_steps, train.weight_decay) == ("constant", 200, 0.01)
    assert (train.clip_norm, train.ema, train.ema_ramp_from, train.precision) == (5.0, 0.999, 10_560, "float32")
    assert train.options().ema_ramp_from == 10_560


@pytest.mark.parametrize("recipe", FULL)
def test_losses_and_rays_are_published(recipe):
    """Spec 2.2, 2.5 and 2.6."""
    config = recipe()
    rendering = rendering_of(config)
    assert (rendering.depth, rendering.depth_loss, rendering.semantic, rendering.blend) == (0.05, "mse", 1.0, "logits")
    assert (rendering.background, rendering.weigh_depth, rendering.far_m) == ("none", True, 40.0)
    assert rendering.average == "plain"
    assert (rendering.distortion, rendering.opacity, rendering.ending) == (0.0, 0.0, 0.0)
    rays = rendering.rays
    assert rays.horizon == (-3, -2, -1, 1, 2, 3)
    assert (rays.origin, rays.min_depth_m, rays.max_depth_m, rays.outside) == ("camera", 0.05, 39.0, "drop")
    assert (rays.class_weights, rays.ignore_label, rays.per_sample * 4) == ("occ3d_voxels", None, 32_768)
    assert CameraDepthConfig(weight=0.05) in config.supervision


def test_images_are_cut_and_jittered_as_published():
    """Spec 5: 1408 / 1600 - 0.06 to + 0.11 of the recorded width, half of them flipped, 5.4 degrees either way."""
    for config, width in ((occflownet_2d(), 704), (paper_size(occflownet_2d()), 1408)):
        assert (config.encoder.image.fit, config.encoder.image.image_hw[1]) == ("crop", width)
        jitter = config.augment.jitter
        changes = [change * width / 1600 for change in jitter.scale_change]
        assert changes == pytest.approx([-0.06, 0.11])
        assert (jitter.flip_prob, jitter.rotation_deg) == (0.5, 5.4)
        assert (config.augment.mirror_prob, config.augment.reverse_prob, config.augment.turn_deg) == (0.5, 0.5, 0.0)


def test_the_three_variants():
    """Spec 0: the filter, the flow, and the flow with labels of voxels."""
    filtered, flow, voxels = (recipe() for recipe in FULL)
    one, two, three = (rendering_of(config) for config in (filtered, flow, voxels))
    assert (one.rays.moving, one.flow, one.transparent) == ("class", "none", (0, 1, 3, 4, 5, 7, 9, 10))
    assert (two.rays.moving, two.flow, two.transparent, two.match_class) == ("none", "boxes", (), True)
    assert three == two
    assert DenseConfig(free_label=17) in voxels.supervision
    assert not any(isinstance(s, DenseConfig) for s in (*filtered.supervision, *flow.supervision))
    assert voxels.data.voxels == "occ3d"


def test_repaired_by_default_and_released_by_name():
    """A1, A2, A4, A10, A16, A18, A19."""
    for recipe, threshold in zip(FULL, (0.35, 0.35, 0.3), strict=True):
        config = recipe()
        ours, theirs = rendering_of(config), rendering_of(released(config))
        assert (ours.density, ours.rays.depth, ours.rays.share_now) == ("voxel_alpha", "euclidean", 0.3)
        assert (theirs.density, theirs.rays.depth, theirs.rays.share_now) == ("sigmoid_per_metre", "camera_z", None)
        assert (ours.rays.pixel_offset_px, theirs.rays.pixel_offset_px) == (0.0, 0.22)  # half of 1600 px seen in 704
        assert (config.heads.threshold, released(config).heads.threshold) == (0.5, threshold)
        rules = released(config).encoder.rules
        assert (rules.places, rules.truncate, rules.past_statistics) == ("corners", True, True)
        assert not rules.own_mounting
        assert released(config).name == f"{config.name}_released"
        released(config).supervision[0].build()


def test_heads_are_published():
    """Spec 1.5: 64 -> 256 x 3 -> 1 and 17."""
    heads = occflownet_2d().heads
    for head in (heads.density, heads.semantic):
        assert (head.hidden, head.num_layers, head.activation) == (256, 3, "relu")
        assert head.last_activation
        assert head.glorot
    assert heads.occupancy is heads.language is None


def test_the_full_size_network_builds():
    """Spec 1.2, 1.3 and 1.5: 88 bins, 32 channels of content, one past volume, stereo, 64 channels out."""
    for config in (occflownet_2d(), paper_size(occflownet_2d())):
        encoder = config.encoder
        assert isinstance(encoder, LiftSplatConfig)
        assert (encoder.bins.count, encoder.bins.near_m, encoder.bins.far_m) == (88, 1.0, 45.0)
        assert (encoder.context_channels, encoder.past, encoder.stereo) == (32, 1, True)
        assert encoder.image_offsets == (-2, -1)
        with torch.device("meta"):
            assert encoder.build(config.grid.build(), fetch_weights=False).channels == 64
    assert paper_size(occflownet_2d()).encoder.image.image_hw == (512, 1408)


@pytest.mark.parametrize("name", ["weak", "weak_tiny", "weak_pandaset"])
def test_weak_recipes_ask_for_no_label(name):
    config = RECIPES[name]()
    assert not any(s.teaches_classes or s.uses_boxes or s.uses_voxel_labels for s in config.supervision)
    assert config.heads.semantic is None
    kinds = {type(s) for s in config.supervision}
    assert {RayQueriesConfig, LanguageConfig} <= kinds
    assert config.teacher is not None


def test_the_real_drive_is_pop3ds():
    config = weak_pandaset("somewhere", "weights.npz", "003")
    assert (config.data.root, config.data.sequence, config.teacher.weights) == ("somewhere", "003", "weights.npz")
    assert config.data.val_keyframes == [45, 50, 55]
