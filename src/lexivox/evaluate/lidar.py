"""LiDAR mIoU: the class of every LiDAR point that a camera sees (POP-3D 4.2). Occupancy plays no part."""

from __future__ import annotations

import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.types import IGNORED
from lexivox.evaluate.confusion import ConfusionMatrix
from lexivox.evaluate.scores import Scores, require_same_protocol


class LidarScore:
    """Accumulates predicted point classes against labels; the ignored class of the table is not counted.

    Args:
        classes: of the labels.
        dup: count a point once for every camera that sees it, as the published code does. Otherwise once.
    """

    def __init__(self, classes: ClassTable, *, dup: bool = False, device: torch.device | str = "cpu") -> None:
        self.classes = classes
        self.dup = dup
        self.confusion = ConfusionMatrix(classes.num_classes, {classes.ignore, IGNORED}, device=device)
        self.num_samples = 0

    @property
    def protocol(self) -> str:
        return "pop3d-lidar/" + ("dup" if self.dup else "unique")

    def update(
        self,
        prediction: Integer[Tensor, "P"],
        label: Integer[Tensor, "P"],
        visible: Int64[Tensor, "S"],
    ) -> None:
        """Counts one sweep. ``visible`` lists the points seen: a point once for each camera."""
        if not self.dup:
            visible = visible.unique()
        self.confusion.update(prediction[visible], label[visible])
        self.num_samples += 1

    def merge(self, other: LidarScore) -> LidarScore:
        """The score of both together.

        Raises:
            ShapeError: they follow different protocols or classes.
        """
        require_same_protocol(f"{self.protocol} {self.classes.name}", f"{other.protocol} {other.classes.name}")
        merged = LidarScore(self.classes, dup=self.dup)
        merged.confusion = self.confusion.merge(other.confusion)
        merged.num_samples = self.num_samples + other.num_samples
        return merged

    def scores(self) -> Scores:
        """``miou`` is the published mean: no point of a class counts as 1. ``miou_present`` does not."""
        evaluated = self.classes.evaluated
        values = {
            "miou": self.confusion.miou(evaluated, present_only=False),
            "miou_present": self.confusion.miou(evaluated),
            "accuracy": self.confusion.accuracy(),
        }
        measured = {
            "iou": self.confusion.iou(),
            "precision": self.confusion.precision(),
            "recall": self.confusion.recall(),
        }
        per_class = {
            metric: {self.classes.names[i]: float(numbers[i]) for i in evaluated}
            for metric, numbers in measured.items()
        }
        counts = {"samples": self.num_samples, "points": int(self.confusion.counts.sum())}
        return Scores(self.protocol, values, per_class, counts)
