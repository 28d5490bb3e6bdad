"""The data side of training: what is read, augmented and prepared for step t is a function of the seed and t.

So a resumed run sees exactly what an uninterrupted one would have seen, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch.utils.data import DataLoader, Dataset

from lexivox.data.collate import collate
from lexivox.data.transforms import Augment
from lexivox.data.types import Batch, PointFeatures, Sample
from lexivox.geometry.grid import VoxelGrid
from lexivox.supervision.base import Supervision


@runtime_checkable
class Samples(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, slots=True)
class TrainingSteps(Dataset[Batch]):
    """Batch number t of a run.

    Attributes:
        samples: keyframes with images of the model's size, carrying whatever the supervisions need.
        grid: of the model.
        supervisions: fill in their targets after augmentation.
        augment: random world changes.
        batch_size: samples per step.
        points_per_sample: so many teacher points are drawn per sample and step; 0 = all.
        seed: of order, augmentation and draws.
        steps: length of the run.
    """

    samples: Samples
    grid: VoxelGrid
    supervisions: Sequence[Supervision]
    augment: Augment
    batch_size: int
    points_per_sample: int
    seed: int
    steps: int

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(self.seed * 7_368_787 + step)
        drawn = [
            self._draw_points(self.augment(self.samples[index], generator), generator) for index in self.indices(step)
        ]
        batch = self.augment.of_batch(collate(drawn, self.grid), generator)
        for supervision in self.supervisions:
            batch = supervision.prepare(batch, generator)
        return batch

    def indices(self, step: int) -> list[int]:
        """Sample numbers of a step: every sample once per epoch, in an order of its own."""
        count = len(self.samples)
        first = step * self.batch_size
        return [self._order((first + i) // count)[(first + i) % count] for i in range(self.batch_size)]

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.samples), generator=generator).tolist()

    def _draw_points(self, sample: Sample, generator: torch.Generator) -> Sample:
        known = sample.point_features
        if known is None or not self.points_per_sample or len(known.index) <= self.points_per_sample:
            return sample
        rows = torch.randperm(len(known.index), generator=generator)[: self.points_per_sample]
        drawn = PointFeatures(known.index[rows], known.feature[rows], known.weight[rows])
        return replace(sample, point_features=drawn)


def step_loader(steps: TrainingSteps, first: int, workers: int) -> DataLoader[Batch]:
    """Batches ``first``, ``first + 1``, ... of a run."""
    return DataLoader(steps, batch_size=None, sampler=range(first, len(steps)), num_workers=workers)
