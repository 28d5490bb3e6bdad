"""LiDAR mIoU: the class of every LiDAR point that a camera sees (POP-3D 4.2). Occupancy plays no part."""

from __future__ import annotations

import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.types import IGNORED
from lexivox.errors import ShapeError
from lexivox.evaluate.confusion import ConfusionMatrix
from lexivox.evaluate.metric import Metric, naming, takes_arrays
from lexivox.evaluate.protocol import Outside, Pop3dProtocol
from lexivox.evaluate.scores import Scores


class LidarScore(Metric):
    """Accumulates predicted point classes against labels.

    Args:
        classes: of the labels.
        dup: count a point once for every camera that sees it, as the published code does. Otherwise once.
        noise_errors: what is predicted at a point of the table's ignored class (noise) is an error, as in the published
            baselines. Otherwise such points are not counted.
        outside: where points outside the grid were asked, for the name of the protocol.
    """

    counters = ("confusion",)

    def __init__(
        self,
        classes: ClassTable,
        *,
        dup: bool = False,
        noise_errors: bool = False,
        outside: Outside = "keep",
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.classes = classes
        self.dup, self.noise_errors = dup, noise_errors
        self.outside: Outside = outside
        ignored = {IGNORED} if noise_errors else {classes.ignore, IGNORED}
        self.confusion = ConfusionMatrix(classes.num_classes, ignored, device=device)

    @property
    def protocol(self) -> str:
        return Pop3dProtocol(
            points="dup" if self.dup else "unique",
            noise_points="errors" if self.noise_errors else "ignored",
            outside=self.outside,
        ).lidar

    @property
    def identity(self) -> str:
        return f"{self.protocol} {self.classes.name}"

    @property
    def total(self) -> int:
        return int(self.confusion.counts.sum())

    @takes_arrays
    def update(
        self,
        prediction: Integer[Tensor, "P"],
        label: Integer[Tensor, "_"],
        visible: Int64[Tensor, "S"],
        *,
        token: str = "",
    ) -> None:
        """Counts one sweep.

        Args:
            visible: lists the points seen: a point once for each camera.
            token: name of the sweep, for errors, and so that it counts once.

        Raises:
            ShapeError: not one prediction for each label.
            DataError: numbers that are no class, or a sweep that was counted before.
        """
        if prediction.shape != label.shape:
            raise ShapeError(
                f"points of {token or 'a sweep'} must have a prediction and a label each; got {len(prediction)} and "
                f"{len(label)}."
            )
        if not self.dup:
            visible = visible.unique()
        with self.counting(token), naming(token):
            self.confusion.update(prediction[visible], label[visible])

    def compute(self) -> Scores:
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
        return Scores(self.protocol, values, per_class, self.sample_counts(points=self.total))
