from __future__ import annotations

import pytest
import torch

from lexivox.encoders.volume import VolumeEncoder


def test_published_size() -> None:
    # Spec 1.5 and 1.6: the stages, the neck and the last convolution; 4.3 M parameters with two blocks for keyframes.
    made = VolumeEncoder(64, norm="batch")
    count = sum(p.numel() for p in made.parameters())
    frame_block = 3 * (27 * 32 * 32 + 2 * 32)
    assert 4.2e6 < count + frame_block < 4.35e6


@pytest.mark.parametrize("shape", [(8, 8, 4), (5, 7, 3), (1, 1, 1)])
def test_any_shape_comes_out_as_it_went_in(shape) -> None:
    made = VolumeEncoder(6, widths=(4, 6, 8), blocks=(1, 1, 1), joined_channels=4, channels=5)
    assert made(torch.randn(2, 6, *shape)).shape == (2, 5, *shape)


def test_centres_stay_where_they_are_unless_as_published() -> None:
    # A ramp on a coarse level, enlarged: at fine centre i + 0.5 it must read (i + 0.5) / 2 away from the borders.
    made = VolumeEncoder(6)
    fine, ramp = torch.zeros(1, 1, 8, 8, 8), (torch.arange(4.0) + 0.5).reshape(1, 1, 4, 1, 1).expand(1, 1, 4, 4, 4)
    found = made._enlarged(ramp, fine)[0, 0, :, 0, 0]
    torch.testing.assert_close(found[1:-1], (torch.arange(1.0, 7.0) + 0.5) / 2)
    made.align_corners = True
    torch.testing.assert_close(made._enlarged(ramp, fine)[0, 0, :, 0, 0], 0.5 + torch.arange(8.0) * 3 / 7)


def test_computing_again_changes_nothing() -> None:
    made, volume = VolumeEncoder(6, widths=(4, 6), blocks=(1, 1)), torch.randn(1, 6, 4, 4, 4)
    kept = made(volume)
    for stage in made.stages:
        for block in stage:
            block.checkpointing = True
    torch.testing.assert_close(made(volume), kept)
