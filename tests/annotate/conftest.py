"""A keyframe small enough to compute by hand: one camera that looks ahead, an object, and a wall behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from helpers import CAM_AXES

from lexivox.annotate.keyframe import Keyframe
from lexivox.data.types import CameraView, LidarSweep, Sample
from lexivox.geometry.transform import RigidTransform

OBJECT = [(10.0, 0.1 * i, 0.05 * j) for j in range(2) for i in range(4)]
"""Rows 0..7: u = 50 - 10 y in 47..50, v = 40 - 10 z in 39.5..40."""

WALL = [(20.0, 0.1 * i, 0.0) for i in range(6)]
"""Rows 8..13: u = 50 - 5 y in 47.5..50, v = 40: in the same box, ten metres behind."""

AWAY = [(10.0, 3.0, 0.0), (-5.0, 0.0, 0.0)]
"""Row 14 at u = 20, outside the box; row 15 behind the camera."""


def make_view(name: str = "CAM_FRONT", image_hw: tuple[int, int] = (80, 100)) -> CameraView:
    pose = RigidTransform(CAM_AXES, torch.zeros(3, dtype=torch.float64))
    intrinsics = torch.tensor([[100.0, 0.0, 50.0], [0.0, 100.0, 40.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    image = torch.arange(3 * image_hw[0] * image_hw[1]).reshape(3, *image_hw).remainder(251).to(torch.uint8)
    return CameraView(name, image, intrinsics, pose, 0)


def make_sample(token: str = "k0", drive: str = "d") -> Sample:
    xyz = torch.tensor(OBJECT + WALL + AWAY)
    zeros = torch.zeros(len(xyz), dtype=torch.int64)
    still = RigidTransform(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    sweep = LidarSweep(xyz, torch.zeros(len(xyz)), zeros, zeros)
    return Sample(token, drive, 0, (make_view(),), sweep, still, still)


class TwoKeyframes:
    """A data set of the same keyframe twice, under two names."""

    name = "toy"
    classes = None
    tokens: Sequence[str] = ("k0", "k1")
    drives: Sequence[str] = ("d", "d")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        return replace(make_sample(), token=self.tokens[index])

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(2))


@pytest.fixture
def keyframe() -> Keyframe:
    return Keyframe.of(make_sample())


@pytest.fixture
def dataset() -> TwoKeyframes:
    return TwoKeyframes()
