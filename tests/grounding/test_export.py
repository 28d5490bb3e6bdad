"""Hits in files: read back, in both frames, with "not here" told."""

from __future__ import annotations

import csv
import json
import math

import pytest
import torch
from grounding_words import asker, calibrated

from lexivox.errors import ConfigError, DataError
from lexivox.geometry.transform import RigidTransform
from lexivox.grounding.export import Findings, find, global_box, write_hits
from lexivox.grounding.phrase import parse_phrase
from lexivox.grounding.regions import Box

POSE = RigidTransform.from_yaw(math.pi / 2, (1000.0, 2000.0, 3.0))


@pytest.fixture(scope="module")
def findings() -> Findings:
    ask = asker(calibrated(), present=("car", "tree", "road"), seed=3)
    answers = [ask.ask(parse_phrase(text), 0.05) for text in ('automobile, "sports car"', "lorry")]
    assert [answer.here for answer in answers] == [True, False]
    return find("frame1", answers, POSE)


def test_json(findings, tmp_path):
    known = json.loads(write_hits(tmp_path / "hits.json", findings).read_text())
    assert (known["format"], known["token"], known["frame"]) == ("lexivox-hits-1", "frame1", "ego")
    car, lorry = known["queries"]
    assert (car["here"], lorry["here"], lorry["regions"]) == (True, False, [])
    assert car["p_value"] < 0.05 < lorry["p_value"]
    assert car["regions"][0]["box"] == {
        "frame": "ego", "center_m": [-4.0, -4.0, 0.0], "size_m": [4.0, 4.0, 2.0], "yaw_rad": 0.0
    }  # fmt: skip
    # a quarter turn to the left: ego (-4, -4) lies at (4, -4) from the pose
    assert car["regions"][0]["global_box"]["center_m"] == [1004.0, 1996.0, 3.0]
    assert len(car["regions"][0]["voxels"]) == 32


def test_csv(findings, tmp_path):
    rows = list(csv.DictReader(write_hits(tmp_path / "hits.csv", findings).read_text().splitlines()))
    assert [row["here"] for row in rows][-1] == "False"
    assert (rows[-1]["query"], rows[-1]["rank"], rows[-1]["x_m"], rows[-1]["global_yaw_rad"]) == ("lorry", "", "", "")
    first = rows[0]
    assert (first["query"], first["frame"], first["voxels"]) == ('automobile, "sports car"', "ego", "32")
    assert [float(first[k]) for k in ("x_m", "y_m", "length_m", "global_x_m")] == [-4.0, -4.0, 4.0, 1004.0]


def test_ply(findings, tmp_path):
    text = write_hits(tmp_path / "hits.ply", findings).read_text()
    head, _, body = text.partition("end_header\n")
    counts = {line.split()[1]: int(line.split()[2]) for line in head.splitlines() if line.startswith("element")}
    lines = body.splitlines()
    assert len(lines) == counts["vertex"] + counts["edge"]
    num_regions = len(findings.regions[0])
    assert counts["edge"] == 12 * num_regions
    assert counts["vertex"] == sum(len(region) for region in findings.regions[0]) + 8 * num_regions
    vertices = torch.tensor([[float(v) for v in line.split()[:3]] for line in lines[: counts["vertex"]]])
    edges = torch.tensor([[int(v) for v in line.split()[:2]] for line in lines[counts["vertex"] :]])
    length = (vertices[edges[:12, 0]] - vertices[edges[:12, 1]]).norm(dim=-1)
    assert sorted(length.tolist()) == pytest.approx([2.0] * 4 + [4.0] * 8)


def test_geojson(findings, tmp_path):
    known = json.loads(write_hits(tmp_path / "hits.geojson", findings).read_text())
    assert known["lexivox"]["not_here"] == ["lorry"]
    ring = known["features"][0]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    assert {tuple(corner[:2]) for corner in ring} == {(1002, 1994), (1006, 1994), (1006, 1998), (1002, 1998)}


def test_boxes_turn_with_the_pose():
    box = global_box(Box((2.0, 0.0, 1.0), (4.0, 2.0, 1.5), 0.3, "ego"), POSE)
    assert box.center == pytest.approx((1000.0, 2002.0, 4.0))
    assert (box.size_m, box.frame) == ((4.0, 2.0, 1.5), "global")
    assert box.yaw_rad == pytest.approx(0.3 + math.pi / 2)


def test_what_cannot_be_written(findings, tmp_path):
    with pytest.raises(
        ConfigError, match=r"must end with \.json, \.csv, \.ply, \.geojson; got 'hits\.xls'\. Rename it"
    ):
        write_hits(tmp_path / "hits.xls", findings)
    with pytest.raises(ConfigError, match="got a keyframe without a pose"):
        write_hits(tmp_path / "hits.geojson", find("frame1", findings.answers))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a file of hits must be writable"):
        write_hits(tmp_path / "file" / "hits.json", findings)
    with pytest.raises(ConfigError, match="hits must be told which voxels count"):
        find("frame1", [asker().ask(parse_phrase("car"), 0.05)])


@pytest.mark.parametrize("ending", ["json", "csv", "ply"])
def test_no_answers_and_no_pose(findings, tmp_path, ending):
    assert write_hits(tmp_path / f"a.{ending}", find("frame1", [])).stat().st_size > 0
    assert write_hits(tmp_path / f"b.{ending}", find("frame1", findings.answers)).stat().st_size > 0
