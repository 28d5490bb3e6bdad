"""Depth against LiDAR: the error measures of Eigen et al. 2014, streaming."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.metric import ExactSums, Metric, takes_arrays
from lexivox.evaluate.scores import Scores

NAMES = ("abs_rel", "sq_rel_m", "mae_m", "mse_m2", "mse_log", "delta_1", "delta_2", "delta_3")
"""Sums that are kept; root means are taken at the end."""


class DepthScore(Metric):
    """Accumulates depth errors at places with truth, each place weighing the same.

    Args:
        min_depth_m, max_depth_m: truth outside is not counted, and predictions are clamped into the range.
        family: what the name of the protocol begins with; says how depth was read from what was predicted.
    """

    counters = ("sums", "num_places")

    def __init__(self, min_depth_m: float = 0.1, max_depth_m: float = 80.0, family: str = "depth") -> None:
        super().__init__()
        self.family = family
        self.min_depth_m, self.max_depth_m = min_depth_m, max_depth_m
        self.sums = ExactSums(len(NAMES))
        self.num_places: Int64[Tensor, ""] = torch.zeros((), dtype=torch.int64)

    @property
    def protocol(self) -> str:
        return f"{self.family}/{self.min_depth_m:g}-{self.max_depth_m:g}m"

    @property
    def total(self) -> int:
        return int(self.num_places)

    @takes_arrays
    def update(
        self,
        prediction_m: Float[Tensor, "*shape"],
        target_m: Float[Tensor, "*_"],
        valid: Bool[Tensor, "*_"] | None = None,
        *,
        token: str = "",
    ) -> None:
        """Counts one sample.

        Args:
            valid: where there is truth; by default where the target is above 0.

        Raises:
            ShapeError: shapes that differ.
            DataError: a prediction that is not finite where there is truth, or a sample that was counted before.
        """
        who = token or "a sample"
        if prediction_m.shape != target_m.shape or (valid is not None and valid.shape != target_m.shape):
            raise ShapeError(
                f"depth of {who} must be predicted where it is known, {tuple(target_m.shape)}; "
                f"got {tuple(prediction_m.shape)}."
            )
        counted = (target_m >= self.min_depth_m) & (target_m <= self.max_depth_m)
        counted &= target_m > 0 if valid is None else valid
        said, true = prediction_m[counted].double(), target_m[counted].double()
        if not bool(torch.isfinite(said).all()):
            raise DataError(f"depth of {who} must be finite; got {int((~torch.isfinite(said)).sum())} that are not.")
        errors = _errors(said.clamp(self.min_depth_m, self.max_depth_m), true).sum(1)
        with self.counting(token):
            self.sums.add(errors)
            self.num_places += len(true)

    def compute(self) -> Scores:
        """Relative, squared relative (m), absolute (m), root mean square (m; of logarithms) errors; shares of
        places whose ratio to the truth is below 1.25, 1.25**2, 1.25**3."""
        means = self.sums.values() / self.num_places if self.total else torch.full((len(NAMES),), torch.nan)
        mean: dict[str, float] = dict(zip(NAMES, means.tolist(), strict=True))
        values = {
            "abs_rel": mean["abs_rel"],
            "sq_rel_m": mean["sq_rel_m"],
            "mae_m": mean["mae_m"],
            "rmse_m": mean["mse_m2"] ** 0.5,
            "rmse_log": mean["mse_log"] ** 0.5,
            **{f"delta_{k}": mean[f"delta_{k}"] for k in (1, 2, 3)},
        }
        return Scores(self.protocol, values, counts=self.sample_counts(places=self.total))


def _errors(said: Float64[Tensor, "N"], true: Float64[Tensor, "N"]) -> Float64[Tensor, "M N"]:
    """One row for each of :data:`NAMES`."""
    error = (said - true).abs()
    ratio = torch.maximum(said / true, true / said)
    return torch.stack(
        [
            error / true,
            error.square() / true,
            error,
            error.square(),
            (said.log() - true.log()).square(),
            *((ratio < 1.25**k).double() for k in (1, 2, 3)),
        ]
    )
