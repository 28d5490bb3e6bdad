"""``lexivox annotate`` from a script, on a small synthetic city."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexivox import cli
from lexivox.data.datasets import kind_of, open_dataset
from lexivox.data.retrieval import read_retrieval
from lexivox.data.synthetic import DriveSpec, write_nuscenes
from lexivox.errors import DataError


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    return write_nuscenes(tmp_path_factory.mktemp("city"), [DriveSpec(7, 1)], image_hw=(60, 108), num_azimuths=360)


def run(capsys, *words: object) -> tuple[int, str]:
    status = cli.main(["annotate", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_a_box_from_a_script(city, tmp_path, capsys):
    token = open_dataset("nuscenes", city).tokens[0]
    base = [city, "--out", tmp_path, "--sample", token, "--camera", "CAM_FRONT"]
    status, said = run(capsys, *base, "--box", "0,30,108,60", "--query", "road", "--split", "train", "--keep-all")
    assert status == 0
    kept = re.match(r"road: (\d+) of the \1 points in the mask \(the box itself\)\nsaved in .*, split train;", said)
    assert kept, said
    Image.fromarray(np.full((60, 108), 255, dtype=np.uint8)).save(tmp_path / "all.png")
    status, said = run(capsys, *base, "--mask", tmp_path / "all.png", "--query", "everything", "--split", "train")
    assert (status, "(all.png)" in said) == (0, True)
    road, everything = read_retrieval(tmp_path, "train")
    assert (road.query, int(road.mask.sum())) == ("road", int(kept[1]))
    assert everything.query == "everything"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--box", "1,2,3"], "box must be four numbers x0,y0,x1,y1; got '1,2,3'."),
        (["--query", "x"], "--query must come with --sample; got none. Leave it out to open the page."),
        (["--sample", "x", "--query", "y"], "--sample must come with --camera and --query; got less. Give both."),
        (["--sample", "x", "--query", "y", "--camera", "z"], "--sample must come with --box or --mask, not both"),
        (["--sample", "x", "--query", "y", "--camera", "z", "--box", "1,2,3,4"], "keyframe must be one of the 1 of"),
        (["--segmenter", "/nowhere"], "model folder must hold config.json"),
        (["--port", "99999"], "address of the page must be free and on this machine"),
        (["--kind", "x"], "kind of a data set must be one of nuscenes, pandaset, "),
    ],
)
def test_what_cannot_work_is_one_clear_line(city, tmp_path, capsys, words, message):
    status, said = run(capsys, city, "--out", tmp_path, *words)
    assert status == 1
    assert message in said


def test_the_page_is_served(city, tmp_path, capsys, monkeypatch):
    from lexivox.view.local import LocalServer

    def interrupted(self: LocalServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalServer, "serve_forever", interrupted)
    status, said = run(capsys, city, "--out", tmp_path)
    assert status == 0
    assert "1 keyframes; a box becomes a mask by: the box itself\nopen http://127.0.0.1:" in said


def test_kinds_are_told_by_their_folders(city, tmp_path):
    assert kind_of(city) == "nuscenes"
    (tmp_path / "002" / "lidar").mkdir(parents=True)
    assert kind_of(tmp_path) == kind_of(tmp_path / "002") == "pandaset"
    (tmp_path / "kitti" / "sequences" / "00" / "velodyne").mkdir(parents=True)
    assert kind_of(tmp_path / "kitti") == "semantickitti"
    with pytest.raises(DataError, match=r"must look like one of nuscenes, pandaset, .*; got another"):
        kind_of(tmp_path / "002" / "lidar")
