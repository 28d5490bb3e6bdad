"""A tiny language for tests: words on known axes, and a map whose voxels lie on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from lexivox.geometry.grid import VoxelGrid
from lexivox.grounding.ask import Asker
from lexivox.grounding.calibration import Calibration, Calibrator
from lexivox.teachers.vocabulary import Vocabulary, embed, vocabulary

GRID = VoxelGrid((-8.0, -8.0, -1.0), (1.0, 1.0, 1.0), (16, 16, 4), "ego")
DIM = 24
CLASSES = ("car", "truck", "tree", "road")
NEAR = {"automobile": ("car", 0.9), "lorry": ("truck", 0.9), "oak": ("tree", 0.85), "bus": ("truck", 0.55)}
ABSENT = tuple(f"thing {number}" for number in range(40))


class AxisEncoder:
    """Classes are axes; words of ``NEAR`` lie beside one; every other text has a random direction of its own."""

    def __init__(self, space: str = "axes") -> None:
        self.space, self.dim, self.calls = space, DIM, 0

    def encode(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> torch.Tensor:
        self.calls += 1
        rows = [self.one(text) for text in texts]
        if prompts is not None:
            rows = [F.normalize(row + 0.01 * len(prompts), dim=0) for row in rows]
        return torch.stack(rows)

    def one(self, text: str) -> torch.Tensor:
        if text in CLASSES:
            return torch.eye(DIM)[CLASSES.index(text)]
        seed = sum((place + 1) * ord(letter) for place, letter in enumerate(text))
        noise = torch.randn(DIM, generator=torch.Generator().manual_seed(seed))
        noise[: len(CLASSES)] *= 0.3
        if text in NEAR:
            base, cosine = NEAR[text]
            noise[: len(CLASSES)] = 0
            return cosine * self.one(base) + (1 - cosine**2) ** 0.5 * F.normalize(noise, dim=0)
        return F.normalize(noise, dim=0)


def street(present: Sequence[str] = CLASSES, seed: int = 0, spread: float = 0.25) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices and features: a 4x4x2 block of every present class, noise around its axis."""
    generator = torch.Generator().manual_seed(seed)
    block = torch.cartesian_prod(torch.arange(4), torch.arange(4), torch.arange(2))
    encoder = AxisEncoder()
    index, features = [], []
    for name in present:
        corner = torch.tensor([(CLASSES.index(name) % 2) * 8 + 2, (CLASSES.index(name) // 2) * 8 + 2, 0])
        index.append(block + corner)
        noise = torch.randn(len(block), DIM, generator=generator) * spread / DIM**0.5
        features.append((encoder.one(name) + noise) * (0.5 + torch.rand(len(block), 1, generator=generator)))
    return torch.cat(index), torch.cat(features)


def known_words() -> Vocabulary:
    return embed(vocabulary(list(CLASSES)), AxisEncoder())


def calibrated(frames: int = 6, words: bool = True) -> Calibration:
    calibrator = Calibrator(AxisEncoder(), known_words() if words else None, ABSENT)
    for seed in range(frames):
        calibrator.update(street(seed=seed)[1], GRID.voxel_m3)
    return calibrator.result()


def asker(calibration: Calibration | None = None, **kwargs) -> Asker:
    index, features = street(**kwargs)
    return Asker(GRID, index, features, AxisEncoder(), calibration)
