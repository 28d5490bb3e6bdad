"""What may be written in a question, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from grounding_words import DIM, AxisEncoder

from lexivox.errors import ConfigError
from lexivox.grounding.phrase import Phrase, encode_phrases, parse_phrase


@pytest.mark.parametrize(
    ("text", "texts", "negatives"),
    [
        ("car", ("car",), ()),
        (" car ,, automobile , car,", ("car", "automobile"), ()),
        ("car, not: truck", ("car",), ("truck",)),
        ("car not:truck, van", ("car",), ("truck", "van")),
        ("car, NOT : truck, not: bus, truck", ("car",), ("truck", "bus")),
        ("knot: a rope", ("knot: a rope",), ()),
        ("自動車, voiture", ("自動車", "voiture"), ()),
    ],
)
def test_commas_and_not(text, texts, negatives):
    found = parse_phrase(text)
    assert (found.texts, found.negatives) == (texts, negatives)
    assert parse_phrase(str(found)) == found


def test_negatives_from_python_join_those_of_the_text():
    assert parse_phrase("car, not: truck", ["bus, van", "truck"]).negatives == ("truck", "bus", "van")
    assert parse_phrase("car", "truck").negatives == ("truck",)


@pytest.mark.parametrize(
    ("text", "kwargs", "message"),
    [
        ("", {}, r"a query must hold a word; got ''\. Ask for example 'car'\."),
        (" , ", {}, "a query must hold a word"),
        ("not: truck", {}, r"a query must say what to look for; got only negatives: truck\. Write for example"),
        ("not:", {}, "a query must hold a word"),
        ("", {"negatives": ["truck"]}, "got only negatives: truck"),
        ("car, not: Car", {}, r"a word must be wanted or not wanted; got 'car' on both sides\. Remove one\."),
        ("x" * 1001, {}, r"a phrase must hold at most 1000 characters.*got 1001: 'x{40}…'\. Say it in fewer words"),
        (",".join(map(str, range(65))), {}, r"a query must hold at most 64 phrasings; got 65"),
        ("car", {"rule": "worst"}, r"rule of a query must be one of best, mean; got 'worst'"),
    ],
)
def test_what_cannot_be_asked(text, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        parse_phrase(text, **kwargs)


def test_the_mean_is_one_unit_vector_between_the_phrasings():
    best, mean = encode_phrases([Phrase(("car", "tree")), Phrase(("car", "tree"), rule="mean")], AxisEncoder())
    assert best.wanted.shape == (2, DIM)
    torch.testing.assert_close(mean.wanted[0], F.normalize(best.wanted.sum(0), dim=0))
    assert best.unwanted.shape == (0, DIM)


def test_prompts_reach_the_encoder_and_many_phrases_are_one_call():
    encoder = AxisEncoder()
    phrases = [parse_phrase(f"word {n % 7}, not: other {n}") for n in range(50)]
    assert len(encode_phrases(phrases, encoder)) == 50
    assert encoder.calls == 1
    plain, prompted = encode_phrases([Phrase(("car",)), Phrase(("car",), prompts=("a {}.",))], encoder)
    assert encoder.calls == 3
    assert not torch.equal(plain.wanted, prompted.wanted)
