"""Open-vocabulary retrieval: how well the points of what was asked for rank first (POP-3D 4.2)."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import astuple, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.metric import Metric, takes_arrays
from lexivox.evaluate.protocol import Similarity
from lexivox.evaluate.scores import Scores, require_same_protocol


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
        token: of the keyframe; empty where nobody needs to know.
    """

    query: str
    ap: float
    random: float
    ap_visible: float
    random_visible: float
    token: str = ""


class RetrievalScore(Metric):
    """Accumulates queries; ``rows`` and ``skipped`` are the whole state.

    Args:
        similarity: how the scores were made, for the name of the protocol: the published one is ``"dot"``; ``"given"``
            where files bring them and nobody knows.
        suffix: what else the name says, see :attr:`Pop3dProtocol.retrieval_suffix`.
        split: of the retrieval benchmark; empty for queries that a recording's own labels answer.
    """

    def __init__(self, similarity: Similarity | Literal["given"] = "dot", *, suffix: str = "", split: str = "") -> None:
        super().__init__()
        self.similarity = similarity
        self.suffix, self.split = suffix, split
        self.rows: list[Retrieval] = []
        self.skipped: dict[str, str] = {}
        self._asked: set[tuple[str, str]] = set()

    @property
    def protocol(self) -> str:
        return f"pop3d-retrieval/{self.similarity}{self.suffix}{f'/{self.split}' if self.split else ''}"

    @property
    def total(self) -> int:
        return len(self.rows)

    @takes_arrays
    def update(
        self,
        query: str,
        scores: Float[Tensor, "P"],
        relevant: Bool[Tensor, "_"],
        visible: Int64[Tensor, "S"] | None = None,
        token: str = "",
    ) -> None:
        """Counts one query asked of all points. ``visible`` lists those seen: a point once for each camera.

        Raises:
            ShapeError: not one score for each point.
            DataError: the query was counted for this keyframe before, or a score is NaN.
        """
        _check(scores, relevant, token)
        seen = (math.nan, math.nan)
        if visible is not None:
            seen = average_precision(scores[visible], relevant[visible]), _share(relevant[visible])
        self._add(Retrieval(query, average_precision(scores, relevant), _share(relevant), *seen, token))

    @takes_arrays
    def update_visible(
        self, query: str, scores: Float[Tensor, "S"], relevant: Bool[Tensor, "_"], token: str = ""
    ) -> None:
        """Counts one query of a method that knows only the points that a camera sees, as a teacher does."""
        _check(scores, relevant, token)
        seen = average_precision(scores, relevant), _share(relevant)
        self._add(Retrieval(query, math.nan, math.nan, *seen, token))

    def skip(self, token: str, query: str, reason: str) -> None:
        """Remember a query that cannot be scored, for the report."""
        self.skipped[f"{token}: {query}"] = reason

    def _add(self, row: Retrieval) -> None:
        if row.token and (row.token, row.query) in self._asked:
            raise DataError(f"a query must be counted once for each keyframe; got {row.query!r} twice in {row.token}.")
        self._asked.add((row.token, row.query))
        self.rows.append(row)
        self.num_samples = len(self.rows)

    def merge(self, other: RetrievalScore) -> RetrievalScore:  # type: ignore[override]
        """The score of both together.

        Raises:
            ShapeError: they rank by different similarities.
            DataError: both have counted a query of one keyframe.
        """
        require_same_protocol(self.protocol, other.protocol)
        merged = copy(self)
        merged.rows, merged._asked = [], set()
        for row in (*self.rows, *other.rows):
            merged._add(row)
        merged.skipped = self.skipped | other.skipped
        return merged

    def state(self) -> dict[str, Any]:
        rows = [[None if value != value else value for value in astuple(row)] for row in self.rows]  # no NaN in JSON
        name = {"similarity": self.similarity, "suffix": self.suffix, "split": self.split}
        return {**name, "rows": rows, "skipped": self.skipped}

    def restore(self, state: dict[str, Any]) -> None:
        self.rows, self._asked, self.skipped = [], set(), dict(state["skipped"])
        try:
            for query, *numbers, token in state["rows"]:
                ap, random, seen, chance = (math.nan if value is None else float(value) for value in numbers)
                self._add(Retrieval(query, ap, random, seen, chance, token))
        except (TypeError, ValueError) as error:
            raise ShapeError(f"rows of a retrieval must hold six values; got {error}.") from None

    def compute(self) -> Scores:
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
        counts = {"samples": len(self.rows), "queries": len(queries)}
        if self.split:
            counts["skipped"] = len(self.skipped)
        return Scores(self.protocol, values, per_class, counts)


def _check(scores: Tensor, relevant: Tensor, token: str) -> None:
    who = token or "a sweep"
    if scores.shape != relevant.shape:
        raise ShapeError(f"points of {who} must have a score each, {len(relevant)}; got {len(scores)}.")
    if bool(scores.isnan().any()):
        raise DataError(f"scores of {who} must be numbers; got NaN. Score unseen points with -inf.")


def _share(relevant: Bool[Tensor, "P"]) -> float:
    return float(relevant.double().mean()) if len(relevant) else math.nan


def _mean(rows: list[Retrieval], field: str) -> float:
    """Mean of a field over the rows whose average precision exists."""
    precision = "ap_visible" if "visible" in field else "ap"
    values = [getattr(row, field) for row in rows if not math.isnan(getattr(row, precision))]
    return math.fsum(values) / len(values) if values else math.nan  # the same in any order
