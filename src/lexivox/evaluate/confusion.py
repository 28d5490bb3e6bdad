"""The confusion matrix that every labelling metric is read from."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Bool, Float64, Int64, Integer
from torch import Tensor

from lexivox.errors import DataError, ShapeError


class ConfusionMatrix:
    """Counts of (target, prediction) pairs; targets in ``ignore`` are skipped.

    ``counts`` is the whole state: matrices of several processes are added, by :meth:`merge` or an all-reduce.
    Row = target, column = prediction; the last column counts predictions that are no class at all, so that a
    place without a prediction is a miss and not a hole in the score.
    """

    def __init__(self, num_classes: int, ignore: Collection[int] = (), *, device: torch.device | str = "cpu") -> None:
        if num_classes < 1:
            raise ShapeError(f"num_classes of a confusion matrix must be above 0; got {num_classes}.")
        self.num_classes = num_classes
        self.ignore = frozenset(ignore)
        self.counts: Int64[Tensor, "K K_and_none"] = torch.zeros(
            num_classes, num_classes + 1, dtype=torch.int64, device=device
        )

    def update(
        self,
        prediction: Integer[Tensor, "*shape"],
        target: Integer[Tensor, "*shape"],
        counted: Bool[Tensor, "*shape"] | None = None,
    ) -> None:
        """Counts pairs. Predictions and targets are not negative; targets are classes or in ``ignore``.

        Args:
            counted: True where a pair counts; ``None`` counts all.

        Raises:
            DataError: a target is neither, or a number is negative.
        """
        table = _pair_counts(prediction, target, self.num_classes + 1, counted)
        seen = table.sum(dim=1).nonzero().flatten().tolist()
        foreign = [value for value in seen if value >= self.num_classes and value not in self.ignore]
        if foreign:
            raise DataError(
                f"target classes must be below {self.num_classes} or in {sorted(self.ignore)}; got {foreign}."
            )
        classes = [value for value in seen if value not in self.ignore]
        rows = table[classes].to(self.counts.device)
        self.counts[classes, :-1] += rows[:, : self.num_classes]
        self.counts[classes, -1] += rows[:, self.num_classes :].sum(dim=1)

    def add(self, prediction: Int64[Tensor, "M"], target: Int64[Tensor, "M"], times: Int64[Tensor, "M"]) -> None:
        """Counts pairs that occur several times. Both are classes, targets not in ``ignore``."""
        self.counts.index_put_((target, prediction), times, accumulate=True)

    def merge(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """The matrix of both together.

        Raises:
            ShapeError: they do not count the same classes.
        """
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise ShapeError(
                f"confusion matrices must count the same classes; got {self.num_classes} ignoring "
                f"{sorted(self.ignore)} and {other.num_classes} ignoring {sorted(other.ignore)}."
            )
        merged = ConfusionMatrix(self.num_classes, self.ignore, device=self.counts.device)
        merged.counts = self.counts + other.counts.to(self.counts.device)
        return merged

    def state(self) -> list[list[int]]:
        """The counts as plain numbers."""
        return self.counts.tolist()

    def restore(self, state: list[list[int]]) -> None:
        """Take the counts of another process.

        Raises:
            ShapeError: they count other classes.
        """
        counts = torch.tensor(state, dtype=torch.int64, device=self.counts.device)
        if counts.shape != self.counts.shape or bool((counts < 0).any()):
            raise ShapeError(f"counts must have the shape {tuple(self.counts.shape)}; got {tuple(counts.shape)}.")
        self.counts = counts

    @property
    def correct(self) -> Int64[Tensor, "K"]:
        return self.counts.diagonal()

    @property
    def targets(self) -> Int64[Tensor, "K"]:
        """How often each class is true."""
        return self.counts.sum(dim=1)

    @property
    def predictions(self) -> Int64[Tensor, "K"]:
        """How often each class is predicted where the target is not ignored."""
        return self.counts[:, :-1].sum(dim=0)

    def iou(self, *, count_false: bool = False) -> Float64[Tensor, "K"]:
        """TP / (TP + FP + FN); NaN for a class that is never true.

        Args:
            count_false: give a class that is never true but is predicted 0 instead, as Occ3D's tool does.
        """
        union = self.targets + self.predictions - self.correct
        counted = union > 0 if count_false else self.targets > 0
        return torch.where(counted, self.correct / union.double(), torch.nan)

    def precision(self) -> Float64[Tensor, "K"]:
        """TP / (TP + FP); NaN for a class that is never predicted."""
        return self.correct / self.predictions.double()

    def recall(self) -> Float64[Tensor, "K"]:
        """TP / (TP + FN); NaN for a class that is never true."""
        return self.correct / self.targets.double()

    def miou(self, classes: Sequence[int] | None = None, *, present_only: bool = True) -> float:
        """Mean IoU; NaN where there is nothing to average.

        Args:
            classes: what to average over; ``None`` for all that are not ignored.
            present_only: leave out classes that are never true. ``False`` counts each of them as 1, as the
                published evaluation of POP-3D does.
        """
        if classes is None:
            classes = [i for i in range(self.num_classes) if i not in self.ignore]
        iou = self.iou()[list(classes)]
        if not bool(self.counts.any()):
            return float("nan")
        return float(iou.nanmean() if present_only else iou.nan_to_num(nan=1.0).mean())

    def accuracy(self) -> float:
        """Share of the counted places that are right; NaN without any."""
        return float(self.correct.sum() / self.counts.sum().double())


def _pair_counts(
    prediction: Integer[Tensor, "*shape"],
    target: Integer[Tensor, "*shape"],
    at_least: int,
    counted: Bool[Tensor, "*shape"] | None,
) -> Int64[Tensor, "S S"]:
    """Table of how often each (target, prediction) pair occurs, wide enough for every number met.

    Both numbers are packed into one and counted in a single pass; the small table decides what to ignore.
    """
    if target.numel() == 0:
        return torch.zeros(at_least, at_least, dtype=torch.int64, device=target.device)
    (low_t, high_t), (low_p, high_p) = target.aminmax(), prediction.aminmax()
    if min(int(low_t), int(low_p)) < 0:
        raise DataError(f"classes must be 0 or above; got {min(int(low_t), int(low_p))}. Write 255 for no prediction.")
    span = max(int(high_t) + 1, int(high_p) + 1, at_least)
    # One type for both, as narrow as the pairs allow: it decides the speed of all that follows.
    dtype = torch.int16 if span < 180 else torch.int32 if span < 2**15 else torch.int64
    packed = target.reshape(-1).to(dtype) * span + prediction.reshape(-1).to(target.device, dtype)
    if counted is not None:  # a bin of its own for the rest; cheaper than cutting the volumes out
        packed = torch.where(counted.reshape(-1), packed, span * span)
    return torch.bincount(packed, minlength=span * span + 1)[: span * span].reshape(span, span)
