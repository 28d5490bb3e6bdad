"""``lexivox labels``: files that read back, a second run that goes on, wrong words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lexivox.cli import main

GRID = "--grid=-25.6,-25.6,-1.6,0.8,64,64,8"


@pytest.fixture
def arguments(realdata, tmp_path):
    data = str(realdata / "pandaset")
    options = ["--labels", "semseg", "--boxes", "--before", "0", "--after", "0", "--out", str(tmp_path)]
    return ["labels", "pandaset", data, "--sample", "002-45", GRID, *options]


def test_labels_are_written_once(arguments, tmp_path, capsys):
    assert main(arguments) == 0
    assert "labels of 1 keyframes" in capsys.readouterr().out
    folder = tmp_path / "002/002-45"
    with np.load(folder / "labels.npz", allow_pickle=False) as file:
        assert file["semantics"].shape == (64, 64, 8)
        assert 0.1 < file["mask_lidar"].mean() < 0.9
        assert not (file["mask_camera"] & ~file["mask_lidar"] & 1).any()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["sweeps"] == ["002-45"]
    made_ns = (folder / "labels.npz").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (folder / "labels.npz").stat().st_mtime_ns == made_ns
    assert main([*arguments, "--close"]) == 0
    assert (folder / "labels.npz").stat().st_mtime_ns > made_ns


def test_wrong_words(arguments, capsys):
    assert main([*arguments, "--sample", "002-99"]) == 1
    assert "--sample must be a keyframe of the recording, such as 002-00; got 002-99" in capsys.readouterr().err
    assert main([*arguments, "--grid", "1,2"]) == 1
    assert "--grid must be seven numbers X,Y,Z,SIZE,NX,NY,NZ; got '1,2'" in capsys.readouterr().err
    assert main([*arguments, "--before", "-2"]) == 1
    assert "before of a label policy must be at least 0; got -2" in capsys.readouterr().err


def test_the_doctor_reads_labels_too(arguments, tmp_path, realdata, capsys):
    assert main(arguments) == 0
    capsys.readouterr()
    data = [
        "pandaset",
        str(realdata / "pandaset"),
        "--labels",
        "semseg",
        "--samples",
        "1",
        "--out",
        str(tmp_path / "d"),
    ]
    assert main(["doctor", *data, "--occupancy", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "volumes of 1 of 12 keyframes, 1 read" in said
    assert "axes, frame and origin of the volume fit the sweep" in said
    assert "of the labelled points lie in a voxel of their class" in said

    path = tmp_path / "002/002-45/labels.npz"
    with np.load(path) as file:
        planted = {name: file[name].transpose(1, 0, 2) for name in file.files}
    np.savez(path, **planted)
    assert main(["doctor", *data, "--occupancy", str(tmp_path)]) == 1
    assert "transpose it with (1, 0, 2)" in capsys.readouterr().out
    assert main(["doctor", *data, "--occupancy", str(tmp_path / "d")]) == 1
    assert "volumes must be in files such as 002-00/labels.npz; got none of 12" in capsys.readouterr().err
    path.write_bytes(b"no zip")
    assert main(["doctor", *data, "--occupancy", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "not usable as it is: unreadable" in said
    assert "labels.npz" in said
