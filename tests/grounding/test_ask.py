"""Asking a map: one phrase, many phrases, bad features, empty maps."""

from __future__ import annotations

import pytest
import torch
from grounding_words import GRID, AxisEncoder, asker, calibrated, street

from lexivox.errors import ConfigError, DataError
from lexivox.grounding import ask as module
from lexivox.grounding.answer import Answer
from lexivox.grounding.ask import Asker
from lexivox.grounding.phrase import parse_phrase


def test_the_rule_of_several_phrasings():
    ask = asker()
    by = {text: ask.cosine(parse_phrase(text)) for text in ("car", "tree", "car, tree")}
    torch.testing.assert_close(by["car, tree"], torch.maximum(by["car"], by["tree"]))
    mean = ask.ask(parse_phrase("car, tree", rule="mean"), 0.05)
    best = ask.ask(parse_phrase("car, tree"), 0.05)
    assert float(mean.score[0]) < float(best.score[0])  # a mean of two axes lies on neither


def test_best_first_and_without_a_calibration_nobody_knows():
    answer = asker().ask(parse_phrase("automobile"), 0.05)
    assert answer.measure == "cosine"
    assert bool((answer.score.diff() <= 0).all())
    assert answer.verdict is None
    assert answer.here is None
    assert "not calibrated, so nobody knows whether it is here" in answer.sentence()
    with pytest.raises(ConfigError, match=r"hits must be told which voxels count.*lexivox calibrate RUN"):
        answer.regions()
    assert len(answer.regions(above=0.6)) == 1


def test_negatives_alone_already_draw_a_line():
    answer = asker().ask(parse_phrase("automobile, not: truck, tree, road"), 0.05)
    assert answer.threshold == 0.0
    assert 30 <= len(answer.hits()) <= 40  # the block of 32 car voxels, few others


@pytest.mark.parametrize("known", [False, True])
def test_many_at_once_say_what_one_by_one_says(known):
    ask = asker(calibrated() if known else None, seed=4)
    phrases = [parse_phrase(text) for text in ("automobile", "oak, tree", "bus, not: truck", "giraffe", "road")]
    for phrase, many in zip(phrases, ask.ask_many(phrases, 0.05, top=10), strict=True):
        one = ask.ask(phrase, 0.05)
        torch.testing.assert_close(many.score, one.score[:10], atol=6e-3, rtol=0)
        assert (many.text, many.measure, many.here) == (one.text, one.measure, one.here)
        if known:
            assert abs(many.verdict.p_value - one.verdict.p_value) < 0.02


def test_ten_thousand_questions_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 40_000)
    ask, seen = asker(present=("car",)), []
    plain = module.cosine_rows
    monkeypatch.setattr(module, "cosine_rows", lambda *a, **k: seen.append(len(a[2])) or plain(*a, **k))
    phrases = [parse_phrase(f"word {n % 50}, not: other {n % 30}") for n in range(10_000)]
    answers = list(ask.ask_many(phrases, 0.05, top=3))
    assert len(answers) == 10_000
    assert all(len(answer) == 3 for answer in answers)
    assert max(seen) * len(ask.index) <= 40_000 + 2 * len(ask.index)


def test_no_questions_no_answers():
    assert list(asker().ask_many([], 0.05, top=3)) == []


def test_voxels_without_a_usable_feature_come_last_and_are_counted():
    index, features = street(seed=2)
    features[:5] = torch.nan
    features[7], features[8, 3] = 0.0, torch.inf
    for known in (None, calibrated()):
        answer = Asker(GRID, index, features, AxisEncoder(), known).ask(parse_phrase("automobile"), 0.05)
        assert answer.num_unusable == 7
        assert answer.score[:-7].isfinite().all()
        assert answer.score[-7:].eq(-torch.inf).all()
        assert {tuple(i) for i in answer.index[-7:].tolist()} == {
            tuple(i) for i in index[[0, 1, 2, 3, 4, 7, 8]].tolist()
        }


def test_features_that_are_all_unusable_are_refused():
    index, features = street()
    with pytest.raises(
        DataError, match=r"language features must be finite and not all zero; got none such in 128 voxels"
    ):
        Asker(GRID, index, features * torch.nan, AxisEncoder())


@pytest.mark.parametrize("known", [False, True])
def test_an_empty_map_answers(known):
    index, features = street()
    ask = Asker(GRID, index[:0], features[:0], AxisEncoder(), calibrated() if known else None)
    answer = ask.ask(parse_phrase("car, not: tree"), 0.05)
    assert len(answer) == 0
    assert answer.regions() == []
    assert answer.here is (False if known else None)
    assert [len(a) for a in ask.ask_many([parse_phrase("car")] * 2, 0.05, top=4)] == [0, 0]


def test_strange_texts_get_an_answer():
    ask = asker(calibrated())
    for text in ("自動車", "🚗", "قطة", "x" * 1000, "a\tb\nc", "{}", "not a car"):
        answer = ask.ask(parse_phrase(text), 0.05)
        assert isinstance(answer, Answer)
        assert answer.score.isfinite().all()


def test_heat_is_a_volume():
    ask = asker()
    answer = ask.ask(parse_phrase("car"), 0.05)
    heat = answer.heat()
    assert heat.shape == GRID.shape
    assert int(heat.isfinite().sum()) == len(answer)
    x, y, z = answer.index[0].tolist()
    assert float(heat[x, y, z]) == float(answer.score[0]) == float(heat.nan_to_num(-9).max())
