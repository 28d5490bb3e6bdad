"""Made-up keyframes and methods with known answers, for tests of whole evaluations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from helpers import make_sample
from torch import Tensor

from lexivox.data.classes import NUSCENES16, ClassTable
from lexivox.data.types import Sample
from lexivox.evaluate.methods import PointAnswer
from lexivox.evaluate.truth import Points, SweepPoints
from lexivox.geometry.grid import VoxelGrid

GRID = VoxelGrid((-8.0, -8.0, -2.0), (2.0, 2.0, 2.0), (8, 8, 3), "ego")
DIM = 6


@dataclass(frozen=True)
class Drive:
    """A data set of made-up samples."""

    samples: tuple[Sample, ...]
    name: str = "made-up"
    classes: ClassTable = NUSCENES16

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(sample.token for sample in self.samples)

    @property
    def drives(self) -> tuple[str, ...]:
        return tuple(sample.drive for sample in self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self):
        return iter(self.samples)


def drive(count: int) -> Drive:
    return Drive(tuple(make_sample(seed) for seed in range(count)))


def with_labels(sample: Sample, label: Tensor) -> Sample:
    assert sample.point_labels is not None
    return replace(sample, point_labels=replace(sample.point_labels, label=label))


def feature_of(xyz: Tensor) -> Tensor:
    """A feature that depends on the place alone, of no particular length."""
    waves = torch.arange(1, DIM + 1) * 0.37
    return torch.sin(xyz.double().sum(dim=-1, keepdim=True) * waves).float() * (1 + xyz[:, :1].abs().float())


@dataclass(frozen=True)
class Guess:
    """A method whose classes and features are functions of the place; knows some keyframes only when told so."""

    known: frozenset[str] | None = None
    shape: tuple[int, ...] = GRID.shape
    broken: str | None = None
    asked: list[int] = field(default_factory=list)

    def answer(self, sample: Sample, sweep: SweepPoints):
        if self.known is not None and sample.token not in self.known:
            return None
        return GuessAnswer(self, sample.token)


@dataclass(frozen=True)
class GuessAnswer:
    method: Guess
    token: str

    def volume(self) -> Tensor:
        number = sum(map(ord, self.token))
        cells = torch.arange(int(torch.tensor(self.method.shape).prod())).reshape(self.method.shape)
        return (cells * 7 + number) % 17 + 1

    def solid(self) -> tuple[Tensor, float]:
        return (self.volume() != 17).float(), 0.5

    def at(self, points: Points) -> PointAnswer:
        self.method.asked.append(len(points))
        feature = feature_of(points.xyz)
        if self.method.broken == self.token:
            feature[0, 0] = torch.nan
        return PointAnswer(feature.argmax(dim=-1) + 1, feature)


class Words:
    """A text encoder that knows nothing: a unit vector from the letters."""

    space = "letters"
    dim = DIM

    def encode(self, texts, prompts=None) -> Tensor:
        rows = [[len(text) % (n + 2) - 0.5 + sum(map(ord, text)) % (n + 3) for n in range(DIM)] for text in texts]
        return F.normalize(torch.tensor(rows).reshape(len(texts), DIM), dim=-1)
