"""A whole tiny experiment: made-up keyframes, a network that trains in a blink."""

from __future__ import annotations

import pytest
import torch
from helpers import IMAGE_HW, make_sample

from lexivox.data.transforms import Augment
from lexivox.encoders.camera import CameraEncoder
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.triplane import TriplaneEncoder
from lexivox.geometry.grid import VoxelGrid
from lexivox.heads.pointwise import PointwiseHead
from lexivox.model import OccupancyModel
from lexivox.supervision.language import LanguageDistillation
from lexivox.supervision.occupancy import LidarOccupancy
from lexivox.train.data import TrainingSteps

GRID = VoxelGrid((-12.0, -12.0, -2.0), (2.0, 2.0, 2.0), (12, 12, 3), "ego")


def tiny_model(seed: int = 0) -> OccupancyModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        image = ImageEncoder(8, num_levels=2, widths=(8, 8, 8), blocks=1)
        triplane = TriplaneEncoder(GRID, channels=8, num_heads=2, anchors=(2, 2, 2))
        encoder = CameraEncoder(GRID, image=image, triplane=triplane, num_frequencies=1)
        heads = {
            "occupancy": PointwiseHead(encoder.channels, 16, 2),
            "language": PointwiseHead(encoder.channels, 16, 8),
        }
        return OccupancyModel(GRID, encoder, heads, image_hw=IMAGE_HW)


def tiny_steps(steps: int, seed: int = 0) -> TrainingSteps:
    samples = [make_sample(i, num_points=150) for i in range(3)]
    supervisions = [LidarOccupancy(max_voxels=200), LanguageDistillation()]
    return TrainingSteps(samples, GRID, supervisions, Augment(turn_rad=0.2), 1, 50, seed, steps)


@pytest.fixture
def make():
    return tiny_model, tiny_steps
