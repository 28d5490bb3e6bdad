"""What a score means: conformal p-values by hand, false alarms as promised, files that are refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from grounding_words import ABSENT, GRID, AxisEncoder, asker, calibrated, known_words, street

from lexivox.errors import ConfigError, DataError
from lexivox.grounding.calibration import Calibration, Calibrator, peak
from lexivox.grounding.phrase import parse_phrase


def with_null(*scores: float) -> Calibration:
    return replace(calibrated(frames=1), null=tuple(sorted(scores)))


def test_p_values_by_hand():
    known = with_null(*[n / 10 for n in range(19)])  # 0.0 .. 1.8
    assert known.p_value(5.0) == pytest.approx(1 / 20)
    assert known.p_value(1.8) == pytest.approx(2 / 20)  # a tie counts as high as it
    assert known.p_value(0.95) == pytest.approx(10 / 20)
    assert known.p_value(-3.0) == 1.0
    assert known.p_value(5.0, phrasings=3) == pytest.approx(1 - 0.95**3)


def test_the_threshold_and_the_p_value_agree():
    known = with_null(*torch.randn(300, generator=torch.Generator().manual_seed(0)).tolist())
    for rate in (0.02, 0.05, 0.1, 0.5):
        for phrasings in (1, 2, 5):
            threshold = known.threshold(rate, phrasings)
            assert known.p_value(math.nextafter(threshold, 9), phrasings) <= rate + 1e-9
            assert known.p_value(threshold, phrasings) > rate - 1 / 301


def test_a_rate_that_cannot_be_promised():
    known = with_null(*[n / 10 for n in range(19)])
    with pytest.raises(ConfigError, match=r"false_alarm_rate must lie between 0 and 1; got 1\.5"):
        known.threshold(1.5)
    with pytest.raises(
        ConfigError, match=r"must be at least 0\.05 for 1 phrasings under 19 measured scores; got 0\.01"
    ):
        known.threshold(0.01)
    assert known.threshold(0.05) == 1.8


def test_absent_things_pass_at_the_promised_rate():
    """Other things than those calibrated on, other keyframes: exchangeable, so the rate carries over."""
    known = calibrated(frames=8)
    rate, passed, asked = 0.1, 0, 0
    for seed in range(20, 26):
        ask = asker(known, seed=seed)
        answers = list(ask.ask_many([parse_phrase(f"object {n}") for n in range(60)], rate, top=5))
        passed, asked = passed + sum(bool(a.here) for a in answers), asked + len(answers)
    assert passed / asked < 2 * rate


def test_what_is_there_is_here_and_what_is_not_is_not():
    known = calibrated()
    ask = asker(known, present=("car", "tree", "road"), seed=9)
    verdicts = {word: ask.ask(parse_phrase(word), 0.05) for word in ("automobile", "oak", "road", "lorry", "zebra")}
    assert [answer.here for answer in verdicts.values()] == [True, True, True, False, False]
    assert verdicts["automobile"].verdict.p_value < 0.05 < verdicts["lorry"].verdict.p_value
    assert "not here" in verdicts["zebra"].sentence()
    assert len(verdicts["zebra"].hits()) == 0
    assert verdicts["zebra"].regions() == []


def test_smaller_voxels_must_be_more():
    known = calibrated()
    assert known.count == 3
    assert [known.count_for(v) for v in (1.0, 0.125, 8.0)] == [3, 24, 1]


def test_peak_is_the_third_best():
    assert peak(torch.tensor([[1.0, 5.0, 3.0, 4.0]]), 3).tolist() == [3.0]
    assert peak(torch.tensor([[1.0, 5.0]]), 3).tolist() == [1.0]


def test_without_classes_only_absent_things_compete():
    known = calibrated(words=False)
    assert known.rivals.words == ABSENT
    assert asker(known).ask(parse_phrase("automobile"), 0.05).here is True


def test_thousands_of_scores_are_thinned_with_both_ends_kept():
    calibrator = Calibrator(AxisEncoder(), known_words(), ABSENT)
    for seed in range(60):
        calibrator.update(street(seed=seed)[1], 1.0)
    known = calibrator.result()
    assert len(known.null) == 2000 < 60 * 40
    assert list(known.null) == sorted(known.null)


def test_too_few_things_or_no_voxels():
    with pytest.raises(ConfigError, match="absent things must be at least 20; got 2"):
        Calibrator(AxisEncoder(), None, ("a", "b"))
    calibrator = Calibrator(AxisEncoder(), None, ABSENT)
    calibrator.update(torch.zeros(0, 24), 1.0)
    with pytest.raises(DataError, match="must see at least one occupied voxel"):
        calibrator.result()


# ------------------------------------------------------------------------------------------------------- files


def test_save_and_load(tmp_path):
    known = calibrated()
    again = Calibration.load(known.save(tmp_path).parent)
    assert (again.space, again.count, again.keyframes, again.null) == (known.space, 3, 6, known.null)
    for text in ("automobile", "zebra", "bus, not: truck"):
        one, two = (asker(k, seed=3).ask(parse_phrase(text), 0.05) for k in (known, again))
        assert one.verdict == two.verdict
        assert torch.equal(one.score, two.score)
    assert Calibration.load(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(
    "change",
    [
        {"format": "lexivox-calibration-9"}, {"null": []}, {"null": [2.0, 1.0]}, {"null": ["high"]}, {"null": None},
        {"rivals": ["one"]}, {"temperature": 0}, {"temperature": "warm"}, {"class_of": "many"},
        {"null": [float("nan")]},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_calibration_is_refused(tmp_path, change):
    path = calibrated().save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match="lexivox calibrate RUN") as caught:
        Calibration.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_calibration(tmp_path):
    path = calibrated().save(tmp_path)
    (tmp_path / "calibration.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="a calibration must be readable; got"):
        Calibration.load(tmp_path)
    path.write_text("{")
    with pytest.raises(DataError, match="a calibration must be readable; got"):
        Calibration.load(tmp_path)


def test_another_space_is_refused():
    index, features = street()
    from lexivox.grounding.ask import Asker

    with pytest.raises(
        ConfigError, match=r"must be of the text encoder's space 'other'; got 'axes'\. Calibrate the run"
    ):
        Asker(GRID, index, features, AxisEncoder("other"), calibrated())
