from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import metrics as reference

from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.retrieval import RetrievalScore, average_precision

RANKED = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30).filter(
    lambda pairs: any(relevant for _, relevant in pairs)
)


def test_known_value():
    # Falling order: hit, miss, hit: 1/2 * 1/1 + 1/2 * 2/3.
    scores, relevant = torch.tensor([0.1, 0.9, 0.5]), torch.tensor([True, True, False])
    assert average_precision(scores, relevant) == pytest.approx(1 / 2 + 1 / 3)


@settings(max_examples=80, deadline=None)
@given(pairs=RANKED)
def test_ties_equal_the_slow_twin_and_order_of_points_means_nothing(pairs):
    scores, relevant = torch.tensor([float(s) for s, _ in pairs]), torch.tensor([r for _, r in pairs])
    expected = reference.average_precision(scores.tolist(), relevant.tolist())
    assert average_precision(scores, relevant) == pytest.approx(expected, abs=1e-12)
    assert average_precision(scores.flip(0), relevant.flip(0)) == pytest.approx(expected, abs=1e-12)


def test_scikit_learn_agrees():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    generator = torch.Generator().manual_seed(0)
    for decimals in (1, 6):
        scores = torch.rand(3000, generator=generator).round(decimals=decimals)
        relevant = torch.rand(3000, generator=generator) < 0.05
        expected = sklearn.average_precision_score(relevant.numpy(), scores.numpy())
        assert average_precision(scores, relevant) == pytest.approx(expected, abs=1e-9)


def test_all_tied_equals_the_positive_rate():
    relevant = torch.arange(40) % 5 == 0
    assert average_precision(torch.zeros(40), relevant) == pytest.approx(0.2)


def test_nothing_to_find_and_nan():
    assert math.isnan(average_precision(torch.rand(4), torch.zeros(4, dtype=torch.bool)))
    with pytest.raises(DataError, match="got NaN"):
        average_precision(torch.tensor([math.nan]), torch.tensor([True]))
    assert average_precision(torch.tensor([-math.inf, 2.0]), torch.tensor([False, True])) == 1.0


def test_mean_over_samples_and_per_query():
    best, worst = torch.tensor([2.0, 1.0]), torch.tensor([1.0, 2.0])
    relevant = torch.tensor([True, False])
    score = RetrievalScore()
    score.update("jeep", best, relevant, visible=torch.tensor([0]))
    score.update("jeep", worst, relevant)
    other = RetrievalScore()
    other.update("vase", best, relevant)
    other.update("dog", best, torch.tensor([False, False]))  # has no truth: in no mean
    scores = score.merge(other).compute()
    assert scores.values["map"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert scores.values["map_random"] == pytest.approx(0.5)
    assert scores.values["map_visible"] == 1.0
    assert scores.per_class["ap"] == {"jeep": 0.75, "vase": 1.0, "dog": None}
    assert scores.counts == {"samples": 4, "queries": 3}
    with pytest.raises(ShapeError, match="retrieval/dot and pop3d-retrieval/cosine"):
        score.merge(RetrievalScore("cosine"))


def test_empty_visible_set_has_no_precision():
    score = RetrievalScore()
    score.update("jeep", torch.ones(2), torch.tensor([True, False]), visible=torch.zeros(0, dtype=torch.int64))
    assert score.compute().values["map_visible"] is None


def test_golden_average_precision_of_pop3d(golden):
    case = np.load(golden / "pop3d_eval_metrics.npz")
    for i in range(5):
        scores = torch.from_numpy(case[f"ap{i}/scores"])
        relevant = torch.from_numpy(case[f"ap{i}/labels"])
        visible = torch.from_numpy(case[f"ap{i}/visible_index"])
        assert average_precision(scores, relevant) == pytest.approx(float(case[f"ap{i}/ap"]), abs=1e-9)
        of_visible = average_precision(scores[visible], relevant[visible])
        assert of_visible == pytest.approx(float(case[f"ap{i}/ap_visible"]), abs=1e-9)
