"""What every metric is: filled sample by sample, added up across processes, read at the end.

``update(...)`` counts one sample, ``merge(other)`` adds two up, ``compute()`` gives the numbers, ``report()`` a
table that names protocol and coverage. All that is kept are whole numbers, so neither the order of samples nor their
division among processes changes a digit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import wraps
from typing import Any, ClassVar, ParamSpec, TypeVar

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.confusion import ConfusionMatrix
from lexivox.evaluate.scores import Scores, require_same_protocol

_UNIT = 1 << 40

M = TypeVar("M", bound="Metric")
P = ParamSpec("P")
R = TypeVar("R")


def as_tensor(value: Any) -> Any:
    """An array of numpy as a tensor; whole numbers that torch hardly knows become int64. Anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    narrow = value.dtype.kind in "ui" and value.dtype not in (np.uint8, np.int8, np.int16, np.int32, np.int64)
    array = np.ascontiguousarray(value.astype(np.int64) if narrow else value)
    return torch.from_numpy(array) if array.flags.writeable else torch.tensor(array)


def takes_arrays(update: Callable[P, R]) -> Callable[P, R]:
    """Arrays of numpy are taken wherever a tensor is."""

    @wraps(update)
    def converted(*args: P.args, **kwargs: P.kwargs) -> R:
        return update(*map(as_tensor, args), **{name: as_tensor(value) for name, value in kwargs.items()})  # type: ignore[arg-type]

    return converted


class ExactSums:
    """Sums of real numbers that do not depend on order: each is rounded to 2**-40, and whole numbers are added."""

    def __init__(self, size: int) -> None:
        self.units: list[int] = [0] * size  # Python's: they never overflow

    def add(self, numbers: Float64[Tensor, "M"]) -> None:
        """One number for each sum; its error is below 5e-13."""
        for place, number in enumerate(numbers.tolist()):
            if number:
                self.units[place] += round(number * _UNIT)

    def values(self) -> Float64[Tensor, "M"]:
        return torch.tensor([unit / _UNIT for unit in self.units], dtype=torch.float64)

    def merge(self, other: ExactSums) -> ExactSums:
        merged = ExactSums(0)
        merged.units = [a + b for a, b in zip(self.units, other.units, strict=True)]
        return merged

    def state(self) -> list[int]:
        """The sums in units of 2**-40."""
        return list(self.units)

    def restore(self, state: list[int]) -> None:
        """Raises:
        ShapeError: there are not as many sums.
        """
        if len(state) != len(self.units):
            raise ShapeError(f"sums must be {len(self.units)}; got {len(state)}.")
        self.units = [int(unit) for unit in state]


Counter = Tensor | ConfusionMatrix | ExactSums


class Metric(ABC):
    """A metric that streams. A subclass names its ``counters``, counts inside :meth:`counting` and computes.

    Attributes:
        counters: names of the attributes that hold everything counted.
        num_samples: updates so far; ``num_ignored`` of them held nothing that counts, as where all labels are ignored.
        tokens: names of the samples that were given one; a named sample counts once.
    """

    counters: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.num_samples, self.num_ignored = 0, 0
        self.tokens: set[str] = set()

    @property
    @abstractmethod
    def protocol(self) -> str:
        """Name of the definition that the numbers follow."""

    @property
    def identity(self) -> str:
        """What two metrics must share to be added up."""
        return self.protocol

    @property
    @abstractmethod
    def total(self) -> int:
        """How many places (voxels, rays, points, ...) were counted."""

    @abstractmethod
    def compute(self) -> Scores:
        """The numbers. What was never counted has none."""

    @contextmanager
    def counting(self, token: str) -> Iterator[None]:
        """Around the counting of one sample, which counts as a whole or, where an error is raised first, not at all.

        Raises:
            DataError: a sample of this name was counted before.
        """
        if token in self.tokens:
            raise DataError(f"a sample must be counted once; got {token} twice. Give every sample its own name.")
        before = self.total
        yield
        self.num_samples += 1
        self.num_ignored += self.total == before
        if token:
            self.tokens.add(token)

    def merge(self: M, other: M) -> M:
        """The metric of both together; neither is changed.

        Raises:
            ShapeError: they follow different protocols.
            DataError: both have counted a sample of one name.
        """
        require_same_protocol(self.identity, other.identity)
        twice = sorted(self.tokens & other.tokens)
        if twice:
            raise DataError(
                f"merged metrics must hold different samples; got {len(twice)} in both, first {twice[0]}. "
                "Give every process its own share."
            )
        merged = copy(self)
        merged.tokens = self.tokens | other.tokens
        merged.num_samples = self.num_samples + other.num_samples
        merged.num_ignored = self.num_ignored + other.num_ignored
        for name in self.counters:
            setattr(merged, name, _added(getattr(self, name), getattr(other, name)))
        return merged

    def state(self) -> dict[str, Any]:
        """Everything counted so far, as JSON can hold it."""
        counters = {name: getattr(self, name) for name in self.counters}
        counted = {name: c.tolist() if isinstance(c, Tensor) else c.state() for name, c in counters.items()}
        kept = {"samples": self.num_samples, "ignored": self.num_ignored, "tokens": sorted(self.tokens)}
        return {**kept, **counted}

    def restore(self, state: dict[str, Any]) -> None:
        """Take a :meth:`state`.

        Raises:
            ShapeError: it does not fit.
        """
        for name in self.counters:
            setattr(self, name, _restored(getattr(self, name), state[name]))
        self.num_samples, self.num_ignored = int(state["samples"]), int(state["ignored"])
        self.tokens = set(state["tokens"])

    def report(self, method: str = "prediction", *, per_class: bool = True) -> str:
        """The scores as Markdown tables in per cent: protocol, what was counted, mean and class by class."""
        from lexivox.evaluate.report import ScoreTable

        table = ScoreTable(self.protocol).with_row(method, self.compute())
        return table.to_markdown(per_class=per_class)

    def sample_counts(self, **places: int) -> dict[str, int]:
        """Counts for the scores: samples, those that held nothing to count if any, and ``places``."""
        ignored = {"samples_without_anything_counted": self.num_ignored} if self.num_ignored else {}
        return {"samples": self.num_samples, **ignored, **places}


@contextmanager
def naming(token: str) -> Iterator[None]:
    """Errors about data inside name the sample."""
    try:
        yield
    except (DataError, ShapeError) as error:
        raise type(error)(f"{error} Sample: {token}" if token else str(error)) from None


def merge_all(metrics: Sequence[M]) -> M:
    """All parts added up.

    Raises:
        DataError: there is none.
        ShapeError: see :meth:`Metric.merge`.
    """
    if not metrics:
        raise DataError("metrics to merge must be at least one; got none. Evaluate a part first.")
    merged = metrics[0]
    for metric in metrics[1:]:
        merged = merged.merge(metric)
    return merged


def _added(one: Any, other: Any) -> Counter:
    return one + other.to(one.device) if isinstance(one, Tensor) else one.merge(other)


def _restored(counter: Any, state: Any) -> Counter:
    """A counter of the kind and size of ``counter`` that holds ``state``."""
    if not isinstance(counter, Tensor):
        counter.restore(state)
        return counter
    counts = torch.tensor(state, dtype=counter.dtype, device=counter.device)
    if counts.shape != counter.shape or bool((counts < 0).any()):
        raise ShapeError(f"counts must have the shape {tuple(counter.shape)}; got {tuple(counts.shape)}.")
    return counts
