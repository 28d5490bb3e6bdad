from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lexivox.teachers.dense import DenseTeacher
from lexivox.teachers.windows import resize_short_side, slide, window_starts


def cell_means(pixels: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(pixels, 4)


def context(pixels: torch.Tensor) -> torch.Tensor:
    """A network whose answer depends on the whole window."""
    return cell_means(pixels) + pixels.mean(dim=(2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("length", "window", "stride", "starts"),
    [(10, 4, 3, [0, 3, 6]), (10, 4, 4, [0, 4, 6]), (4, 4, 2, [0]), (3, 4, 2, [0]), (9, 4, 3, [0, 3, 5])],
)
def test_windows_end_at_the_border(length, window, stride, starts) -> None:
    assert window_starts(length, window, stride) == starts


def test_a_window_over_the_whole_image_is_the_whole_image() -> None:
    pixels = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    whole = F.normalize(context(pixels), dim=1)
    assert torch.equal(slide(context, pixels, 4, 20, 8), whole)
    assert torch.equal(slide(context, pixels, 4, 400, 8), whole)


def test_where_windows_agree_nothing_changes() -> None:
    pixels = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    whole = F.normalize(cell_means(pixels), dim=1)
    assert torch.allclose(slide(cell_means, pixels, 4, 12, 8), whole, atol=1e-6)


def test_overlaps_are_the_mean_of_unit_vectors_by_hand() -> None:
    # three cells in a row, windows of two: the middle one is seen twice
    pixels = torch.rand(1, 3, 4, 12, generator=torch.Generator().manual_seed(0))
    left, right = (F.normalize(context(pixels[..., part]), dim=1)[0, :, 0] for part in (slice(0, 8), slice(4, 12)))
    expected = torch.stack([left[:, 0], (left[:, 1] + right[:, 0]) / 2, right[:, 1]], dim=1)
    assert torch.allclose(slide(context, pixels, 4, 8, 4)[0, :, 0], expected)


@pytest.mark.parametrize(("hw", "side", "expected"), [((900, 1600), 448, (448, 798)), ((40, 20), 28, (56, 28))])
def test_the_short_side_decides_and_sides_are_whole_patches(hw, side, expected) -> None:
    image = torch.zeros(1, 3, *hw)
    image[..., ::2] = 255.0
    resized = resize_short_side(image, side, 14)
    assert resized.shape[-2:] == expected
    assert 0.0 <= resized.min() <= resized.max() <= 255.0


@pytest.mark.parametrize("sizes", [(0, None, None), (448, 224, 300), (448, -1, None)])
def test_sizes_that_leave_gaps_are_refused(sizes) -> None:
    from lexivox.errors import ConfigError

    with pytest.raises(ConfigError, match="sizes must be positive and its stride at most its window"):
        DenseTeacher("folder", *sizes)
