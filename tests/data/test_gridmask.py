"""GridMask: stripes kept, squares lost, the same for all images of a batch."""

from __future__ import annotations

import pytest
import torch
from helpers import IMAGE_HW, make_sample

from lexivox.data.collate import collate
from lexivox.data.gridmask import MEAN_COLOR, Stripes, mask_images
from lexivox.data.transforms import Augment
from lexivox.geometry.grid import VoxelGrid
from lexivox.train.data import TrainingSteps

GRID = VoxelGrid((-12.0, -12.0, -2.0), (1.0, 1.0, 1.0), (24, 24, 6), "ego")


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_pattern_worked_by_hand():
    # Height 8: canvas 12, cut from 2. Period 4, stripes of 2 from canvas row 1: rows 1 2, 5 6, 9 10 -> 0, 3 4, 7.
    # Width 4: canvas 6, cut from 1, one stripe only (6 // 4) from canvas column 3: columns 3 4 -> 2 3.
    kept = Stripes(period=4, first_row=1, first_column=3).kept((8, 4))
    assert kept.all(dim=1).tolist() == [True, False, False, True, True, False, False, True]
    assert kept.all(dim=0).tolist() == [False, False, True, True]
    assert int(kept.sum()) == 4 * 4 + 4 * 2


@pytest.mark.parametrize(("period", "width"), [(2, 1), (3, 2), (4, 2), (5, 3), (899, 450)])
def test_stripes_are_half_a_period_wide(period, width):
    assert Stripes(period, 0, 0).width == width


def test_stripes_are_kept_and_squares_are_lost():
    """Erratum 30: the union of the stripes stays, about three quarters, not the complement."""
    kept = Stripes(period=10, first_row=0, first_column=0).kept((200, 300))
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.02)


def test_drawn_numbers_stay_in_their_ranges():
    drawn = [Stripes.drawn(16, draw(seed)) for seed in range(300)]
    assert {d.period for d in drawn} == set(range(2, 16))
    assert all(0 <= d.first_row < d.period and 0 <= d.first_column < d.period for d in drawn)


def test_all_images_of_a_batch_share_one_mask_of_the_mean_colour():
    batch = collate([make_sample(0), make_sample(1)], GRID)
    masked = mask_images(batch, 1.0, draw(0)).cameras.images
    color = torch.tensor(MEAN_COLOR)[:, None, None]
    lost = (masked == color).all(dim=2)
    assert masked.shape == (2, 3, 3, *IMAGE_HW)
    assert 0 < float(lost.float().mean()) < 1
    assert (lost == lost[0, 0]).all()
    stays = ~lost[:, :, None].expand_as(masked)
    assert torch.equal(masked[stays], batch.cameras.images.float()[stays])


def test_chance_and_switch():
    batch = collate([make_sample(0)], GRID)
    masked = sum(mask_images(batch, 0.7, draw(seed)) is not batch for seed in range(400))
    assert masked / 400 == pytest.approx(0.7, abs=0.06)
    assert Augment(grid_mask_prob=0.0).of_batch(batch, draw(0)) is batch
    assert Augment(grid_mask_prob=1.0).of_batch(batch, draw(0)).cameras.images.dtype == torch.float32


def test_what_a_step_sees_depends_on_seed_and_number_only():
    """Masks and colours are drawn beside the data, so that a resumed run goes on as if it had not stopped."""

    def images(step, seed=0):
        augment = Augment(mirror_prob=0.0, color=0.0, distort=True, grid_mask_prob=1.0)
        return TrainingSteps([make_sample()], GRID, [], augment, 1, 0, seed, 9)[step].cameras.images

    assert torch.equal(images(3), images(3))
    assert not torch.equal(images(3), images(4))
    assert not torch.equal(images(3), images(3, seed=1))
