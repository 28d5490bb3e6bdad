"""Films: one picture for each keyframe, files that play, and what cannot be written."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_rendered import camera, scene_of, wall

from lexivox.errors import ConfigError
from lexivox.view.video import drive_frames, write_video


@pytest.fixture(scope="module")
def frames():
    """A wall that comes nearer."""
    scenes = [scene_of(wall(x, range(12, 20)), images=[camera()]) for x in (28, 24, 20)]
    return drive_frames([replace(scene, title=f"second {n}") for n, scene in enumerate(scenes)], width_px=240)


def test_pictures_have_one_even_size_and_differ(frames):
    assert len({frame.shape for frame in frames}) == 1
    height, width, _ = frames[0].shape
    assert width == 240
    assert height % 2 == 0
    assert (frames[0] != frames[1]).any()
    red = [int((frame[..., 0] > frame[..., 1].astype(int) + 80).sum()) for frame in frames]
    assert red[0] < red[1] < red[2]


@pytest.mark.parametrize("ending", ["webp", "gif", "png"])
def test_films_play(frames, tmp_path, ending):
    path = write_video(frames, tmp_path / f"drive.{ending}", frame_s=0.5)
    with Image.open(path) as film:
        assert film.n_frames == 3
        for number, frame in enumerate(frames):
            film.seek(number)
            shown = np.asarray(film.convert("RGB"))
            assert film.info["duration"] == 500
            assert shown.shape == frame.shape
            assert np.abs(shown.astype(int) - frame).mean() < (0.01 if ending == "png" else 6.0)
    assert path.stat().st_size < 100_000


def test_mp4_goes_through_ffmpeg(frames, tmp_path, monkeypatch):
    """The program gets every pixel and is told the size and the rate; what it writes is the film."""
    tool = tmp_path / "ffmpeg"
    tool.write_text('#!/bin/sh\nfor last; do :; done\n{ echo "$@"; wc -c; } > "$last"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    told, size = write_video(frames, tmp_path / "drive.mp4").read_text().splitlines()
    height, width, _ = frames[0].shape
    assert f"-s {width}x{height} -r 2 " in told
    assert int(size) == 3 * frames[0].size


def test_what_cannot_be_written_is_told(frames, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"a film must end in \.webp, \.gif, \.png or \.mp4; got 'drive\.avi'"):
        write_video(frames, tmp_path / "drive.avi")
    with pytest.raises(ConfigError, match="a film must show at least one keyframe; got none"):
        drive_frames([])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"ffmpeg must be installed to write \.mp4; got none\. Write \.webp instead"):
        write_video(frames, tmp_path / "drive.mp4")
