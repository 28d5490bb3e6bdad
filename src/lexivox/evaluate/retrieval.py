"""Open-vocabulary retrieval: how well the points of what was asked for rank first (POP-3D 4.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.errors import DataError
from lexivox.evaluate.scores import Scores, require_same_protocol

Similarity = Literal["dot", "cosine"]


def average_precision(scores: Float[Tensor, "P"], relevant: Bool[Tensor, "P"]) -> float:
    """Area under the precision-recall steps: the sum of (R_n - R_{n-1}) P_n over falling scores, in float64.

    Points of equal score enter together, so their order means nothing. NaN where no point is relevant.

    Raises:
        DataError: a score is NaN.
    """
    if scores.isnan().any():
        raise DataError("scores of a retrieval must be numbers; got NaN. Score unseen points with -inf.")
    num_relevant = int(relevant.sum())
    if num_relevant == 0:
        return math.nan
    ordered, order = scores.sort(descending=True)
    last_of_tie = torch.ones_like(relevant)
    last_of_tie[:-1] = ordered[1:] != ordered[:-1]
    found = relevant[order].cumsum(0)[last_of_tie].double()
    retrieved = last_of_tie.nonzero().flatten() + 1
    new = found.diff(prepend=found.new_zeros(1))
    return float((new * found / retrieved).sum() / num_relevant)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One query asked of one sweep; numbers are NaN where they do not exist.

    Attributes:
        ap, random: over all points: average precision, and what a model without knowledge reaches, which is
            the share of relevant points.
        ap_visible, random_visible: over the points that a camera sees, once for each camera.
    """

    query: str
    ap: float
    random: float
    ap_visible: float
    random_visible: float


class RetrievalScore:
    """Accumulates queries; ``rows`` is the whole state.

    Args:
        similarity: how the scores were made, for the name of the protocol: the published one is ``"dot"``.
    """

    def __init__(self, similarity: Similarity = "dot") -> None:
        self.similarity: Similarity = similarity
        self.rows: list[Retrieval] = []

    @property
    def protocol(self) -> str:
        return f"pop3d-retrieval/{self.similarity}"

    def update(
        self,
        query: str,
        scores: Float[Tensor, "P"],
        relevant: Bool[Tensor, "P"],
        visible: Int64[Tensor, "S"] | None = None,
    ) -> None:
        """Counts one query. ``visible`` lists the points seen: a point once for each camera."""
        random = _share(relevant)
        ap_visible = random_visible = math.nan
        if visible is not None:
            ap_visible = average_precision(scores[visible], relevant[visible])
            random_visible = _share(relevant[visible])
        row = Retrieval(query, average_precision(scores, relevant), random, ap_visible, random_visible)
        self.rows.append(row)

    def merge(self, other: RetrievalScore) -> RetrievalScore:
        """The score of both together.

        Raises:
            ShapeError: they rank by different similarities.
        """
        require_same_protocol(self.protocol, other.protocol)
        merged = RetrievalScore(self.similarity)
        merged.rows = self.rows + other.rows
        return merged

    def scores(self) -> Scores:
        """Means over the queries that have a relevant point; per query, the mean over its samples."""
        fields = {
            "map": "ap",
            "map_random": "random",
            "map_visible": "ap_visible",
            "map_visible_random": "random_visible",
        }
        values = {metric: _mean(self.rows, field) for metric, field in fields.items()}
        queries = dict.fromkeys(row.query for row in self.rows)
        per_class = {
            metric: {query: _mean([r for r in self.rows if r.query == query], field) for query in queries}
            for metric, field in (("ap", "ap"), ("ap_visible", "ap_visible"), ("random", "random"))
        }
        return Scores(self.protocol, values, per_class, {"samples": len(self.rows), "queries": len(queries)})


def _share(relevant: Bool[Tensor, "P"]) -> float:
    return float(relevant.double().mean())


def _mean(rows: list[Retrieval], field: str) -> float:
    """Mean of a field over the rows whose average precision exists."""
    precision = "ap_visible" if "visible" in field else "ap"
    values = [getattr(row, field) for row in rows if not math.isnan(getattr(row, precision))]
    return sum(values) / len(values) if values else math.nan
