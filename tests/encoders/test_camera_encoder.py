from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lexivox.encoders.camera import CameraEncoder
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.triplane import TriplaneEncoder
from lexivox.errors import ConfigError
from lexivox.fields import FrustumField, PixelField, TriplaneField
from lexivox.geometry.grid import VoxelGrid
from lexivox.heads.pointwise import PointwiseHead
from tests.rig import GRID, batch_of, points, ring, take

SWITCHES = [
    (True, True, 1, 0),
    (True, False, None, 0),
    (False, True, None, 0),
    (False, True, 0, 0),
    (False, False, None, 4),
    (True, True, 1, 4),
]
"""Triplane, pixel-aligned, frequencies, depth bins."""


def encoder(
    triplane: bool = True, pixel_aligned: bool = True, num_frequencies: int | None = 1, depth_bins: int = 0
) -> CameraEncoder:
    torch.manual_seed(0)
    planes = TriplaneEncoder(GRID, channels=16, num_heads=2, anchors=(2, 3, 3)) if triplane else None
    image = ImageEncoder(16, widths=(8, 16, 24), num_levels=2 if triplane else 1)
    return CameraEncoder(
        GRID,
        image=image,
        triplane=planes,
        pixel_aligned=pixel_aligned,
        depth_bins=depth_bins,
        num_frequencies=num_frequencies,
    )


@pytest.mark.parametrize("switches", SWITCHES)
def test_channels_are_known_beforehand(switches) -> None:
    made = encoder(*switches)
    field = made(batch_of(ring(2)))
    assert field.channels == made.channels
    assert field.grid == GRID
    batch = torch.arange(30) % 2
    assert field.sample(points(30), batch).shape == (30, made.channels)
    assert field.dense().shape == (2, made.channels, *GRID.shape)


def test_a_single_part_is_not_wrapped() -> None:
    assert isinstance(encoder(True, False, None)(batch_of(ring())), TriplaneField)
    assert isinstance(encoder(False, True, None)(batch_of(ring())), PixelField)
    assert isinstance(encoder(False, False, None, 4)(batch_of(ring())), FrustumField)


@pytest.mark.parametrize("switches", SWITCHES)
def test_batch_of_two_equals_two_of_one(switches) -> None:
    made, cameras, xyz = encoder(*switches), ring(2), points(40)
    zeros = torch.zeros(40, dtype=torch.int64)
    together = made(batch_of(cameras))
    for b in range(2):
        alone = made(batch_of(take(cameras, slice(b, b + 1))))
        torch.testing.assert_close(together.sample(xyz, zeros + b), alone.sample(xyz, zeros), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("switches", [SWITCHES[0], SWITCHES[-1]])
def test_order_of_cameras_changes_nothing(switches) -> None:
    made, cameras, xyz = encoder(*switches), ring(1), points(40)
    zeros = torch.zeros(40, dtype=torch.int64)
    turned = made(batch_of(take(cameras, views=[1, 2, 0]))).sample(xyz, zeros)
    torch.testing.assert_close(turned, made(batch_of(cameras)).sample(xyz, zeros), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("switches", SWITCHES)
def test_zero_cameras(switches) -> None:
    made = encoder(*switches)
    features = made(batch_of(ring(2, 0))).sample(points(5), torch.zeros(5, dtype=torch.int64))
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("switches", SWITCHES)
def test_every_parameter_gets_a_gradient(switches) -> None:
    made = encoder(*switches)
    head = PointwiseHead(made.channels, 8, 3)
    field = made(batch_of(ring(2)))
    head(field.sample(points(200), torch.arange(200) % 2)).square().sum().backward()
    modules: list[nn.Module] = [made, head]
    assert [n for m in modules for n, p in m.named_parameters() if p.grad is None] == []


def coarse_planes(planes: VoxelGrid) -> CameraEncoder:
    torch.manual_seed(0)
    made = TriplaneEncoder(planes, channels=16, num_heads=2, anchors=(2, 3, 3))
    return CameraEncoder(GRID, image=ImageEncoder(16, widths=(8, 16, 24)), triplane=made)


def test_planes_may_be_coarser() -> None:
    field = coarse_planes(GRID.coarsen(2))(batch_of(ring(2)))
    assert field.grid == GRID
    centers = GRID.centers().reshape(-1, 3)
    sampled = field.sample(centers, torch.ones(len(centers), dtype=torch.int64))
    torch.testing.assert_close(sampled.T.unflatten(1, GRID.shape), field.dense()[1], atol=1e-5, rtol=1e-5)


def test_planes_of_another_box_are_refused() -> None:
    for planes in (replace(GRID, lower_m=(0.0, 0.0, 0.0)), GRID.refine(2), replace(GRID, frame="lidar")):
        with pytest.raises(ConfigError, match="triplane's grid must be the encoder's, coarsened"):
            coarse_planes(planes)


def test_nothing_switched_on_is_refused() -> None:
    with pytest.raises(ConfigError, match="must have triplane, pixel_aligned or depth features; got none"):
        encoder(False, False)
