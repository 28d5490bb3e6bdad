"""A phrase must beat its rivals: the formula, who competes, and what negatives do."""

from __future__ import annotations

import pytest
import torch
from grounding_words import ABSENT, CLASSES, AxisEncoder, asker, calibrated
from reference import grounding as slow

from lexivox.grounding.phrase import encode_phrases, parse_phrase
from lexivox.grounding.rivals import ABSENT as NO_CLASS
from lexivox.grounding.rivals import Rivals, margin, score_rivals
from lexivox.ops.cosine import cosine_rows, inverse_lengths


def rivals(*words: str, temperature: float = 0.1) -> Rivals:
    classes = [CLASSES.index(word) if word in CLASSES else NO_CLASS for word in words]
    return Rivals(words, torch.tensor(classes), AxisEncoder().encode(words), temperature)


def test_the_own_class_and_synonyms_do_not_compete():
    table = rivals("car", "truck", "tree", "thing 1", "thing 2")
    competing = lambda text: table.competing(encode_phrases([parse_phrase(text)], AxisEncoder())[0].wanted).tolist()  # noqa: E731
    assert competing("automobile") == [False, True, True, True, True]
    assert competing("lorry") == [True, False, True, True, True]
    assert competing("thing 2")[3:] == [True, False]
    assert competing("lorry, automobile")[:2] in ([False, True], [True, False])  # the nearest class only


def test_margins_equal_the_formula_voxel_by_voxel():
    encoder, table = AxisEncoder(), rivals("car", "truck", "tree", "thing 1", temperature=0.2)
    [vectors] = encode_phrases([parse_phrase("automobile, oak, not: bus")], encoder)
    features = torch.randn(30, 24, generator=torch.Generator().manual_seed(0))
    inverse = inverse_lengths(features)
    wanted, unwanted = (cosine_rows(features, inverse, v) for v in (vectors.wanted, vectors.unwanted))
    [against] = score_rivals(table, features, inverse).soft_best(table.competing(vectors.wanted)[None])
    found = margin(wanted, unwanted, against, 0.2)
    other = cosine_rows(features, inverse, table.vectors)[table.competing(vectors.wanted)]
    for n in range(30):
        against = [*other[:, n].tolist(), *unwanted[:, n].tolist()]
        assert float(found[n]) == pytest.approx(slow.margin(float(wanted[:, n].max()), against, 0.2), abs=1e-5)


def test_without_rivals_the_best_negative_counts():
    wanted, unwanted = torch.tensor([[0.5, 0.2]]), torch.tensor([[0.1, 0.0], [0.3, -0.4]])
    torch.testing.assert_close(margin(wanted, unwanted, None, 0.1), torch.tensor([0.2, 0.2]))
    torch.testing.assert_close(margin(wanted, unwanted[:0], None, 0.1), wanted[0])


@pytest.mark.parametrize("known", [False, True])
def test_negatives_push_what_is_not_meant_below_zero(known):
    ask = asker(calibrated() if known else None)
    trucks = ask.index[:, 0].ge(8) & ask.index[:, 1].lt(8)
    plain = ask.ask(parse_phrase("bus"), 0.05)
    against = ask.ask(parse_phrase("bus, not: truck"), 0.05)
    lies_on = {tuple(i) for i in ask.index[trucks].tolist()}
    assert sum(tuple(i) in lies_on for i in plain.top(32).index.tolist()) > 24
    at_trucks = [s for s, i in zip(against.score.tolist(), against.index.tolist(), strict=True) if tuple(i) in lies_on]
    assert max(at_trucks) < 0
    assert against.measure == "margin"


def test_a_rival_may_score_far_above_the_rest_without_overflow():
    table = rivals("car", "truck", *ABSENT[:3], temperature=0.02)
    features = AxisEncoder().encode(["car", "truck"])
    [vectors] = encode_phrases([parse_phrase("automobile")], AxisEncoder())
    inverse = inverse_lengths(features)
    [against] = score_rivals(table, features, inverse).soft_best(table.competing(vectors.wanted)[None])
    found = margin(cosine_rows(features, inverse, vectors.wanted), torch.zeros(0, 2), against, 0.02)
    assert found.isfinite().all()
    assert found[0] > 0.3
    assert found[1] < -0.7
