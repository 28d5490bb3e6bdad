"""Objects of the synthetic city annotated by their true boxes and outlines, against the true points."""

from __future__ import annotations

import pytest

from benchmarks.annotate_city import CLEANERS, cases, scores, write_city


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return list(cases(write_city(tmp_path_factory.mktemp("city"), 1, 1, (180, 320), 720)))


def test_the_clean_up_finds_the_object(found):
    assert len(found) >= 10
    everything, alone, default = (scores(found, "outline", clean) for clean in CLEANERS.values())
    precision, recall, iou, median_iou = default
    assert precision > everything[0] + 0.02
    assert recall > alone[1] + 0.05
    assert iou > max(everything[2], alone[2])
    assert median_iou > 0.8


def test_a_box_alone_is_worse_than_an_outline_and_the_clean_up_helps(found):
    everything, _, default = (scores(found, "box", clean) for clean in CLEANERS.values())
    assert everything[1] > 0.98  # a box loses nothing, but holds the street too
    assert default[0] > everything[0] + 0.02
    assert default[2] < scores(found, "outline", CLEANERS["HDBSCAN and reach (default)"])[2]
