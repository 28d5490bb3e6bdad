"""Classes of points, as the lidarseg benchmarks of nuScenes and SemanticKITTI count them."""

from __future__ import annotations

from jaxtyping import Integer
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.confusion import ConfusionMatrix
from lexivox.evaluate.metric import Metric, takes_arrays
from lexivox.evaluate.scores import Scores


class LidarsegScore(Metric):
    """Accumulates predicted against true classes of points; true points of the table's ignored class do not count.

    Args:
        classes: of labels and predictions; calling a point the ignored class is a miss.
        absent_is_zero: as SemanticKITTI's tool has it: a class that neither occurs nor is predicted scores 0, and the
            accuracy is that of the points that got a class. As nuScenes' has it otherwise: such a class is left out.
    """

    counters = ("confusion",)

    def __init__(self, classes: ClassTable, *, absent_is_zero: bool = False) -> None:
        super().__init__()
        self.classes, self.absent_is_zero = classes, absent_is_zero
        self.confusion = ConfusionMatrix(classes.num_classes, {classes.ignore})

    @property
    def protocol(self) -> str:
        return f"lidarseg/{self.classes.name}{'/absent0' if self.absent_is_zero else ''}"

    @property
    def total(self) -> int:
        return int(self.confusion.counts.sum())

    @takes_arrays
    def update(self, prediction: Integer[Tensor, "P"], label: Integer[Tensor, "_"], *, token: str = "") -> None:
        """Counts one cloud.

        Raises:
            ShapeError: not one prediction for each label.
            DataError: numbers that the table does not have, or a cloud that was counted before.
        """
        who = token or "a cloud"
        if prediction.shape != label.shape:
            raise ShapeError(
                f"points of {who} must have a prediction and a label each; got {len(prediction)} and {len(label)}."
            )
        for what, numbers in (("prediction", prediction), ("label", label)):
            low, high = (int(end) for end in numbers.aminmax()) if len(numbers) else (0, 0)
            if low < 0 or high >= self.classes.num_classes:
                raise DataError(
                    f"classes of the {what} of {who} must be 0 to {self.classes.num_classes - 1}, those of "
                    f"{self.classes.name}; got {low} to {high}. Map them with a LabelMap."
                )
        with self.counting(token):
            self.confusion.update(prediction, label)

    def compute(self) -> Scores:
        """``miou`` over the classes that are scored, ``accuracy`` of the points that count (see ``absent_is_zero``)."""
        iou = self.confusion.iou(count_false=True)
        if self.absent_is_zero:
            iou = iou.nan_to_num(nan=0.0)
        evaluated = list(self.classes.evaluated)
        values = {"miou": float(iou[evaluated].nanmean()), "accuracy": self._accuracy(evaluated)}
        per_class = {"iou": {self.classes.names[i]: float(iou[i]) for i in evaluated}}
        return Scores(self.protocol, values, per_class, self.sample_counts(points=self.total))

    def _accuracy(self, evaluated: list[int]) -> float:
        if not self.absent_is_zero:
            return self.confusion.accuracy()
        correct, named = int(self.confusion.correct.sum()), int(self.confusion.predictions[evaluated].sum())
        return correct / named if named else 0.0
