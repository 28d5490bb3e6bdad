"""Volumes of classes against dense labels: Occ3D, OpenOccupancy, SurroundOcc, SemanticKITTI scene completion.

One confusion matrix, four protocols. They differ in which voxels count and in what a mean runs over, and that
is enough to move one network from 32 to 15 points: so the protocol must be chosen, and every score names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Shaped
from torch import Tensor

from lexivox.data.benchmark_classes import OCC3D, OPENOCCUPANCY, SEMANTICKITTI_VOXELS, SURROUNDOCC
from lexivox.data.classes import ClassTable
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.confusion import ConfusionMatrix
from lexivox.evaluate.metric import Metric, takes_arrays
from lexivox.evaluate.scores import Scores

MASKS = ("none", "lidar", "camera", "both")
"""Which voxels count: all, those that LiDAR observed, those that a camera could see, or those of both kinds."""

DYNAMIC_CLASSES = frozenset(
    {
        "bicycle", "bicyclist", "bus", "car", "construction_vehicle", "motorcycle", "motorcyclist", "other-vehicle",
        "pedestrian", "person", "trailer", "truck", "two_wheeler",
    }
)  # fmt: skip
"""Classes of things that move by themselves, in any table; means over them and over the others are told apart."""

SELF_SUPERVISED_LEFT_OUT = ("others", "other_flat")
"""Classes that image-text teachers cannot name; open-vocabulary papers average over the other fifteen."""


@dataclass(frozen=True, slots=True)
class DenseProtocol:
    """How a benchmark counts dense volumes.

    Attributes:
        name: as written in reports, mask included.
        classes: table of predictions and labels; ``ignore`` is never counted.
        count_false: a class that is predicted but never true scores 0 instead of being left out.
        absent_is_zero: a class that neither occurs nor is predicted scores 0 as well.
    """

    name: str
    classes: ClassTable
    count_false: bool = True
    absent_is_zero: bool = False


def occ3d_protocol(mask: str) -> DenseProtocol:
    """Occ3D-nuScenes with one of :data:`MASKS`; published numbers use ``camera``. It has no default on purpose."""
    if mask not in MASKS:
        raise ConfigError(f"mask of Occ3D must be one of {', '.join(MASKS)}; got {mask!r}.")
    return DenseProtocol(f"occ3d/{mask}", OCC3D)


OPENOCCUPANCY_PROTOCOL = DenseProtocol("openoccupancy", OPENOCCUPANCY)
SURROUNDOCC_PROTOCOL = DenseProtocol("surroundocc", SURROUNDOCC)
SEMANTICKITTI_PROTOCOL = DenseProtocol("semantickitti-ssc", SEMANTICKITTI_VOXELS, absent_is_zero=True)


class DenseScore(Metric):
    """Accumulates one protocol over samples, in integers.

    Args:
        definition: :func:`occ3d_protocol` or one of the constants of this module.
    """

    counters = ("confusion",)

    def __init__(self, definition: DenseProtocol) -> None:
        super().__init__()
        table = definition.classes
        self.definition = definition
        self.free: int = table.free  # type: ignore[assignment]  # every table of a dense protocol has one
        self.confusion = ConfusionMatrix(table.num_classes, {table.ignore})

    @property
    def protocol(self) -> str:
        return self.definition.name

    @property
    def total(self) -> int:
        return int(self.confusion.counts.sum())

    @takes_arrays
    def update(
        self,
        prediction: Shaped[Tensor, "*X_Y_Z"],
        target: Shaped[Tensor, "*_"],
        counted: Bool[Tensor, "*_"] | None = None,
        *,
        token: str = "",
    ) -> None:
        """Counts one volume of classes; all three have the shape (X, Y, Z).

        Args:
            counted: the mask of the protocol, True where a voxel counts; ``None`` counts all. What a prediction says
                where nothing counts is nobody's business; elsewhere it must be a class.
            token: name of the sample, for errors, and so that it counts once.

        Raises:
            ShapeError: volumes of different shape.
            DataError: classes that the table does not have, or a sample that was counted before.
        """
        table, who = self.definition.classes, token or "a sample"
        shapes = {tuple(v.shape) for v in (prediction, target, counted) if v is not None}
        if len(shapes) != 1:
            raise ShapeError(
                f"prediction, label and mask of {who} must have one shape; got {sorted(shapes)}. "
                "Bring the prediction to the label's grid."
            )
        _require_classes("label", target, table, who)
        _require_classes("prediction", prediction, table, who, lambda: _counts(target, counted, table.ignore))
        with self.counting(token):
            self.confusion.update(prediction, target, counted)

    def compute(self) -> Scores:
        """mIoU over the classes without free, IoU of occupied against free, precision and recall of occupied.

        ``miou_dynamic`` and ``miou_static`` are the means over :data:`DYNAMIC_CLASSES` and over the others;
        ``miou_15`` leaves out the classes of :data:`SELF_SUPERVISED_LEFT_OUT`, where the table has them.
        """
        table = self.definition.classes
        iou = self.confusion.iou(count_false=self.definition.count_false)
        if self.definition.absent_is_zero:
            iou = iou.nan_to_num(nan=0.0)
        evaluated = list(table.evaluated)
        values = {"miou": float(iou[evaluated].nanmean()), **self._geometry(), **apart("miou", iou, table)}
        named = [i for i in evaluated if table.names[i] not in SELF_SUPERVISED_LEFT_OUT]
        if "others" in table.names:
            values["miou_15"] = float(iou[named].nanmean())
        per_class = {"iou": {table.names[i]: float(iou[i]) for i in (*evaluated, self.free)}}
        return Scores(self.protocol, values, per_class, self.sample_counts(voxels=self.total))

    def _geometry(self) -> dict[str, float]:
        """Occupied against free. Ignored classes never reach the counts; of nothing at all there is no IoU."""
        counts = self.confusion.counts
        both_free = int(counts[self.free, self.free])
        true_free = int(counts[self.free].sum())
        said_free = int(counts[:, self.free].sum())
        total = int(counts.sum())
        missed, false = said_free - both_free, true_free - both_free
        hit = total - true_free - missed
        empty = 0.0 if self.definition.absent_is_zero else math.nan
        return {
            "iou_occupied": _share(hit, hit + missed + false),
            "precision_occupied": _share(hit, hit + false, empty),
            "recall_occupied": _share(hit, hit + missed, empty),
        }


def apart(name: str, iou: Float64[Tensor, "*T K"], table: ClassTable) -> dict[str, float]:
    """Means over dynamic and over static classes; nothing for a table without dynamic ones."""
    dynamic = [i for i in table.evaluated if table.names[i] in DYNAMIC_CLASSES]
    static = [i for i in table.evaluated if table.names[i] not in DYNAMIC_CLASSES]
    if not dynamic:
        return {}
    return {
        f"{name}_dynamic": float(iou[..., dynamic].nanmean()),
        f"{name}_static": float(iou[..., static].nanmean()),
    }


def _require_classes(
    what: str, volume: Tensor, table: ClassTable, token: str, counts: Callable[[], Tensor] | None = None
) -> None:
    if volume.is_floating_point() or volume.dtype == torch.bool:
        raise DataError(f"the {what} of {token} must hold whole class numbers; got {volume.dtype}. Take the argmax.")
    if not volume.numel():
        return
    low, high = (int(end) for end in volume.aminmax())
    if low >= 0 and high < table.num_classes:
        return
    is_strange = (volume < 0) | (volume >= table.num_classes)
    if counts is not None and low >= 0:
        is_strange &= counts()
    strange = volume[is_strange].unique().tolist()
    if not strange or (what == "label" and strange == [table.ignore]):
        return
    raise DataError(
        f"classes of the {what} of {token} must be 0 to {table.num_classes - 1}, those of {table.name}; "
        f"got {strange[:5]}. Map them with a LabelMap."
    )


def _counts(target: Tensor, counted: Tensor | None, ignore: int) -> Tensor:
    return target != ignore if counted is None else counted & (target != ignore)


def _share(part: int, whole: int, empty: float = math.nan) -> float:
    return part / whole if whole else empty


def surface_distance_scores(
    prediction: Bool[Tensor, "X Y Z"],
    target: Bool[Tensor, "X Y Z"],
    voxel_size_m: float = 0.4,
    tolerance_m: float = 0.6,
) -> tuple[float, float, float]:
    """Accuracy, completeness and F-score of occupied voxels as points (Occ3D challenge).

    A predicted voxel is accurate when a true one lies nearer than ``tolerance_m``; a true one is complete when
    a predicted one does. Distances between centres come from a small set of offsets, so no search tree is needed.
    Where nothing is predicted, or nothing is true, all three are 0.
    """
    if not bool(prediction.any()) or not bool(target.any()):
        return 0.0, 0.0, 0.0
    accuracy = _share_near(prediction, target, voxel_size_m, tolerance_m)
    completeness = _share_near(target, prediction, voxel_size_m, tolerance_m)
    total = accuracy + completeness
    return accuracy, completeness, 2.0 * accuracy * completeness / total if total > 0.0 else 0.0


def _share_near(these: Tensor, those: Tensor, voxel_size_m: float, tolerance_m: float) -> float:
    """Share of the voxels of ``these`` that have one of ``those`` nearer than the tolerance."""
    reach = int(tolerance_m / voxel_size_m)
    padded = torch.nn.functional.pad(those, [reach] * 6)
    near = torch.zeros_like(these)
    steps = range(-reach, reach + 1)
    X, Y, Z = these.shape
    for dx, dy, dz in ((a, b, c) for a in steps for b in steps for c in steps):
        if (dx * dx + dy * dy + dz * dz) ** 0.5 * voxel_size_m < tolerance_m:
            x, y, z = dx + reach, dy + reach, dz + reach
            near |= padded[x : x + X, y : y + Y, z : z + Z]
    return _share(int((these & near).sum()), int(these.sum()))
