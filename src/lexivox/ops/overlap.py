"""Which segments of two labellings of the same points share points, and how many: one pass where numba is installed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lexivox.ops.traversal import has_compiled_kernels

_NARROW = 1 << 31
"""Segment keys below this need no renumbering."""


@dataclass(frozen=True, slots=True)
class Side:
    """The segments of one labelling: how many points each has, and of which class it is."""

    area: Int64[Tensor, "S"]
    owner: Int64[Tensor, "S"]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Every pair of segments that share points, in no order; every segment is in some pair.

    Attributes:
        pred_row, true_row: the two segments of each pair.
        points: how many points they share.
    """

    pred: Side
    true: Side
    pred_row: Int64[Tensor, "M"]
    true_row: Int64[Tensor, "M"]
    points: Int64[Tensor, "M"]


Labelling = tuple[Int64[Tensor, "P"], Int64[Tensor, "P"]]
"""Class below the number of classes and segment id of every point, both from 0; ids count within a class."""


def overlaps(pred: Labelling, true: Labelling, kept: Bool[Tensor, "P"], num_classes: int) -> Overlaps:
    """Pairs among the points of ``kept``."""
    if kept.device.type == "cpu" and has_compiled_kernels():
        return overlaps_numba(pred, true, kept, num_classes)
    return overlaps_torch(pred, true, kept, num_classes)


def overlaps_torch(pred: Labelling, true: Labelling, kept: Bool[Tensor, "P"], num_classes: int) -> Overlaps:
    """One sort of the points finds all pairs; everything after it has the size of the pairs."""
    (pred_key, pred_keys), (true_key, true_keys) = (
        _narrow(segment * num_classes + label) for label, segment in (pred, true)
    )
    span = int(true_key.max()) + 1 if len(true_key) else 1
    pair, points = torch.unique((pred_key * span + true_key)[kept], return_counts=True)
    sides, rows = [], []
    for key, names in ((pair // span, pred_keys), (pair % span, true_keys)):
        segment, row = torch.unique(key, return_inverse=True)
        area = torch.zeros(len(segment), dtype=torch.int64, device=key.device).index_add_(0, row, points)
        sides.append(Side(area, (segment if names is None else names[segment]) % num_classes))
        rows.append(row)
    return Overlaps(sides[0], sides[1], rows[0], rows[1], points)


def overlaps_numba(pred: Labelling, true: Labelling, kept: Bool[Tensor, "P"], num_classes: int) -> Overlaps:
    """:func:`overlaps_torch` by hash tables; tensors on the CPU only."""
    from lexivox.ops.kernels import overlap_numba

    label, segment = (part.contiguous().numpy() for part in pred)
    true_label, true_segment = (part.contiguous().numpy() for part in true)
    counted = overlap_numba.count_pairs((label, segment), (true_label, true_segment), kept.numpy(), num_classes)
    pred_keys, true_keys, row, column, points = (torch.from_numpy(part) for part in counted)
    sides = []
    for keys, rows in ((pred_keys, row), (true_keys, column)):
        area = torch.zeros(len(keys), dtype=torch.int64).index_add_(0, rows, points)
        sides.append(Side(area, keys % num_classes))
    return Overlaps(sides[0], sides[1], row, column, points)


def _narrow(key: Int64[Tensor, "P"]) -> tuple[Int64[Tensor, "P"], Int64[Tensor, "S"] | None]:
    """Keys that two of fit into 63 bits, and the old key of each where they had to be renumbered."""
    if not len(key) or int(key.max()) < _NARROW:
        return key, None
    keys, row = torch.unique(key, return_inverse=True)
    return row, keys
