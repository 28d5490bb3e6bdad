from __future__ import annotations

import pytest
import torch

from lexivox.evaluate.unobserved import UnobservedScore


def volume(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool).reshape(1, 1, -1)


OBSERVED = volume(1, 1, 1, 0, 0, 0, 0, 0)
PREDICTED = volume(1, 0, 0, 1, 1, 1, 0, 0)
TRUTH = volume(1, 0, 0, 1, 1, 0, 1, 0)


def test_known_values_without_truth():
    score = UnobservedScore()
    score.update(PREDICTED, OBSERVED)
    values = score.compute().values
    assert values["share_of_occupied"] == pytest.approx(3 / 4)
    assert values["share_of_space"] == pytest.approx(5 / 8)
    assert values["fill"] == pytest.approx(3 / 5)
    assert values["fill_observed"] == pytest.approx(1 / 3)
    assert [values[name] for name in ("precision", "recall", "iou", "truth_fill")] == [None] * 4


def test_known_values_with_truth_look_only_where_nobody_saw():
    score = UnobservedScore()
    score.update(PREDICTED, OBSERVED, TRUTH)
    values = score.compute().values
    # Unobserved: found 2, invented 1, missed 1, one free and left free.
    assert values["precision"] == pytest.approx(2 / 3)
    assert values["recall"] == pytest.approx(2 / 3)
    assert values["iou"] == pytest.approx(2 / 4)
    assert values["truth_fill"] == pytest.approx(3 / 5)


def test_observed_truth_does_not_matter():
    one, other = UnobservedScore(), UnobservedScore()
    one.update(PREDICTED, OBSERVED, TRUTH)
    other.update(PREDICTED, OBSERVED, TRUTH ^ OBSERVED)
    assert one.compute() == other.compute()


def test_volumes_with_and_without_truth_add_up():
    one, other = UnobservedScore(), UnobservedScore()
    one.update(PREDICTED, OBSERVED, TRUTH)
    other.update(PREDICTED, OBSERVED)
    merged = one.merge(other).compute()
    assert merged.values["precision"] == one.compute().values["precision"]
    assert merged.counts == {"samples": 2, "unobserved_voxels": 10, "observed_voxels": 6, "known_voxels": 5}


def test_an_empty_prediction_has_no_share():
    score = UnobservedScore()
    score.update(torch.zeros_like(PREDICTED), OBSERVED, TRUTH)
    assert score.compute().values["share_of_occupied"] is None
    assert score.compute().values["recall"] == 0.0
