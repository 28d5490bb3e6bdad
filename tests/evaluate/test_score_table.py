from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console

from lexivox.errors import ConfigError, DataError
from lexivox.evaluate.report import ScoreTable
from lexivox.evaluate.scores import Scores

OCCUPANCY = Scores(
    "pop3d-occupancy/exact",
    {"miou": 0.25, "iou_occupied": math.nan},
    {"iou": {"car": 0.5, "road": None}},
    {"samples": 3, "voxels": 12000},
)
LIDAR = Scores("pop3d-lidar/unique", {"miou_present": 1 / 3}, {"iou": {"car": 0.1}})


def table() -> ScoreTable:
    empty = ScoreTable("drive 002", notes=("The truth is LiDAR.",))
    return empty.with_row("student", OCCUPANCY, LIDAR).with_row("teacher | fused", LIDAR)


def test_json_round_trip_names_protocol_and_has_no_nan():
    text = table().to_json()
    assert ScoreTable.from_json(text) == table()
    first = json.loads(text)["rows"][0]["scores"][0]
    assert first["protocol"] == "pop3d-occupancy/exact"
    assert first["values"] == {"miou": 0.25, "iou_occupied": None}


def test_markdown_is_one_table_for_each_protocol():
    text = table().to_markdown()
    assert "## pop3d-occupancy/exact (%; 3 samples; 12,000 voxels)" in text
    assert "| method | miou | iou_occupied |\n| --- | ---: | ---: |\n| student | 25.00 | – |" in text
    assert "| teacher \\| fused | 33.33 |" in text
    assert "## pop3d-lidar/unique: iou by class (%)" in text
    assert "| class | student | teacher \\| fused |" in text
    assert "by class" not in table().to_markdown(per_class=False)


def test_rich_prints_every_number():
    console = Console(width=120, record=True, file=io.StringIO())
    scores = table().with_row("student [blank images]", LIDAR)
    console.print(*scores.to_rich(per_class=True))
    text = console.export_text()
    for piece in ("pop3d-occupancy/exact", "student", "25.00", "33.33", "–", "road", "[blank images]"):
        assert piece in text


def test_lookup_gives_none_where_a_metric_does_not_apply():
    scores = table()
    assert scores.value("student", "pop3d-occupancy/exact", "miou") == 0.25
    assert scores.value("student", "pop3d-occupancy/exact", "iou_occupied") is None
    assert scores.value("teacher | fused", "pop3d-occupancy/exact", "miou") is None
    assert scores.value("nobody", "pop3d-occupancy/exact", "miou") is None
    assert scores.protocols == ("pop3d-occupancy/exact", "pop3d-lidar/unique")


def test_twins_and_foreign_text_are_refused():
    with pytest.raises(ConfigError, match="'student' twice"):
        table().with_row("student", LIDAR)
    with pytest.raises(ConfigError, match="must differ in protocol"):
        table().with_row("again", LIDAR, LIDAR)
    for text in ("[]", "{", '{"format": "other", "version": 1}'):
        with pytest.raises(DataError, match="Evaluate again"):
            ScoreTable.from_json(text)


def test_empty_table_is_only_a_title():
    assert ScoreTable("nothing").to_markdown() == "# nothing\n"
    assert ScoreTable("nothing").to_rich() == []
