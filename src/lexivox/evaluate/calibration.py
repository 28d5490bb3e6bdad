"""Can a score be believed? Expected calibration error, AUROC and coverage at a bounded error rate.

Confidences fall into fine bins that hold counts, so that scores stream over any number of samples and merge exactly;
within a bin two answers count as a tie. The bins are fine where it matters: networks are sure or unsure by factors, so
a bin is a step in the ratio of the confidence, or of what is missing to 1, whichever is smaller.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.metric import ExactSums, Metric, takes_arrays
from lexivox.evaluate.scores import Scores

_STEPS = 11
"""Each factor of two is cut into 2**11 bins: two confidences that differ by 1/2000 of the smaller are told apart."""

_OCTAVES = 24
"""Confidences below 2**-24, and those as near to 1, are ties: a float32 near 1 knows no more."""

NUM_RANKS = 2 * (_OCTAVES << _STEPS)

RISKS = (0.05, 0.1, 0.2)
"""Error rates at which coverage is reported."""


class CalibrationScore(Metric):
    """Accumulates pairs of a confidence in [0, 1] and whether the answer was right.

    Args:
        name: what is scored, e.g. ``"language"``.
        num_bins: of the calibration error, 15 as in Guo et al. 2017: bin m holds (m - 1) / 15 < confidence <= m / 15.
    """

    counters = ("right", "wrong", "bin_right", "bin_count", "bin_confidence")

    def __init__(self, name: str, num_bins: int = 15) -> None:
        super().__init__()
        self.name, self.num_bins = name, num_bins
        self.right: Int64[Tensor, "N"] = torch.zeros(NUM_RANKS, dtype=torch.int64)
        self.wrong: Int64[Tensor, "N"] = torch.zeros(NUM_RANKS, dtype=torch.int64)
        self.bin_right: Int64[Tensor, "M"] = torch.zeros(num_bins, dtype=torch.int64)
        self.bin_count: Int64[Tensor, "M"] = torch.zeros(num_bins, dtype=torch.int64)
        self.bin_confidence = ExactSums(num_bins)

    @property
    def protocol(self) -> str:
        return f"calibration/{self.name}/{self.num_bins}bins"

    @property
    def total(self) -> int:
        return int(self.bin_count.sum())

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
        confidence = confidence.double()
        rank, edges = _ranks(confidence), torch.arange(1, self.num_bins, dtype=torch.float64) / self.num_bins
        place = torch.bucketize(confidence, edges)  # its upper edge belongs to a bin
        sums = torch.zeros(self.num_bins, dtype=torch.float64).index_add_(0, place, confidence)
        with self.counting(token):
            self.right += torch.bincount(rank[is_right], minlength=NUM_RANKS)
            self.wrong += torch.bincount(rank[~is_right], minlength=NUM_RANKS)
            self.bin_right += torch.bincount(place[is_right], minlength=self.num_bins)
            self.bin_count += torch.bincount(place, minlength=self.num_bins)
            self.bin_confidence.add(sums)

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
        return float(self.bin_right.sum() / self.bin_count.sum().double())

    def _ece(self) -> float:
        """Mean distance of confidence and accuracy over equally wide bins, weighed by their answers."""
        return float((self.bin_confidence.values() - self.bin_right).abs().sum() / self.bin_count.sum())

    def _auroc(self) -> float:
        """Share of (right, wrong) pairs in which the right answer is more confident; ties count half."""
        right, wrong = self.right.double(), self.wrong.double()  # pairs of thousands of samples overflow int64
        wins = right * (wrong.cumsum(0) - 0.5 * wrong)
        return float(wins.sum() / (right.sum() * wrong.sum()))

    def _risk(self) -> tuple[Float64[Tensor, "M"], Float64[Tensor, "M"], Float64[Tensor, "M"]]:
        """Error rate and coverage when all answers down to each bin are given, and the answers of the bin."""
        count = (self.right + self.wrong).flip(0)
        given, wrong = count.cumsum(0).double(), self.wrong.flip(0).cumsum(0).double()
        filled = count > 0
        return (wrong / given)[filled], (given / given[-1])[filled], count[filled].double()


def _ranks(confidence: Float64[Tensor, "P"]) -> Int64[Tensor, "P"]:
    """The fine bin of each confidence, rising with it: exponent and first bits of the distance to 0 or to 1."""
    smaller = torch.minimum(confidence, 1.0 - confidence).clamp_min(2.0**-_OCTAVES)
    lowest = (127 - _OCTAVES) << _STEPS
    step = (smaller.float().view(torch.int32).long() >> (23 - _STEPS)) - lowest
    return torch.where(confidence < 0.5, step, NUM_RANKS - 1 - step)
