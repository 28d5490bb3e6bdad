from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import metrics as reference

from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.confusion import ConfusionMatrix

# target:      1 1 1 2 2 0 9(ignored)
# prediction:  1 1 2 2 0 0 1
TARGET = torch.tensor([1, 1, 1, 2, 2, 0, 9])
PREDICTION = torch.tensor([1, 1, 2, 2, 0, 0, 1])


def counted() -> ConfusionMatrix:
    matrix = ConfusionMatrix(3, {9})
    matrix.update(PREDICTION, TARGET)
    return matrix


def test_known_values():
    matrix = counted()
    assert matrix.counts[:, :3].tolist() == [[1, 0, 0], [0, 2, 1], [1, 0, 1]]
    # Class 0: TP 1, FP 1, FN 0. Class 1: TP 2, FP 0, FN 1. Class 2: TP 1, FP 1, FN 1.
    assert matrix.iou().tolist() == pytest.approx([1 / 2, 2 / 3, 1 / 3])
    assert matrix.precision().tolist() == pytest.approx([1 / 2, 1, 1 / 2])
    assert matrix.recall().tolist() == pytest.approx([1, 2 / 3, 1 / 2])
    assert matrix.miou() == pytest.approx(1 / 2)
    assert matrix.miou([1, 2]) == pytest.approx(1 / 2)
    assert matrix.accuracy() == pytest.approx(4 / 6)


def test_precision_and_recall_are_not_swapped():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.ones(4, dtype=torch.uint8), torch.tensor([1, 0, 0, 0], dtype=torch.uint8))
    assert matrix.precision()[1] == 0.25  # one of four finds is right
    assert matrix.recall()[1] == 1.0  # and nothing is missed


def test_class_that_is_never_true_counts_one_only_as_published():
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([0, 2]), torch.tensor([0, 0]))
    assert matrix.iou()[0] == 0.5
    assert matrix.iou()[1:].isnan().all()  # although class 2 is predicted
    assert matrix.miou() == 0.5
    assert matrix.miou(present_only=False) == pytest.approx((0.5 + 1 + 1) / 3)


def test_a_place_without_prediction_is_a_miss():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([255, 1]), torch.tensor([1, 1]))
    assert matrix.recall()[1] == 0.5
    assert matrix.precision()[1] == 1.0


def test_ignored_class_inside_the_range_leaves_no_trace_in_the_mean():
    matrix = ConfusionMatrix(3, {0, 255})
    matrix.update(torch.tensor([1, 2, 2, 0]), torch.tensor([0, 255, 2, 2]))
    assert matrix.targets.tolist() == [0, 0, 2]
    assert matrix.miou() == 0.5


def test_nothing_counted_gives_nan_not_a_number():
    matrix = ConfusionMatrix(2, {7})
    matrix.update(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    matrix.update(torch.zeros(3, dtype=torch.int64), torch.full((3,), 7))
    assert math.isnan(matrix.miou())
    assert math.isnan(matrix.accuracy())


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0, 1, 2, 3, 255])), max_size=40),
    dtype=st.sampled_from([torch.uint8, torch.int32, torch.int64]),
)
def test_equals_the_slow_twin(pairs, dtype):
    prediction, target = ([p for p, _ in pairs], [t for _, t in pairs])
    matrix = ConfusionMatrix(4, {0, 255})
    matrix.update(torch.tensor(prediction, dtype=dtype), torch.tensor(target, dtype=torch.uint8))
    expected = [reference.iou(prediction, target, label, {0, 255}) for label in range(4)]
    assert matrix.iou().tolist() == pytest.approx(expected, nan_ok=True)


def test_merge_equals_counting_all_at_once():
    first, second = ConfusionMatrix(3, {9}), ConfusionMatrix(3, {9})
    first.update(PREDICTION[:3], TARGET[:3])
    second.update(PREDICTION[3:], TARGET[3:])
    assert torch.equal(first.merge(second).counts, counted().counts)
    assert first.counts.sum() == 3  # the parts stay as they are


def test_many_classes_do_not_overflow():
    matrix = ConfusionMatrix(4000)
    matrix.update(torch.tensor([3999, 0]), torch.tensor([3999, 3999]))
    assert matrix.counts[3999, 3999] == 1
    assert matrix.counts[3999, 0] == 1


def test_what_cannot_be_counted_is_refused():
    matrix = ConfusionMatrix(3, {255})
    with pytest.raises(DataError, match=r"below 3 or in \[255\]; got \[3, 40\]"):
        matrix.update(torch.zeros(3, dtype=torch.int64), torch.tensor([40, 3, 1]))
    with pytest.raises(DataError, match="0 or above; got -1"):
        matrix.update(torch.tensor([-1]), torch.tensor([0]))
    with pytest.raises(ShapeError, match="same classes; got 3 ignoring"):
        matrix.merge(ConfusionMatrix(4))
    with pytest.raises(ShapeError, match="above 0; got 0"):
        ConfusionMatrix(0)
