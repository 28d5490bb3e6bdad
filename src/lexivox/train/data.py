"""The data side of training: what is read, augmented and prepared for step t is a function of the seed and t.

So a resumed run sees exactly what an uninterrupted one would have seen, with any number of workers, and any number
of processes sees together what one alone would have seen: each takes every n-th part of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch.utils.data import DataLoader, Dataset

from lexivox.data.clips import Drives, Horizon, clip_at
from lexivox.data.collate import collate
from lexivox.data.image_fit import ImageFit
from lexivox.data.transforms import Augment, each_sample
from lexivox.data.types import Batch, Clip, PointFeatures, Sample
from lexivox.errors import ConfigError
from lexivox.geometry.grid import VoxelGrid
from lexivox.supervision.base import Supervision, prepare_all
from lexivox.train.stop import ignore_signals


@runtime_checkable
class Samples(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, slots=True)
class TrainingSteps(Dataset[Batch]):
    """A run as a sequence of parts: ``parts`` consecutive ones make a step, each is one forward pass.

    Attributes:
        samples: keyframes with images of the model's size, carrying whatever the supervisions need.
        grid: of the model.
        supervisions: fill in their targets after augmentation.
        augment: random world changes.
        batch_size: samples per step, over all processes.
        points_per_sample: so many teacher points are drawn per sample and step; 0 = all.
        seed: of order, augmentation and draws.
        steps: length of the run.
        micro_batch: samples per part.
        horizon: neighbouring keyframes that supervisions and encoder look at; with any, ``samples`` must tell drives.
        fit: the last step to the size of the network's input; None where samples have it.
        find_boxes: gives clips the boxes of what moves, where labelled ones are not wanted.

    Raises:
        ConfigError: a step is not a whole number of parts.
    """

    samples: Samples
    grid: VoxelGrid
    supervisions: Sequence[Supervision]
    augment: Augment
    batch_size: int
    points_per_sample: int
    seed: int
    steps: int
    micro_batch: int = 1
    horizon: Horizon = field(default_factory=Horizon)
    fit: ImageFit | None = None
    find_boxes: Callable[[Clip], Clip] | None = None

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batch:
            raise ConfigError(
                f"train.batch_size must be a multiple of train.micro_batch, {self.micro_batch}; got {self.batch_size}."
            )

    def __len__(self) -> int:
        return self.steps

    @property
    def parts(self) -> int:
        return self.batch_size // self.micro_batch

    def __getitem__(self, part: int) -> Batch:
        """Part number ``part`` of the run. Every sample of the run has random numbers of its own."""
        first = part * self.micro_batch
        generators = [torch.Generator().manual_seed(self.seed_of(part) + i) for i in range(self.micro_batch)]
        drawn = [self._drawn(self.index(first + i), generator) for i, generator in enumerate(generators)]
        batch = self.augment.of_batch(collate(drawn, self.grid), generators[0])
        return prepare_all(self.supervisions, batch, generators[0])

    def seed_of(self, part: int) -> int:
        """Of the first sample of a part; the next one has the next seed, whatever the size of parts."""
        return self.seed * 7_368_787 + part * self.micro_batch

    def index(self, number: int) -> int:
        """Which keyframe it is: each once per epoch, in an order of the epoch's own."""
        epoch, place = divmod(number, len(self.samples))
        return self._order(epoch)[place]

    def parts_of(self, rank: int, processes: int, first_step: int) -> list[int]:
        """The parts that a process works on, from a step to the end of the run.

        Raises:
            ConfigError: the parts of a step cannot be dealt out evenly.
        """
        if self.parts % processes:
            raise ConfigError(
                "train.batch_size must be a multiple of train.micro_batch x processes, "
                f"{self.micro_batch} x {processes}; got {self.batch_size}. Change it, or the number of processes."
            )
        steps = range(first_step, self.steps)
        return [step * self.parts + part for step in steps for part in range(rank, self.parts, processes)]

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.samples), generator=generator).tolist()

    def _drawn(self, index: int, generator: torch.Generator) -> Clip:
        clip = self.augment(self._read(index), generator)
        if self.fit is not None:
            clip = self.fit.drawn(clip, generator)
        return self._draw_points(clip, generator)

    def _read(self, index: int) -> Clip:
        if not self.horizon.offsets:
            return Clip(self.samples[index])
        assert isinstance(self.samples, Drives), "prepared samples know their drives"
        clip = clip_at(self.samples, index, self.horizon)
        return self.find_boxes(clip) if self.find_boxes else clip

    def _draw_points(self, clip: Clip, generator: torch.Generator) -> Clip:
        return each_sample(clip, lambda one: self._with_some_points(one, generator))

    def _with_some_points(self, sample: Sample, generator: torch.Generator) -> Sample:
        known = sample.point_features
        if known is None or not self.points_per_sample or len(known.index) <= self.points_per_sample:
            return sample
        rows = torch.randperm(len(known.index), generator=generator)[: self.points_per_sample]
        drawn = PointFeatures(known.index[rows], known.feature[rows], known.weight[rows])
        return replace(sample, point_features=drawn)


def part_loader(steps: TrainingSteps, parts: Sequence[int], workers: int) -> DataLoader[Batch]:
    """These parts in their order, read ahead by ``workers`` processes; 0 reads them when they are asked for."""
    return DataLoader(
        steps,
        batch_size=None,
        sampler=parts,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=ignore_signals if workers else None,
    )
