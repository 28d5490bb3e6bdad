"""Calibration: hand-computed bins, scikit-learn's AUROC, merging, bad input."""

from __future__ import annotations

import pytest
import torch

from lexivox.errors import DataError
from lexivox.evaluate.calibration import CalibrationScore


def scored(*pairs):
    score = CalibrationScore("test", num_bins=10)
    score.update(torch.tensor([p[0] for p in pairs]), torch.tensor([bool(p[1]) for p in pairs]))
    return score


def test_hand_computed():
    # Bin 0.9-1.0: confidences .95, .95, accuracy 1/2; bin 0.2-0.3: .25, accuracy 0.
    values = scored((0.95, 1), (0.95, 0), (0.25, 0)).compute().values
    assert values["ece"] == pytest.approx((abs(1.9 - 1.0) + 0.25) / 3, abs=1e-6)
    assert values["accuracy"] == pytest.approx(1 / 3)
    assert values["auroc"] == pytest.approx((0.5 + 1.0) / 2)
    # Giving the two confident answers errs in half, all three in two thirds.
    assert values["aurc"] == pytest.approx((0.5 * 2 + 2 / 3) / 3)
    assert values["coverage_at_5"] == 0.0


def test_coverage_counts_the_most_confident():
    pairs = [(0.9, 1)] * 18 + [(0.8, 0)] * 2 + [(0.1, 0)] * 20
    values = scored(*pairs).compute().values
    assert values["coverage_at_5"] == pytest.approx(18 / 40)
    assert values["coverage_at_10"] == pytest.approx(20 / 40)


def test_auroc_equals_pair_counting():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(300, generator=generator)
    right = torch.rand(300, generator=generator) < confidence
    score = CalibrationScore("test")
    score.update(confidence, right)
    wins = (confidence[right][:, None] > confidence[~right][None]).double().mean()
    assert score.compute().values["auroc"] == pytest.approx(float(wins), abs=1e-4)


def test_answers_that_are_all_sure_are_told_apart():
    """A trained network says 0.9997 or 0.99999: equally wide bins would call all of them a tie."""
    sure = 1.0 - 10.0 ** -torch.linspace(3.5, 6.5, 400)
    unsure = 10.0 ** -torch.linspace(3.5, 6.5, 400)
    right = torch.arange(400) > 200
    for confidence, wanted in ((sure, 1.0), (unsure, 0.0)):
        score = CalibrationScore("test")
        score.update(confidence, right)
        assert score.compute().values["auroc"] == pytest.approx(wanted, abs=1e-4)


def test_the_upper_edge_belongs_to_a_bin():
    # Guo et al. 2017: bins (0, 1/2] and (1/2, 1]. In the first: .5 right, .1 wrong; in the second: .9 right.
    score = CalibrationScore("test", num_bins=2)
    score.update(torch.tensor([0.5, 0.1, 0.9], dtype=torch.float64), torch.tensor([True, False, True]))
    assert score.compute().values["ece"] == pytest.approx((abs(0.6 - 1.0) + 0.1) / 3, abs=1e-11)


def test_a_calibrated_score_has_a_small_error():
    generator = torch.Generator().manual_seed(1)
    confidence = torch.rand(200_000, generator=generator)
    honest, boastful = CalibrationScore("test"), CalibrationScore("test")
    honest.update(confidence, torch.rand(200_000, generator=generator) < confidence)
    boastful.update(confidence.sqrt(), torch.rand(200_000, generator=generator) < confidence)
    assert honest.compute().values["ece"] < 0.01
    assert boastful.compute().values["ece"] > 0.1


def test_merging_equals_counting_in_one_place():
    one, two = scored((0.2, 1), (0.9, 0)), scored((0.7, 1), (1.0, 1), (0.0, 0))
    whole = scored((0.2, 1), (0.9, 0), (0.7, 1), (1.0, 1), (0.0, 0))
    merged, counted = one.merge(two).compute(), whole.compute()
    assert (merged.values, merged.counts["answers"]) == (counted.values, counted.counts["answers"])


def test_without_answers_nothing_is_claimed():
    values = CalibrationScore("test").compute().values
    assert values["ece"] is None
    assert values["auroc"] is None


def test_scores_that_are_no_shares_are_refused():
    with pytest.raises(DataError, match=r"confidences of s7 must be from 0 to 1; got -0\.5 to 2"):
        CalibrationScore("test").update(torch.tensor([-0.5, 2.0]), torch.tensor([True, False]), token="s7")
    with pytest.raises(DataError, match="confidences of s7 must be from 0 to 1"):
        CalibrationScore("test").update(torch.tensor([torch.nan]), torch.tensor([True]), token="s7")
