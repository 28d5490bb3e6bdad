"""The lift-splat encoders of the recipes are those of the specification."""

from __future__ import annotations

import pytest

from lexivox.geometry.grid import OCC3D
from lexivox.recipes.lifting import published_lift
from lexivox.recipes.occflownet import stereo_encoder


def test_the_small_one() -> None:
    encoder = stereo_encoder().build(OCC3D)
    assert encoder.image_offsets == (-2, -1)
    assert (encoder.channels, encoder.image.channels, encoder.bins.count) == (64, 256, 88)
    assert [lateral.in_channels for lateral in encoder.image.pyramid.lateral] == [1024, 2048]
    assert stereo_encoder().image.skip_halvings == 2


def test_the_published_one() -> None:
    # Spec occflownet 1.2 to 1.5.
    pytest.importorskip("transformers")
    config = published_lift()
    encoder = config.build(OCC3D)
    assert config.image.skip_halvings == 2
    assert encoder.image.backbone.channels == (128, 512, 1024)
    assert encoder.image.pyramid.join[0].in_channels == 1536
    net = encoder.depth_net
    assert (net.depth[0].conv1.in_channels, net.depth[0].conv1.out_channels, net.context.out_channels) == (600, 512, 32)
    assert net.depth[3].join[0].in_channels == 480
    assert [len(stage) for stage in encoder.volume.stages] == [1, 2, 4]
    assert encoder.volume.stages[0][0].conv1.conv.in_channels == 64
    assert encoder.volume.join.conv.in_channels == 224
    over_voxels = sum(p.numel() for m in (encoder.volume, encoder.frame_block) for p in m.parameters())
    assert over_voxels == pytest.approx(4.3e6, rel=0.02)
    rules = encoder.rules
    assert (rules.places, rules.truncate, rules.past_statistics, rules.learn_past) == ("corners", True, True, False)
    # 900 x 1600 scaled by 0.88 and cut from the top: 1408 wide, 512 of 792 rows.
    assert (1600 * rules.native_scale, 900 * rules.native_scale - rules.native_top_px) == (1408, 512)
