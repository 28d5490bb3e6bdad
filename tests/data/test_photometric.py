"""The photometric distortion, against numbers worked by hand and the standard library's colours."""

from __future__ import annotations

import colorsys

import pytest
import torch
from helpers import make_sample

from lexivox.data.photometric import Distortion, distort, hsv_from_rgb, rgb_from_hsv


def pixel(*rgb: float) -> torch.Tensor:
    return torch.tensor(rgb, dtype=torch.float32)[:, None, None]


def values(image: torch.Tensor) -> list[float]:
    return image[:, 0, 0].tolist()


def test_colours_are_those_of_the_standard_library():
    rgb = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    hue, saturation, value = hsv_from_rgb(rgb)
    for row in range(5):
        for column in range(7):
            expected = colorsys.rgb_to_hsv(*rgb[:, row, column].tolist())
            ours = (float(hue[row, column]) / 360, float(saturation[row, column]), float(value[row, column]))
            assert ours == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(rgb_from_hsv(hue, saturation, value), rgb, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Distortion(), [200.0, 100.0, 50.0]),
        (Distortion(brightness=20.0), [220.0, 120.0, 70.0]),
        # Not clipped: 1.5 * (200 + 20).
        (Distortion(brightness=20.0, contrast=1.5), [330.0, 180.0, 105.0]),
        (Distortion(contrast=0.5, contrast_first=False), [100.0, 50.0, 25.0]),
        (Distortion(channels=(2, 0, 1)), [50.0, 200.0, 100.0]),
        # Value 200, saturation 0.75 -> 0.375, hue (100 - 50) / 150 * 60 = 20 degrees: the least channel is
        # 200 * (1 - 0.375) = 125, the middle one 200 * (1 - 0.375 * (1 - 20 / 60)) = 150.
        (Distortion(saturation=0.5), [200.0, 150.0, 125.0]),
        # Hue 20 + 10 = 30 degrees: the middle channel is 200 * (1 - 0.75 * (1 - 0.5)) = 125.
        (Distortion(hue_deg=10.0), [200.0, 125.0, 50.0]),
        # Hue 20 - 40 = -20 -> 340: green is the least, blue 200 * (1 - 0.75 * (1 - 1 / 3)) = 100.
        (Distortion(hue_deg=-40.0), [200.0, 50.0, 100.0]),
        # A saturation of 1.125 leaves the least channel below 0, as published: 200 * (1 - 1.125).
        (Distortion(saturation=1.5), [200.0, 50.0, -25.0]),
    ],
)
def test_numbers_worked_by_hand(change, expected):
    assert values(change.apply(pixel(200.0, 100.0, 50.0))) == pytest.approx(expected, abs=1e-3)


def test_contrast_before_or_after_the_colours_is_the_same_without_brightness():
    image = 255 * torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1))
    first = Distortion(contrast=0.7, saturation=1.2, hue_deg=9.0)
    last = Distortion(contrast=0.7, saturation=1.2, hue_deg=9.0, contrast_first=False)
    torch.testing.assert_close(first.apply(image), last.apply(image), atol=1e-3, rtol=0)


def test_grey_and_black_stay_finite():
    for grey in (0.0, 128.0, -10.0):
        image = Distortion(saturation=1.5, hue_deg=18.0).apply(pixel(grey, grey, grey))
        assert values(image) == pytest.approx([grey] * 3, abs=1e-3)


def test_strengths_stay_in_the_published_ranges_and_half_of_the_steps_are_left_out():
    generator = torch.Generator().manual_seed(0)
    drawn = [Distortion.drawn(generator) for _ in range(2000)]
    assert all(abs(d.brightness) <= 32 and abs(d.hue_deg) <= 18 for d in drawn)
    assert all(0.5 <= d.contrast <= 1.5 and 0.5 <= d.saturation <= 1.5 for d in drawn)
    assert max(d.hue_deg for d in drawn) > 17.5
    assert min(d.contrast for d in drawn) < 0.52
    shares = [
        sum(d.brightness == 0 for d in drawn),
        sum(d.contrast == 1 for d in drawn),
        sum(d.contrast_first for d in drawn),
        sum(d.saturation == 1 for d in drawn),
        sum(d.hue_deg == 0 for d in drawn),
        # A permutation is drawn half the time, and is the identity in a sixth of the cases.
        sum(d.channels == (0, 1, 2) for d in drawn) - 2000 / 12,
    ]
    assert [share / 2000 for share in shares] == pytest.approx([0.5] * 6, abs=0.04)


def test_every_view_draws_its_own_numbers_and_geometry_stays():
    sample = make_sample()
    one, again = (distort(sample, torch.Generator().manual_seed(3)) for _ in range(2))
    for view, before, same in zip(one.views, sample.views, again.views, strict=True):
        assert view.image.dtype == torch.float32
        assert torch.equal(view.image, same.image)
        assert torch.equal(view.image_from_cam, before.image_from_cam)
    shifts = [v.image - b.image.float() for v, b in zip(one.views, sample.views, strict=True)]
    assert not torch.equal(shifts[0], shifts[1])
