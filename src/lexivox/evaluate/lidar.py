"""LiDAR mIoU: the class of every LiDAR point that a camera sees (POP-3D 4.2). Occupancy plays no part."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.types import IGNORED
from lexivox.evaluate.confusion import ConfusionMatrix
from lexivox.evaluate.protocol import Outside, Pop3dProtocol
from lexivox.evaluate.scores import Scores, require_same_protocol


class LidarScore:
    """Accumulates predicted point classes against labels.

    Args:
        classes: of the labels.
        dup: count a point once for every camera that sees it, as the published code does. Otherwise once.
        noise_errors: what is predicted at a point of the table's ignored class (noise) is an error, as in the published
            baselines. Otherwise such points are not counted.
        outside: where points outside the grid were asked, for the name of the protocol.
    """

    def __init__(
        self,
        classes: ClassTable,
        *,
        dup: bool = False,
        noise_errors: bool = False,
        outside: Outside = "keep",
        device: torch.device | str = "cpu",
    ) -> None:
        self.classes = classes
        self.dup, self.noise_errors = dup, noise_errors
        self.outside: Outside = outside
        ignored = {IGNORED} if noise_errors else {classes.ignore, IGNORED}
        self.confusion = ConfusionMatrix(classes.num_classes, ignored, device=device)
        self.num_samples = 0

    @property
    def protocol(self) -> str:
        return Pop3dProtocol(
            points="dup" if self.dup else "unique",
            noise_points="errors" if self.noise_errors else "ignored",
            outside=self.outside,
        ).lidar

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
        merged = LidarScore(self.classes, dup=self.dup, noise_errors=self.noise_errors, outside=self.outside)
        merged.confusion = self.confusion.merge(other.confusion)
        merged.num_samples = self.num_samples + other.num_samples
        return merged

    def state(self) -> dict[str, Any]:
        return {"samples": self.num_samples, "confusion": self.confusion.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.num_samples = int(state["samples"])
        self.confusion.restore(state["confusion"])

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
