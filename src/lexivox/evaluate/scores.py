"""What a metric hands to a report: named numbers, and the name of the protocol that made them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lexivox.errors import ShapeError

Number = float | None
"""A share of 1, or ``None`` where the metric does not apply."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The result of one protocol for one method. NaN is kept as ``None``.

    Attributes:
        protocol: family and variant, such as ``"pop3d-occupancy/exact"``; numbers compare only within one.
        values: metric to number; all metrics are shares of 1.
        per_class: metric to class to number.
        counts: how much was scored, such as ``{"samples": 6019}``.
    """

    protocol: str
    values: Mapping[str, Number]
    per_class: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _without_nan(self.values))
        cleaned = {metric: _without_nan(numbers) for metric, numbers in self.per_class.items()}
        object.__setattr__(self, "per_class", cleaned)


def _without_nan(numbers: Mapping[str, Number]) -> dict[str, Number]:
    return {name: None if x is None or math.isnan(x) else float(x) for name, x in numbers.items()}


def require_same_protocol(one: str, other: str) -> None:
    """Raises:
    ShapeError: two scores to be merged follow different protocols or count different classes.
    """
    if one != other:
        raise ShapeError(f"merged scores must follow one protocol; got {one} and {other}.")
