"""The column cache: same columns, invalidated by a change, harmless when it cannot be written."""

from __future__ import annotations

import logging
import os
from dataclasses import fields

import numpy as np
import pytest

from lexivox.data.datasets import json_stream, nuscenes_index, nuscenes_tables
from lexivox.data.datasets.nuscenes import NuscenesDataset
from lexivox.data.datasets.nuscenes_tables import open_tables
from lexivox.errors import DataError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(nuscenes_tables, "MIN_CACHED_BYTES", 0)
    monkeypatch.setenv("LEXIVOX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _same(first, second) -> bool:
    return all(
        np.array_equal(getattr(first, f.name), getattr(second, f.name), equal_nan=f.name == "box_velocity")
        for f in fields(first)
    )


def test_the_second_opening_maps_the_same_columns(tiny, cache, monkeypatch):
    folder = tiny / "v1.0-tiny"
    built = nuscenes_index.build_tables(folder)
    assert _same(built, open_tables(folder))
    monkeypatch.setattr(nuscenes_index, "build_tables", None)  # must not be called again
    mapped = open_tables(folder)
    assert _same(built, mapped)
    assert isinstance(mapped.pose, np.memmap)
    assert len(NuscenesDataset(tiny, labels="lidarseg", boxes=True)[2].boxes.track) == 1


def test_a_changed_table_makes_a_new_cache_and_removes_the_old(tiny, cache, edit):
    folder = tiny / "v1.0-tiny"
    open_tables(folder)
    edit("scene", lambda rows: [{**row, "name": row["name"] + "b"} for row in rows])
    assert open_tables(folder).scene_name.tolist() == [b"scene-0b", b"scene-1b"]
    assert len(list(cache.rglob("pose.npy"))) == 1


def test_an_unreadable_cache_is_built_anew(tiny, cache, caplog):
    folder = tiny / "v1.0-tiny"
    open_tables(folder)
    next(cache.rglob("pose.npy")).write_bytes(b"damage")
    with caplog.at_level(logging.WARNING):
        assert len(open_tables(folder).pose) == 24
    assert "the table cache cannot be read and is built anew" in caplog.text


def test_an_unwritable_cache_is_said_and_survived(tiny, cache, caplog):
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert len(open_tables(tiny / "v1.0-tiny").pose) == 24
    assert "the table cache cannot be written" in caplog.text
    assert set(os.listdir(cache.parent)) == {"cache", "root"}


def test_small_tables_are_not_cached(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXIVOX_CACHE", str(tmp_path / "cache"))
    open_tables(tiny / "v1.0-tiny")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
def test_streaming_in_pieces_of_any_size(tmp_path, monkeypatch, size):
    monkeypatch.setattr(json_stream, "CHUNK_CHARACTERS", size)
    path = tmp_path / "t.json"
    path.write_text(' [ {"a": "x]y, {z}\\" ü"} ,\n{"a": [1.5, [2]]},{"a": {"b": null}}\n]\n', encoding="utf-8")
    expected = [{"a": 'x]y, {z}" ü'}, {"a": [1.5, [2]]}, {"a": {"b": None}}]
    assert list(json_stream.stream_table(path)) == expected
    path.write_text("[]")
    assert list(json_stream.stream_table(path)) == []


@pytest.mark.parametrize("text", ['[{"a": 1}', '[{"a": ', "", "[{'a'}]"])
def test_a_cut_table_is_refused(tmp_path, text):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(DataError, match="table t must be a JSON array of records; got"):
        list(json_stream.stream_table(path))


def test_velocities_stay_unknown_over_long_gaps():
    track = np.array([0, 0, 0, 1, 1, 2])
    time_s = np.array([0.0, 0.5, 1.0, 0.0, 2.0, 0.0])
    xy = np.array([[0, 0], [1, 0], [4, 0], [0, 0], [9, 9], [5, 5]], dtype=float)
    velocity = nuscenes_index._velocity(track, time_s, xy)
    # one-sided 1 / 0.5, centred 4 / 1, one-sided 3 / 0.5; a gap of 2 s and a single box tell nothing
    assert velocity[:3, 0].tolist() == [2.0, 4.0, 6.0]
    assert np.isnan(velocity[3:]).all()
    assert nuscenes_index._velocity(track[:0], time_s[:0], xy[:0]).shape == (0, 2)
