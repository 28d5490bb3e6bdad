from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lexivox.ops.resample import fit_within, resize_taps, sample_resized


@pytest.mark.parametrize("sizes", [[(40, 70)], [(40, 70), (33, 61)], [(5, 4), (50, 60)], [(7, 9)]])
def test_pixels_equal_those_of_the_maps_made_in_full(sizes) -> None:
    maps = torch.randn(1, 3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    large = maps
    for size in sizes:
        large = F.interpolate(large, size=size, mode="bilinear", align_corners=False)
    row, column = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, sizes[-1]), indexing="ij"))
    expected = large[0].flatten(1).T
    assert torch.allclose(sample_resized(maps, row, column, sizes), expected, atol=1e-12)


def test_a_pixel_needs_three_cells_at_most_in_the_published_chain() -> None:
    cells, weights = resize_taps([228, 1820, 1600])
    assert cells.shape == weights.shape == (1600, 3)
    assert torch.allclose(weights.sum(dim=1), torch.ones(1600, dtype=torch.float64))
    assert 0 <= cells.min() <= cells.max() < 228


@pytest.mark.parametrize(
    ("image_hw", "expected"), [((900, 1600), (1024, 1820)), ((1080, 1920), (1024, 1820)), ((1600, 900), (1820, 1024))]
)
def test_images_fit_as_published(image_hw, expected) -> None:
    assert fit_within(image_hw, (1024, 2048)) == expected
