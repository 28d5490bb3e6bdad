"""RayPQ: do rays from where the car has been meet the same object at the same distance? (SparseOcc 2024)

Panoptic quality over the rays of RayIoU: a segment is the set of rays that meet it, and of the rays that two segments
share only those count whose distances differ by less than the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.metric import ExactSums, as_tensor, takes_arrays
from lexivox.evaluate.rayiou import THRESHOLDS_M, RayMetric
from lexivox.evaluate.scores import Scores
from lexivox.geometry.grid import VoxelGrid

MIN_RAYS = 10
"""Unmatched segments that fewer rays meet count neither as missed nor as false."""

ONE_SEGMENT = ("barrier", "traffic_cone")
"""Things that the benchmark takes as one segment, like stuff."""


@dataclass(frozen=True, slots=True)
class PanopticVolume:
    """Class of every voxel and the number of its object, numbers counting within a class; 0 where there is none."""

    label: Shaped[Tensor, "*X_Y_Z"]
    instance: Shaped[Tensor, "*_"]

    @classmethod
    def of(cls, label: Any, instance: Any) -> PanopticVolume:
        """From arrays of numpy or tensors."""
        return cls(as_tensor(label), as_tensor(instance))


class RayPqScore(RayMetric):
    """Accumulates RayPQ at 1, 2 and 4 m over samples.

    In the truth every class that is no thing, and those of :data:`ONE_SEGMENT`, are one segment; rays of a thing that
    carry no object, or an object that rays meet in several classes, form one segment of the class that is left over, as
    in the published tool. Predicted segments are taken as they are.

    Args:
        min_rays: see :data:`MIN_RAYS`.

    Raises:
        ConfigError: see :class:`RayMetric`.
    """

    counters = ("counts", "iou_sums", "num_rays")

    def __init__(
        self,
        classes: ClassTable,
        grid: VoxelGrid,
        directions: Float[Tensor, "R 3"] | None = None,
        *,
        min_rays: int = MIN_RAYS,
    ) -> None:
        super().__init__(classes, grid, directions)
        self.min_rays = min_rays
        T, K = len(THRESHOLDS_M), classes.num_classes
        self.counts: Int64[Tensor, "3 T K"] = torch.zeros(3, T, K, dtype=torch.int64)  # tp, fp, fn
        self.iou_sums = ExactSums(T * K)
        self.num_rays: Int64[Tensor, ""] = torch.zeros((), dtype=torch.int64)
        things = [i for i in classes.things if classes.names[i] not in ONE_SEGMENT]
        self.is_thing: Bool[Tensor, "K"] = torch.zeros(K, dtype=torch.bool)
        self.is_thing[things] = True

    @property
    def protocol(self) -> str:
        return f"raypq/{self.classes.name}/min{self.min_rays}"

    @property
    def total(self) -> int:
        return int(self.num_rays)

    @takes_arrays
    def update(
        self, prediction: PanopticVolume, target: PanopticVolume, origins: Float[Tensor, "O 3"], *, token: str = ""
    ) -> None:
        """Counts one sample; ray origins in metres of the grid's frame.

        Raises:
            ShapeError: a volume that is not of the grid's shape, or an origin beside the grid.
            DataError: classes that the table does not have, objects below 0, no origin, or a sample that was counted
                before.
        """
        who = token or "a sample"
        for what, volume in (("prediction", prediction), ("label", target)):
            _check_instances(what, volume, who)
        with self.counting(token):
            rays = self.cast(prediction.label, target.label, origins, who)
            said = prediction.instance.reshape(-1)[rays.said_voxel].long()
            true = self._true_segments(rays.true_label, target.instance.reshape(-1)[rays.true_voxel].long())
            K = self.classes.num_classes
            pred, gt = _Segments.of(said, rays.said_label, K), _Segments.of(true, rays.true_label, K)
            same = rays.said_label == rays.true_label
            sums = [self._match(row, pred, gt, same & (rays.error_m < t)) for row, t in enumerate(THRESHOLDS_M)]
            self.iou_sums.add(torch.cat(sums))
            self.num_rays += len(rays.true_label)

    def _true_segments(self, label: Int64[Tensor, "N"], instance: Int64[Tensor, "N"]) -> Int64[Tensor, "N"]:
        """0 for stuff, for what carries no object, and for objects of several classes."""
        objects, row = torch.unique(instance, return_inverse=True)
        low = torch.full((len(objects),), self.classes.num_classes).scatter_reduce_(0, row, label, "amin")
        high = torch.full((len(objects),), -1).scatter_reduce_(0, row, label, "amax")
        return torch.where(self.is_thing[label] & (low == high)[row], instance, 0)

    def _match(self, row: int, pred: _Segments, true: _Segments, shared: Bool[Tensor, "N"]) -> Float64[Tensor, "K"]:
        """Count hits, false and missed segments of one threshold; the sum of the IoU of hits by class."""
        K = self.classes.num_classes
        pairs, inter = torch.unique(true.row[shared] * len(pred.area) + pred.row[shared], return_counts=True)
        t, p = pairs // max(len(pred.area), 1), pairs % max(len(pred.area), 1)
        iou = inter.double() / (true.area[t] + pred.area[p] - inter).double()
        hit = iou > 0.5
        self.counts[0, row] += torch.bincount(true.owner[t[hit]], minlength=K)
        for number, side, matched in ((1, pred, p[hit]), (2, true, t[hit])):
            alone = (side.area >= self.min_rays) & (side.owner != self.free)
            alone[matched] = False
            self.counts[number, row] += torch.bincount(side.owner[alone], minlength=K)
        return torch.zeros(K, dtype=torch.float64).index_add_(0, true.owner[t[hit]], iou[hit])

    def per_class(self) -> dict[str, Float64[Tensor, "T K"]]:
        """RayPQ, SQ and RQ of every threshold and class; NaN where a class has no segment on either side."""
        tp, fp, fn = self.counts.double()
        sq = torch.where(tp > 0, self.iou_sums.values().reshape(tp.shape) / tp.clamp_min(1.0), 0.0)
        rq = tp / (tp + 0.5 * fp + 0.5 * fn).clamp_min(1e-15)
        counted = tp + fp + fn > 0
        return {name: torch.where(counted, v, torch.nan) for name, v in (("pq", sq * rq), ("sq", sq), ("rq", rq))}

    def compute(self) -> Scores:
        """``raypq`` is the mean over thresholds and classes without free, ``raypq_1m`` ... those of one threshold."""
        evaluated = list(self.classes.evaluated)
        table = {name: numbers[:, evaluated] for name, numbers in self.per_class().items()}
        values = {f"ray{name}": float(numbers.nanmean()) for name, numbers in table.items()}
        per_class = {}
        for row, threshold_m in enumerate(THRESHOLDS_M):
            values[f"raypq_{threshold_m:g}m"] = float(table["pq"][row].nanmean())
            numbers = table["pq"][row].tolist()
            per_class[f"raypq_{threshold_m:g}m"] = dict(zip(self.classes.evaluated_names, numbers, strict=True))
        return Scores(self.protocol, values, per_class, self.sample_counts(rays=self.total))


def _check_instances(what: str, volume: PanopticVolume, who: str) -> None:
    label, instance = volume.label, volume.instance
    if label.shape != instance.shape:
        raise ShapeError(
            f"objects of the {what} of {who} must have the shape of its classes {tuple(label.shape)}; "
            f"got {tuple(instance.shape)}."
        )
    if instance.is_floating_point() or int(instance.min()) < 0:
        raise DataError(
            f"objects of the {what} of {who} must be whole numbers from 0; "
            f"got {instance.dtype} from {instance.min():g}."
        )


@dataclass(frozen=True, slots=True)
class _Segments:
    """Segment of every ray, and of every segment its rays and its class."""

    row: Int64[Tensor, "N"]
    area: Int64[Tensor, "S"]
    owner: Int64[Tensor, "S"]

    @classmethod
    def of(cls, instance: Int64[Tensor, "N"], label: Int64[Tensor, "N"], num_classes: int) -> _Segments:
        key, row, area = torch.unique(instance * num_classes + label, return_inverse=True, return_counts=True)
        return cls(row, area, key % num_classes)
