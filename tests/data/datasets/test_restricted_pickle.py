"""The pickle reader gives the numbers of a table and refuses everything that acts."""

from __future__ import annotations

import gzip
import os
import pickle

import numpy as np
import pytest

from lexivox.data.datasets import restricted_pickle
from lexivox.data.datasets.restricted_pickle import read_frame
from lexivox.errors import DataError


def _write(path, content: bytes):
    path.write_bytes(gzip.compress(content))
    return path


class _Shell:
    def __reduce__(self):
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_shell_command_is_refused_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    path = _write(tmp_path / "x.pkl.gz", pickle.dumps(_Shell(), protocol=protocol))
    with pytest.raises(DataError, match=r"file of cloud must hold a plain table; got: .*asks to call \w+\.system"):
        read_frame(path, ["x"], "cloud")
    assert not (tmp_path / "hacked").exists()


HOSTILE = {
    "eval": b"cbuiltins\neval\n(S'1+1'\ntR.",
    "getattr": b"cbuiltins\ngetattr\n.",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x12dtype.__init_subclass__\x93.",
    "load": b"cnumpy\nload\n.",
    "changes a class": b"cnumpy\nndarray\n(N}S'__setstate__'\ncbuiltins\nslice\nstb.",
    "changes a dtype": b"cnumpy\ndtype\n(S'M8'\ntR.",
    "persistent": b"Pfile\n.",
    "extension": b"\x82\x01.",
    "not a table": b"(lp0\n.",
    "empty": b"",
    "noise": bytes(range(256)),
    "huge count": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_and_damaged_pickles_are_one_line(tmp_path, kind):
    path = _write(tmp_path / "x.pkl.gz", HOSTILE[kind])
    with pytest.raises(DataError, match=r"^file of cloud must hold a plain table; got: ") as caught:
        read_frame(path, ["x"], "cloud")
    assert "\n" not in str(caught.value)


def test_files_that_are_not_whole(tmp_path, realdata, monkeypatch):
    source = realdata / "pandaset/002/annotations/cuboids/00.pkl.gz"
    path = tmp_path / "x.pkl.gz"
    with pytest.raises(DataError, match="file of boxes must exist; got none"):
        read_frame(path, ["yaw"], "boxes")
    path.write_bytes(source.read_bytes()[:2000])
    with pytest.raises(DataError, match="file of boxes must be whole; got: "):
        read_frame(path, ["yaw"], "boxes")
    path.write_bytes(b"plain text")
    with pytest.raises(DataError, match="file of boxes must be whole; got: "):
        read_frame(path, ["yaw"], "boxes")
    with pytest.raises(DataError, match="table of boxes must have the columns speed; got attributes"):
        read_frame(source, ["yaw", "speed"], "boxes")
    monkeypatch.setattr(restricted_pickle, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="file of boxes must unpack to at most 100 bytes"):
        read_frame(source, ["yaw"], "boxes")


def test_a_real_table(realdata):
    folder = realdata / "pandaset/002"
    cloud = read_frame(folder / "lidar/00.pkl.gz", ["x", "d"], "cloud")
    assert cloud["x"].shape == (166768,)
    assert cloud["x"].dtype == np.float64
    assert set(np.unique(cloud["d"])) == {0, 1}
    boxes = read_frame(folder / "annotations/cuboids/00.pkl.gz", ["uuid", "yaw", "stationary"], "boxes")
    assert boxes["uuid"][0] == "e83d78e4-5b11-4ad5-ac71-917b5cd19c94"
    assert boxes["stationary"].dtype == bool
