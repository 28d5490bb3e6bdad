"""Depth errors: hand-computed, merged, refused."""

from __future__ import annotations

import pytest
import torch

from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.depth import DepthScore


def test_hand_computed():
    score = DepthScore()
    score.update(torch.tensor([11.0, 16.0, 5.0]), torch.tensor([10.0, 20.0, 0.0]))  # the last has no truth
    values = score.compute().values
    assert values["abs_rel"] == pytest.approx((0.1 + 0.2) / 2)
    assert values["sq_rel_m"] == pytest.approx((1 / 10 + 16 / 20) / 2)
    assert values["mae_m"] == pytest.approx(2.5)
    assert values["rmse_m"] == pytest.approx((17 / 2) ** 0.5)
    logs = torch.log(torch.tensor([11 / 10, 16 / 20]).double())
    assert values["rmse_log"] == pytest.approx(float(logs.square().mean().sqrt()))
    assert [values[f"delta_{k}"] for k in (1, 2, 3)] == [0.5, 1.0, 1.0]  # 20 / 16 = 1.25 is not below 1.25
    assert score.compute().counts == {"samples": 1, "places": 2}


def test_truth_beyond_the_range_does_not_count_and_predictions_are_clamped():
    score = DepthScore(max_depth_m=50.0)
    score.update(torch.tensor([500.0, 10.0]), torch.tensor([40.0, 60.0]))
    assert score.compute().values["mae_m"] == pytest.approx(10.0)
    assert score.compute().counts["places"] == 1


def test_merging_equals_counting_in_one_place():
    generator = torch.Generator().manual_seed(0)
    said, true = 1 + 50 * torch.rand(2, 6, 10, generator=generator)
    whole, one, two = DepthScore(), DepthScore(), DepthScore()
    for row in range(6):
        whole.update(said[row], true[row])
        (one if row % 2 else two).update(said[row], true[row])
    assert one.merge(two).compute().values == pytest.approx(whole.compute().values)


def test_nothing_scored_is_nothing_claimed():
    assert DepthScore().compute().values["rmse_m"] is None


def test_bad_input_names_the_sample():
    score = DepthScore()
    with pytest.raises(ShapeError, match=r"depth of s7 must be predicted where it is known, \(2,\); got \(3,\)"):
        score.update(torch.ones(3), torch.ones(2), token="s7")
    with pytest.raises(DataError, match="depth of s7 must be finite; got 1 that are not"):
        score.update(torch.tensor([1.0, torch.nan]), torch.ones(2), token="s7")
