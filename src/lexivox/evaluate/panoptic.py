"""Panoptic quality of points, as the official tools of SemanticKITTI and nuScenes count it.

Kirillov et al. 2019: two segments of one class match when their IoU is above one half; PQ = SQ * RQ. Counts
are kept per class over the whole split, so that scans merge exactly, in any order and over any processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.confusion import ConfusionMatrix
from lexivox.evaluate.metric import ExactSums, Metric, as_tensor, takes_arrays
from lexivox.evaluate.scores import Scores
from lexivox.ops.overlap import Overlaps, overlaps

MIN_POINTS = {"nuscenes": 15, "semantickitti": 50}
"""Unmatched segments with fewer points count neither as missed nor as false (spec ovpanoptic 6.1)."""


SegmentIds = Literal["official", "merged"]


@dataclass(frozen=True, slots=True)
class Segments:
    """A labelled cloud: class of each point and the id of its segment, ids counting within a class.

    A stuff class is one segment when its points carry one id.
    """

    label: Int64[Tensor, "P"]
    segment: Int64[Tensor, "_"]

    @classmethod
    def of(cls, label: Any, segment: Any) -> Segments:
        """From arrays of numpy or tensors of whole numbers.

        Raises:
            DataError: numbers that are not whole.
        """
        parts = [as_tensor(label), as_tensor(segment)]
        for part in parts:
            if part.is_floating_point() or part.dtype == torch.bool:
                raise DataError(f"classes and segment ids must be whole numbers; got {part.dtype}. Take the argmax.")
        return cls(parts[0].long(), parts[1].long())


class PanopticScore(Metric):
    """Accumulates PQ, SQ, RQ, PQ-dagger and mIoU.

    Args:
        classes: the table of the labels; ``ignore`` is void.
        min_points: see :data:`MIN_POINTS`.
        groups: named classes whose means are reported as well, such as ``{"novel": ["bus", "trailer"]}``.
        ids: how segment ids were read, for the name of the protocol: those of the official tools, or mended ones (see
            :func:`lexivox.data.formats.read_semantickitti_points`).
    """

    counters = ("confusion", "counts", "iou_sums")

    def __init__(
        self,
        classes: ClassTable,
        *,
        min_points: int,
        groups: Mapping[str, Sequence[str]] | None = None,
        ids: SegmentIds = "official",
    ) -> None:
        super().__init__()
        self.ids: SegmentIds = ids
        self.classes, self.min_points, self.groups = classes, min_points, dict(groups or {})
        self.confusion = ConfusionMatrix(classes.num_classes, {classes.ignore})
        self.counts: Int64[Tensor, "3 K"] = torch.zeros(3, classes.num_classes, dtype=torch.int64)  # tp, fp, fn
        self.iou_sums = ExactSums(classes.num_classes)

    @property
    def protocol(self) -> str:
        return f"panoptic/min{self.min_points}{'' if self.ids == 'official' else f'+{self.ids}'}"

    @property
    def identity(self) -> str:
        return f"{self.protocol} {self.classes.name} {self.groups or ''}".strip()

    @property
    def total(self) -> int:
        return int(self.confusion.counts.sum())

    @property
    def iou_sum(self) -> Float64[Tensor, "K"]:
        """Sum of the IoU of matched segments, by class."""
        return self.iou_sums.values()

    @takes_arrays
    def update(
        self,
        prediction: Segments,
        target: Segments,
        visible: Bool[Tensor, "P"] | None = None,
        *,
        token: str = "",
    ) -> None:
        """Counts one scan.

        Args:
            visible: score these points only, for example those that a camera sees; ids stay as they are.
            token: name of the scan, for errors, and so that it counts once.

        Raises:
            ShapeError: prediction and target are not of the same points.
            DataError: labels or ids that are negative, labels that the table does not have, or a scan that was
                counted before.
        """
        self._check(prediction, target, visible, token or "a scan")
        kept = target.label != self.classes.ignore
        if visible is not None:
            kept &= visible
        with self.counting(token):
            found = overlaps(
                (prediction.label, prediction.segment), (target.label, target.segment), kept, self.classes.num_classes
            )
            pred_label, true_label = found.pred.owner[found.pred_row], found.true.owner[found.true_row]
            self.confusion.add(pred_label, true_label, found.points)
            self._match(found)

    def _match(self, found: Overlaps) -> None:
        pred, true = found.pred, found.true
        owner = true.owner[found.true_row]
        same = pred.owner[found.pred_row] == owner
        p, t, inter = found.pred_row[same], found.true_row[same], found.points[same]
        iou = inter.double() / (pred.area[p] + true.area[t] - inter).double()
        hit = iou > 0.5
        owner = owner[same][hit]
        self.iou_sums.add(torch.zeros(self.classes.num_classes, dtype=torch.float64).index_add_(0, owner, iou[hit]))
        self._count(0, owner)
        for row, side, matched in ((1, pred, p[hit]), (2, true, t[hit])):
            alone = side.area >= self.min_points
            alone[matched] = False
            self._count(row, side.owner[alone])
        if self.classes.ignore < self.classes.num_classes:
            self.counts[:, self.classes.ignore] = 0  # calling a point void is a miss of its class, no false segment

    def _count(self, row: int, owner: Int64[Tensor, "N"]) -> None:
        self.counts[row] += torch.bincount(owner, minlength=self.classes.num_classes)

    def _check(self, prediction: Segments, target: Segments, visible: Tensor | None, who: str) -> None:
        sizes = {len(part) for side in (prediction, target) for part in (side.label, side.segment)}
        if visible is not None:
            sizes.add(len(visible))
        if len(sizes) != 1:
            raise ShapeError(f"prediction and target of {who} must label the same points; got {sorted(sizes)} points.")
        for name, side in (("prediction", prediction), ("target", target)):
            if not len(side.label):
                continue
            low, high = (int(end) for end in side.label.aminmax())
            if low < 0 or high >= self.classes.num_classes:
                raise DataError(
                    f"classes of the {name} of {who} must be 0 to {self.classes.num_classes - 1}, those of "
                    f"{self.classes.name}; got {low} to {high}. Map the labels to {self.classes.name} first."
                )
            if int(side.segment.min()) < 0:
                raise DataError(
                    f"segment ids of the {name} of {who} must be 0 or above; got {int(side.segment.min())}."
                )

    def per_class(self) -> dict[str, Float64[Tensor, "K"]]:
        """PQ, SQ, RQ and IoU of every class of the table; a class that never occurs scores 0, as officially."""
        tp, fp, fn = self.counts.double()
        sq = torch.where(tp > 0, self.iou_sum / tp.clamp_min(1.0), 0.0)
        rq = tp / (tp + 0.5 * fp + 0.5 * fn).clamp_min(1e-15)
        return {"pq": sq * rq, "sq": sq, "rq": rq, "iou": self.confusion.iou().nan_to_num(nan=0.0)}

    def compute(self) -> Scores:
        """Means over all classes but void, over things and stuff, and over every group.

        ``pq_dagger`` takes the IoU of stuff instead of its PQ (Porzi et al. 2019).
        """
        table, evaluated = self.per_class(), list(self.classes.evaluated)
        things = [i for i in evaluated if i in self.classes.things]
        stuff = [i for i in evaluated if i not in self.classes.things]
        values = {"miou": float(table["iou"][evaluated].mean())}
        dagger = [float(table["pq" if i in self.classes.things else "iou"][i]) for i in evaluated]
        values["pq_dagger"] = sum(dagger) / len(dagger)
        groups = {"": evaluated, "_things": things, "_stuff": stuff}
        groups |= {f"_{name}": [self.classes.index_of(c) for c in members] for name, members in self.groups.items()}
        for suffix, members in groups.items():
            values |= {f"{m}{suffix}": float(table[m][members].mean()) for m in ("pq", "sq", "rq")}
        per_class = {m: {self.classes.names[i]: float(v[i]) for i in evaluated} for m, v in table.items()}
        return Scores(self.protocol, values, per_class, self.sample_counts(points=self.total))
