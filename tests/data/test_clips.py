"""Clips: the neighbours of a keyframe, inside its drive and inside what a run may see."""

from dataclasses import replace

import pytest
import torch

from lexivox.config import LidarOccupancyConfig
from lexivox.data.clips import Horizon, WithPast, clip_at, neighbours, without_pixels
from lexivox.data.image_fit import ImageFit
from lexivox.data.synthetic import SyntheticDrive
from lexivox.data.transforms import Augment
from lexivox.data.types import Clip
from lexivox.recipes.pop3d import pop3d_tiny
from lexivox.supervision.prepared import PreparedSamples
from lexivox.train.data import TrainingSteps

HW = (32, 64)


class TwoDrives:
    """Three keyframes of one drive, then two of another."""

    name, classes = "two", None

    def __init__(self) -> None:
        self.samples = [s for seed, n in ((1, 3), (2, 2)) for s in SyntheticDrive(seed, n, HW, num_azimuths=30)]
        self.drives = [s.drive for s in self.samples]
        self.tokens = [s.token for s in self.samples]
        self.read_without_images: list[int] = []

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]

    def __iter__(self):
        return iter(self.samples)

    def without_images(self, index):
        self.read_without_images.append(index)
        return without_pixels(self.samples[index])


@pytest.fixture(scope="module")
def dataset():
    return TwoDrives()


def test_neighbours_end_where_the_drive_ends():
    drives = ["a", "a", "a", "b", "b"]
    assert neighbours(drives, 2, (-3, -1, 1)) == [(-1, 1)]
    assert neighbours(drives, 3, (-1, 1)) == [(1, 4)]
    assert neighbours(drives, 0, (-1, 1, 2)) == [(1, 1), (2, 2)]


def test_everything_asked_for_is_in_the_horizon_once():
    assert Horizon.of((1, -1, 0, 1), with_images=(-2, -1)) == Horizon((-2, -1, 1), (-2, -1))
    assert Horizon.of(()) == Horizon()


def test_only_those_who_ask_get_pixels(dataset):
    clip = clip_at(dataset, 1, Horizon.of((-1, 1), with_images=(-1,)))
    assert clip.offsets == (-1, 1)
    assert clip.current is dataset[1]
    assert [view.has_image for view in clip.others[0].views] == [True] * 6
    assert [view.has_image for view in clip.others[1].views] == [False] * 6
    assert clip.others[1].views[0].image_hw == HW


def test_prepared_samples_have_neighbours_without_reading_their_images(dataset):
    prepared = PreparedSamples(dataset, ImageFit(HW), None)
    dataset.read_without_images.clear()
    clip = clip_at(prepared, 0, Horizon.of((2,)))
    assert dataset.read_without_images == [2]
    assert clip.others[0].views[0].image.shape == (0, *HW)


def test_a_model_that_looks_back_gets_what_the_drive_has(dataset):
    with_past = WithPast(dataset, (-2, -1))
    whole = with_past(dataset[2])
    assert whole.current is dataset[2]
    assert (whole.offsets, whole.others) == ((-2, -1), (dataset[0], dataset[1]))
    assert with_past(dataset[4]).offsets == (-1,)
    assert with_past(dataset[3]).offsets == ()
    stranger = replace(dataset[2], token="another recording")
    assert with_past(stranger) == Clip(stranger)
    assert WithPast(dataset, ())(dataset[2]) == Clip(dataset[2])


def test_a_step_holds_its_neighbours_in_the_frame_of_the_current_grid(dataset):
    grid = pop3d_tiny().grid.build()
    prepared = PreparedSamples(dataset, ImageFit(HW), None)
    options = (prepared, grid, [], Augment(color=0.0), 1, 0, 0, 40)
    alone, around = TrainingSteps(*options), TrainingSteps(*options, horizon=Horizon.of((-1, 1)))
    for part in range(5):
        batch = around[part]
        assert torch.equal(batch.cameras.images, alone[part].cameras.images)
        assert torch.equal(batch.lidar.xyz, alone[part].lidar.xyz)
        expected = [o for o, _ in neighbours(dataset.drives, around.index(part), (-1, 1))]
        assert [moment.offset for moment in batch.around] == expected


def test_a_run_looks_as_far_as_its_signals():
    config = pop3d_tiny()
    assert config.horizon == Horizon()

    class Looking(LidarOccupancyConfig):
        @property
        def horizon(self):
            return (-2, 1)

    assert config.changed(supervision=[Looking(), LidarOccupancyConfig()]).horizon == Horizon((-2, 1))
