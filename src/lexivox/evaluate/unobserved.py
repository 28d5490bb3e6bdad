"""What a model puts into the space that no ray reached, which the other protocols leave out."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lexivox.errors import ShapeError
from lexivox.evaluate.metric import Metric, takes_arrays
from lexivox.evaluate.scores import Scores

_FREE, _OCCUPIED, _UNKNOWN = 0, 1, 2


class UnobservedScore(Metric):
    """Accumulates occupancy in observed and unobserved voxels; ``counts`` is the whole state.

    ``counts[observed, truth, predicted]``: truth is free, occupied or unknown.
    """

    PROTOCOL = "unobserved/voxels"
    counters = ("counts",)

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.counts: Int64[Tensor, "2 3 2"] = torch.zeros(2, 3, 2, dtype=torch.int64, device=device)

    @property
    def protocol(self) -> str:
        return self.PROTOCOL

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @takes_arrays
    def update(
        self,
        predicted: Bool[Tensor, "*volume"],
        observed: Bool[Tensor, "*_"],
        truth: Bool[Tensor, "*_"] | None = None,
        *,
        token: str = "",
    ) -> None:
        """Counts one volume, or several at once.

        Args:
            predicted: True where the model says occupied.
            observed: True where a ray passed or ended.
            truth: True where something really is, as only a simulator knows it.
            token: name of the sample, for errors, and so that it counts once.

        Raises:
            ShapeError: volumes of different shape.
            DataError: a sample that was counted before.
        """
        shapes = {tuple(v.shape) for v in (predicted, observed, truth) if v is not None}
        if len(shapes) != 1:
            raise ShapeError(f"volumes of {token or 'a sample'} must have one shape; got {sorted(shapes)}.")
        state = torch.full_like(predicted, _UNKNOWN, dtype=torch.int64) if truth is None else truth.long()
        packed = (observed.long() * 3 + state) * 2 + predicted.long()
        with self.counting(token):
            self.counts += packed.flatten().bincount(minlength=12).reshape(2, 3, 2).to(self.counts.device)

    def compute(self) -> Scores:
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
        counts = self.sample_counts(
            unobserved_voxels=sum(unobserved), observed_voxels=sum(observed), known_voxels=known
        )
        return Scores(self.protocol, values, counts=counts)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
