"""What a model puts into the space that no ray reached, which the other protocols leave out."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lexivox.evaluate.scores import Scores

_FREE, _OCCUPIED, _UNKNOWN = 0, 1, 2


class UnobservedScore:
    """Accumulates occupancy in observed and unobserved voxels; ``counts`` is the whole state.

    ``counts[observed, truth, predicted]``: truth is free, occupied or unknown.
    """

    protocol = "unobserved/voxels"

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self.counts: Int64[Tensor, "2 3 2"] = torch.zeros(2, 3, 2, dtype=torch.int64, device=device)

    def update(
        self,
        predicted: Bool[Tensor, "*volume"],
        observed: Bool[Tensor, "*volume"],
        truth: Bool[Tensor, "*volume"] | None = None,
    ) -> None:
        """Counts one volume, or several at once.

        Args:
            predicted: True where the model says occupied.
            observed: True where a ray passed or ended.
            truth: True where something really is, as only a simulator knows it.
        """
        state = torch.full_like(predicted, _UNKNOWN, dtype=torch.int64) if truth is None else truth.long()
        packed = (observed.long() * 3 + state) * 2 + predicted.long()
        self.counts += packed.flatten().bincount(minlength=12).reshape(2, 3, 2).to(self.counts.device)

    def merge(self, other: UnobservedScore) -> UnobservedScore:
        """The score of both together."""
        merged = UnobservedScore(device=self.counts.device)
        merged.counts = self.counts + other.counts.to(self.counts.device)
        return merged

    def state(self) -> list[list[list[int]]]:
        return self.counts.tolist()

    def restore(self, state: list[list[list[int]]]) -> None:
        self.counts = torch.tensor(state, dtype=torch.int64, device=self.counts.device).reshape(2, 3, 2)

    def scores(self) -> Scores:
        """``share_of_occupied`` tells how much of what the model fills nobody saw.

        ``share_of_space`` is what that would be for a model that fills at random; ``fill`` and
        ``fill_observed`` are the shares of the unobserved and observed voxels that are filled. Precision,
        recall and IoU are those of the unobserved voxels whose truth is known, ``truth_fill`` is how many of
        those are occupied.
        """
        unobserved, observed = self.counts.sum(dim=1).tolist()
        (_, false), (missed, found) = self.counts[0, :_UNKNOWN].tolist()
        known = int(self.counts[0, :_UNKNOWN].sum())
        values = {
            "share_of_occupied": _ratio(unobserved[1], unobserved[1] + observed[1]),
            "share_of_space": _ratio(sum(unobserved), sum(unobserved) + sum(observed)),
            "fill": _ratio(unobserved[1], sum(unobserved)),
            "fill_observed": _ratio(observed[1], sum(observed)),
            "precision": _ratio(found, found + false),
            "recall": _ratio(found, found + missed),
            "iou": _ratio(found, found + false + missed),
            "truth_fill": _ratio(found + missed, known),
        }
        counts = {
            "unobserved_voxels": sum(unobserved),
            "observed_voxels": sum(observed),
            "known_voxels": known,
        }
        return Scores(self.protocol, values, counts=counts)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
