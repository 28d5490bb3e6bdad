"""What every training signal offers: it prepares its targets beside the data and turns a scene into losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lexivox.data.types import Batch, LabelledPoints, Targets
from lexivox.model import Scene


@runtime_checkable
class Supervision(Protocol):
    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with this supervision's targets, and no others; runs on the CPU, in the data workers."""
        ...

    def __call__(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        """Named loss terms, each already weighted; their sum is what training minimises."""
        ...


def prepare_all(signals: Sequence[Supervision], batch: Batch, generator: torch.Generator) -> Batch:
    """The batch with the targets of every signal. Each prepares from what was sensed, none from another's targets."""
    own = tuple(signal.prepare(batch, generator).targets for signal in signals)
    return replace(batch, targets=Targets(), signal_targets=own)


def nothing_from(scene: Scene, head: str, batch: Batch) -> Tensor:
    """A loss of 0 that still belongs to a head's graph: no sample of the batch carries what it learns from."""
    place = batch.lidar_origin[:0]
    return scene.read(head, place, torch.zeros(0, dtype=torch.int64, device=place.device)).sum()


def join_points(parts: Sequence[LabelledPoints]) -> LabelledPoints:
    """One after the other; weights only if all have them."""
    weights = [part.weight for part in parts if part.weight is not None]
    return LabelledPoints(
        torch.cat([part.xyz for part in parts]),
        torch.cat([part.batch for part in parts]),
        torch.cat([part.label for part in parts]),
        torch.cat(weights) if len(weights) == len(parts) else None,
    )
