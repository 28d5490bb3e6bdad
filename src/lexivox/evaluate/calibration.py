"""Can a score be believed? Expected calibration error, AUROC and coverage at a bounded error rate.

Confidences fall into fine bins that hold counts, so that scores stream over any number of samples and merge
exactly; within a bin two answers count as a tie.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.metric import ExactSums, Metric, takes_arrays
from lexivox.evaluate.scores import Scores

NUM_FINE_BINS = 3000
"""A multiple of the coarse bins; 3,000 resolve AUROC to about 1e-4."""

RISKS = (0.05, 0.1, 0.2)
"""Error rates at which coverage is reported."""


class CalibrationScore(Metric):
    """Accumulates pairs of a confidence in [0, 1] and whether the answer was right.

    Args:
        name: what is scored, e.g. ``"language"``.
        num_bins: of the calibration error (15 as in Guo et al. 2017); divides :data:`NUM_FINE_BINS`.
    """

    counters = ("right", "wrong", "confidence_sum")

    def __init__(self, name: str, num_bins: int = 15) -> None:
        super().__init__()
        self.name, self.num_bins = name, num_bins
        self.right: Int64[Tensor, "N"] = torch.zeros(NUM_FINE_BINS, dtype=torch.int64)
        self.wrong: Int64[Tensor, "N"] = torch.zeros(NUM_FINE_BINS, dtype=torch.int64)
        self.confidence_sum = ExactSums(NUM_FINE_BINS)

    @property
    def protocol(self) -> str:
        return f"calibration/{self.name}/{self.num_bins}bins"

    @property
    def total(self) -> int:
        return int((self.right + self.wrong).sum())

    @takes_arrays
    def update(self, confidence: Float[Tensor, "P"], is_right: Bool[Tensor, "_"], *, token: str = "") -> None:
        """Counts answers.

        Raises:
            ShapeError: not one verdict for each confidence.
            DataError: a confidence that is no share of 1, or a sample that was counted before.
        """
        who = token or "a sample"
        if confidence.shape != is_right.shape:
            raise ShapeError(
                f"confidences and verdicts of {who} must be as many; got {len(confidence)} and {len(is_right)}."
            )
        if not bool(((confidence >= 0) & (confidence <= 1)).all()):
            raise DataError(
                f"confidences of {who} must be from 0 to 1; got {confidence.min():g} to {confidence.max():g}. "
                "Squash the scores first."
            )
        place = (confidence.double() * NUM_FINE_BINS).long().clamp_max(NUM_FINE_BINS - 1)
        sums = torch.zeros(NUM_FINE_BINS, dtype=torch.float64).index_add_(0, place, confidence.double())
        with self.counting(token):
            self.right += torch.bincount(place[is_right], minlength=NUM_FINE_BINS)
            self.wrong += torch.bincount(place[~is_right], minlength=NUM_FINE_BINS)
            self.confidence_sum.add(sums)

    def compute(self) -> Scores:
        """``ece``, ``auroc`` of right against wrong answers, ``accuracy``, and coverage.

        ``coverage_at_5`` is the largest share of the answers, the most confident ones, of which at most 5 % are
        wrong; ``aurc`` the mean error rate over all coverages.
        """
        values = {"ece": self._ece(), "auroc": self._auroc(), "accuracy": self._accuracy()}
        risk, coverage, count = self._risk()
        for limit in RISKS:
            allowed = coverage[risk <= limit]
            values[f"coverage_at_{100 * limit:g}"] = float(allowed.max()) if len(allowed) else 0.0
        values["aurc"] = float((risk * count).sum() / count.sum()) if len(risk) else float("nan")
        return Scores(self.protocol, values, counts=self.sample_counts(answers=self.total))

    def _accuracy(self) -> float:
        return float(self.right.sum() / (self.right + self.wrong).sum().double())

    def _ece(self) -> float:
        """Mean distance of confidence and accuracy over equally wide bins, weighed by their answers."""
        right, count, confidence = (
            part.reshape(self.num_bins, -1).sum(1).double()
            for part in (self.right, self.right + self.wrong, self.confidence_sum.values())
        )
        return float((confidence - right).abs().sum() / count.sum())

    def _auroc(self) -> float:
        """Share of (right, wrong) pairs in which the right answer is more confident; ties count half."""
        below = self.wrong.cumsum(0) - self.wrong
        wins = (self.right * below).double() + 0.5 * (self.right * self.wrong).double()
        return float(wins.sum() / (self.right.sum() * self.wrong.sum()).double())

    def _risk(self) -> tuple[Float64[Tensor, "M"], Float64[Tensor, "M"], Float64[Tensor, "M"]]:
        """Error rate and coverage when all answers down to each bin are given, and the answers of the bin."""
        count = (self.right + self.wrong).flip(0)
        given, wrong = count.cumsum(0).double(), self.wrong.flip(0).cumsum(0).double()
        filled = count > 0
        return (wrong / given)[filled], (given / given[-1])[filled], count[filled].double()
