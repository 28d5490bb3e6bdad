"""Recorded images become the network's input: squashed or cropped, the same in training and outside."""

import pytest
import torch

from lexivox.data.clips import Horizon, clip_at
from lexivox.data.image_fit import ImageFit
from lexivox.data.image_warp import ImageJitter
from lexivox.data.synthetic import SyntheticDrive
from lexivox.data.types import Clip
from lexivox.geometry.camera import pixels_from_cam

RECORDED, INPUT = (90, 160), (30, 80)


@pytest.fixture(scope="module")
def drive():
    return SyntheticDrive(5, 3, RECORDED, num_azimuths=40)


@pytest.fixture(scope="module")
def clip(drive):
    class Drives(list):
        drives = tuple(sample.drive for sample in drive)

    return clip_at(Drives(drive), 1, Horizon.of((-1, 1), with_images=(-1,)))


def images(sample):
    return torch.stack([view.image for view in sample.views])


@pytest.mark.parametrize("how", ["squash", "crop"])
def test_fitting_what_was_scaled_changes_nothing_more_than_fitting_at_once(drive, how):
    fit = ImageFit(INPUT, how)
    kept = fit.scaled(drive[0])
    assert kept.views[0].image_hw == (INPUT if how == "squash" else (45, 80))  # 90 * 80 / 160
    twice, once = fit.fitted(kept), fit.fitted(drive[0])
    assert images(twice).shape == (6, 3, *INPUT)
    assert (images(twice).float() - images(once).float()).abs().mean() < 1.0  # rounded twice
    for a, b in zip(twice.views, once.views, strict=True):
        torch.testing.assert_close(a.image_from_cam, b.image_from_cam, rtol=1e-5, atol=1e-4)


def test_the_crop_keeps_the_aspect_and_the_bottom(drive):
    view = ImageFit(INPUT, "crop").fitted(drive[0]).views[0]
    fx, fy = view.image_from_cam[0, 0], view.image_from_cam[1, 1]
    before = drive[0].views[0].image_from_cam
    torch.testing.assert_close(fx / fy, before[0, 0] / before[1, 1])
    # The lowest row of the recording is still the lowest: v = 90 goes to 30.
    ray = torch.tensor([[0.0, (90.0 - float(before[1, 2])) / float(before[1, 1]), 1.0]])
    uv, _ = pixels_from_cam(ray, view.image_from_cam)
    assert abs(float(uv[0, 1]) - 30.0) <= 1e-4


def test_without_jitter_training_sees_what_prediction_sees(clip):
    fit = ImageFit(INPUT, "crop")
    drawn = fit.drawn(clip, torch.Generator().manual_seed(0))
    assert torch.equal(images(drawn.current), images(fit.fitted(clip.current)))


def test_a_camera_and_its_neighbouring_keyframes_share_the_jitter(clip):
    fit = ImageFit(INPUT, "crop", ImageJitter())
    scaled = Clip(fit.scaled(clip.current), clip.offsets, tuple(fit.scaled(other) for other in clip.others))
    drawn = fit.drawn(scaled, torch.Generator().manual_seed(1))
    for now, then in zip(drawn.current.views, drawn.others[0].views, strict=True):
        torch.testing.assert_close(now.image_from_cam, then.image_from_cam)
    assert images(drawn.current).shape == images(drawn.others[0]).shape == (6, 3, *INPUT)
    assert drawn.others[1].views[0].image.shape == (0, *INPUT)
    intrinsics = torch.stack([view.image_from_cam for view in drawn.current.views])
    assert len(intrinsics.unique(dim=0)) == 6


def test_the_same_seed_draws_the_same_images(clip):
    fit = ImageFit(INPUT, "squash", ImageJitter())
    one, two = (fit.drawn(clip, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(images(one.current), images(two.current))
