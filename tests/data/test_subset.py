"""Every n-th keyframe in order of time, and the record of which ones they were."""

from __future__ import annotations

import hashlib
import pickle

import pytest

from lexivox.data.datasets.nuscenes import NuscenesDataset
from lexivox.data.subset import every_nth, token_record
from lexivox.data.synthetic import DriveSpec, write_nuscenes
from lexivox.errors import ConfigError
from lexivox.geometry.grid import VoxelGrid

GRID = VoxelGrid((-24.0, -24.0, -2.0), (4.0, 4.0, 2.0), (12, 12, 4), "ego")


def test_order_is_by_time_and_ties_by_token():
    # In order of time: d (1), b and c (2, by token), a (9), e (10). Every second: d, c, e.
    assert every_nth([9, 2, 2, 1, 10], list("abcde"), 2) == [2, 3, 4]
    assert every_nth([9, 2, 2, 1, 10], list("acbde"), 2) == [1, 3, 4]  # now "b" is the third keyframe
    assert every_nth([9, 2, 2, 1, 10], list("abcde"), 1) == [0, 1, 2, 3, 4]
    assert every_nth([9, 2, 2, 1, 10], list("abcde"), 99) == [3]
    assert every_nth([], [], 2) == []


def test_the_record_tells_runs_with_other_keyframes_apart():
    record = token_record(["b", "a"])
    assert record == {"count": 2, "sha256": hashlib.sha256(b"a\nb").hexdigest(), "tokens": ["b", "a"]}
    assert token_record(["a", "b"])["sha256"] == record["sha256"]
    assert token_record(["a", "c"])["sha256"] != record["sha256"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp("city")
    return write_nuscenes(out, [DriveSpec(7, 3, "train"), DriveSpec(8, 2, "train")], image_hw=(32, 48), grid=GRID)


def test_the_reader_keeps_every_nth(root):
    everything = NuscenesDataset(root, "train")
    times = [sample.timestamp_ns for sample in everything]
    half = NuscenesDataset(root, "train", every=2)
    in_order = sorted(range(len(times)), key=lambda i: (times[i], everything.tokens[i]))
    assert set(half.tokens) == {everything.tokens[i] for i in in_order[::2]}
    assert [half[i].token for i in range(len(half))] == list(half.tokens)
    assert pickle.loads(pickle.dumps(half)).tokens == half.tokens
    with pytest.raises(ConfigError, match="every of nuscenes must be at least 1; got 0"):
        NuscenesDataset(root, "train", every=0)
