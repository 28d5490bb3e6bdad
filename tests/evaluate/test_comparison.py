"""Published numbers as data, ours beside them, and what keeps two numbers from being compared."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from lexivox.evaluate.comparison import NOT_RUN, Comparison, ScoredRun, compare
from lexivox.evaluate.protocol import PROTOCOLS, PUBLISHED
from lexivox.evaluate.published import MAIN, OTHERS, PUBLISHED_NUMBERS, RETRIEVAL, TABLE1, PublishedNumber
from lexivox.evaluate.report import ScoreTable
from lexivox.evaluate.scores import Scores
from lexivox.recipes import RECIPES
from lexivox.report_tables import comparison_tables
from lexivox.scoring import comparison_chart
from lexivox.view.bars import BarRow, bar_chart


def run(*scores: Scores, method: str = "student", **change) -> ScoredRun:
    known = {"recipe": "pop3d", "data": "nuScenes", "is_nuscenes": True, "teacher": "maskclip_plus"} | change
    return ScoredRun(scores=ScoreTable("val").with_row(method, *scores), **known)


def lidar(protocol: str = PUBLISHED.lidar, miou: float = 0.25, samples: int = 6019) -> Scores:
    return Scores(protocol, {"miou": miou, "miou_present": 0.9}, counts={"samples": samples})


def first(comparison: Comparison, **wanted):
    found = [n for n in comparison.numbers if all(getattr(n.published, key) == v for key, v in wanted.items())]
    return found[0]


STUDENT = {"method": "POP-3D", "metric": "LiDAR mIoU"}


def test_the_published_numbers_are_those_of_the_paper():
    def values(numbers):
        return [None if n.value is None else round(100 * n.value, 2) for n in numbers]

    assert values(MAIN) == [26.4, 23.0, 31.4, None, None, 16.66, 21.4, None, None, 18.8, 14.9]
    assert values(RETRIEVAL) == [15.3, 15.6, 13.5, 24.1, 24.7, 18.7, 12.6, 13.6, 12.0, 17.5, 18.4, 14.9]
    assert values(TABLE1) == [12.0, 30.0, 12.0, 30.5, 11.9, 30.5, 12.0, 15.1, 12.3, 15.2, 15.4, 15.3, 15.3, 15.5]
    assert values(OTHERS) == [28.17, 9.31, 35.32, 5.96]
    assert all(number.source for number in PUBLISHED_NUMBERS)
    by_method = {(n.method, n.metric): n.value for n in MAIN}
    for metric, share in (("LiDAR mIoU", 0.84), ("(16+1)-class mIoU", 0.78)):  # as the paper says
        assert by_method["POP-3D", metric] / by_method["TPVFormer, supervised", metric] == pytest.approx(
            share, abs=0.005
        )


def test_every_number_has_a_definition_that_can_be_scored_and_a_recipe_that_exists():
    named = {name for p in PROTOCOLS.values() for name in (p.occupancy, p.lidar)}
    named |= {f"{PUBLISHED.retrieval}/{split}" for split in ("train", "val", "test", "eval")}
    assert {number.protocol for number in PUBLISHED_NUMBERS} - {""} <= named
    assert {number.recipe for number in PUBLISHED_NUMBERS} - {""} <= set(RECIPES)
    keys = [(n.table, n.method, n.metric) for n in PUBLISHED_NUMBERS]
    assert len(set(keys)) == len(keys)


def test_the_recipes_of_the_paper_are_scored_as_published():
    reproduced = {number.recipe for number in TABLE1} | {"pop3d", "pop3d_released"}
    assert all(RECIPES[name]().protocol == PUBLISHED for name in reproduced)


def test_the_same_definition_on_the_same_data_compares():
    number = first(compare([run(lidar())]), **STUDENT)
    assert (number.status, number.ours, number.reasons) == ("comparable", 0.25, ())
    assert (number.published_text, number.ours_text) == ("26.4", "25.0")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (run(lidar("pop3d-lidar/unique")), "scored as pop3d-lidar/unique, published as pop3d-lidar/dup+clamp"),
        (run(lidar(samples=81)), "81 of 6,019 samples"),
        (run(lidar(), is_nuscenes=False, data="a synthetic city"), "scored on a synthetic city"),
    ],
)
def test_what_does_not_compare_is_marked_everywhere(given, reason):
    comparison = compare([given])
    number = first(comparison, **STUDENT)
    assert (number.status, number.reasons) == ("not comparable", (reason,))
    assert number.ours_text == "25.0 *"
    assert reason in comparison.to_markdown()
    assert reason in comparison_tables(comparison)[0].note
    stored = json.loads(comparison.to_json())["numbers"][0]
    assert (stored["status"], stored["reasons"]) == ("not comparable", [reason])


def test_another_teacher_is_not_the_published_one():
    baseline = lidar(PROTOCOLS["published_baselines"].lidar)
    number = first(compare([run(baseline, method="teacher", teacher="street")]), method="MaskCLIP+")
    assert number.reasons == ("the teacher is 'street'",)
    assert first(compare([run(baseline, method="teacher")]), method="MaskCLIP+").status == "comparable"


def test_the_exact_definition_is_preferred():
    number = first(compare([run(lidar("pop3d-lidar/unique", 0.9), lidar(miou=0.2))]), **STUDENT)
    assert (number.ours, number.status) == (0.2, "comparable")


def test_queries_of_a_recording_never_stand_beside_the_benchmark():
    own = Scores("pop3d-retrieval/dot+dup+clamp", {"map": 0.9}, counts={"samples": 63})
    val = Scores("pop3d-retrieval/dot+dup+clamp/val", {"map": 0.3, "map_visible": None}, counts={"samples": 27})
    comparison = compare([run(own, val)])
    assert first(comparison, metric="mAP, val+test").status == NOT_RUN
    assert first(comparison, metric="mAP, val").ours == 0.3
    assert first(comparison, metric="mAP visible, val").status == NOT_RUN


def test_cells_of_table_1_come_from_runs_of_their_recipe_only():
    occupancy = Scores(PUBLISHED.occupancy, {"miou": 0.1, "iou_occupied": 0.3}, counts={"samples": 6019})
    beside = run(occupancy, recipe="pop3d_table1a_lambda050")
    comparison = compare([run(lidar()), beside])
    assert first(comparison, method="λ 0.50", metric="mIoU").ours == 0.1
    assert first(comparison, method="λ 1.00", metric="mIoU").status == NOT_RUN
    assert first(comparison, metric="(16+1)-class mIoU").status == NOT_RUN  # a neighbour does not answer for this run


def test_nothing_run_says_so_in_every_cell():
    comparison = compare([run()])
    assert {number.ours_text for number in comparison.numbers} == {NOT_RUN}
    tables = comparison_tables(comparison)
    assert [table.title.split(": ")[1] for table in tables] == list(dict.fromkeys(n.table for n in PUBLISHED_NUMBERS))
    assert comparison.to_markdown().count("not run") == len(PUBLISHED_NUMBERS)
    assert comparison_tables(None) == []


def test_derived_and_missing_values_say_so():
    comparison = compare([run()])
    assert first(comparison, method="TPVFormer, supervised").published_text == "≈31.4"
    assert first(comparison, method="ODISE").published_text == "not found"


# ------------------------------------------------------------------------------------------------- the chart


def test_the_chart_holds_every_number_that_shares_a_definition():
    picture = comparison_chart(compare([run(lidar())]))
    texts = [node.text for node in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    for word in ("published", "ours", "per cent (more is better)", "26.4", "25.0", "≈31.4", "Table 1c", "not run"):
        assert word in texts
    assert "28.2" not in texts  # Occ3D is another protocol


def test_bars_have_the_length_of_their_numbers_and_hollow_ones_do_not_compare():
    rows = [BarRow("g", "a <b>", 10.0, 20.0), BarRow("g", "c", None, 5.0, is_comparable=False)]
    root = ElementTree.fromstring(bar_chart("t & t", rows, width=830))
    bars = [r for r in root.iter("{http://www.w3.org/2000/svg}rect") if r.get("x") == "340"]
    assert [float(bar.get("width")) for bar in bars] == [200.0, 400.0, 100.0]  # 400 px for 20 per cent
    assert [bar.get("stroke-dasharray") for bar in bars] == [None, None, "4 2"]


def test_an_empty_chart_is_still_a_picture():
    assert ElementTree.fromstring(bar_chart("nothing", [])).get("height")


def test_a_published_number_without_a_definition_is_never_ours():
    stray = PublishedNumber("t", "m", "x", 0.5, "", "", "s", answered_by="student")
    assert compare([run(lidar())], [stray]).numbers[0].status == NOT_RUN
