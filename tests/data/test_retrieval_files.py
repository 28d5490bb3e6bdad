"""The retrieval benchmark's files: written, read, laid out as published, and every way they can be wrong."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from lexivox.data.retrieval import RetrievalAnnotation, list_file, read_retrieval, write_retrieval
from lexivox.errors import DataError


def annotation(token: str = "t0", split: str = "val", query: str = "jeep", seed: int = 0) -> RetrievalAnnotation:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(30, generator=generator) < 0.3
    return RetrievalAnnotation(token, split, query, mask, torch.randint(0, 30, (20,), generator=generator))


def same(one: RetrievalAnnotation, other: RetrievalAnnotation) -> bool:
    named = (one.token, one.split, one.query) == (other.token, other.split, other.query)
    return named and torch.equal(one.mask, other.mask) and torch.equal(one.matching, other.matching)


@pytest.fixture
def folder(tmp_path):
    parts = ("train", "val", "val", "test")
    write_retrieval(tmp_path, [annotation(f"t{i}", part, f"query {i}", i) for i, part in enumerate(parts)])
    return tmp_path


def test_what_is_written_is_read(folder):
    read = read_retrieval(folder, "all")
    assert [a.token for a in read] == ["t0", "t1", "t2", "t3"]
    assert all(same(a, annotation(a.token, a.split, a.query, i)) for i, a in enumerate(read))
    tokens = {split: [a.token for a in read_retrieval(folder, split)] for split in ("train", "val", "test", "eval")}
    assert tokens == {"train": ["t0"], "val": ["t1", "t2"], "test": ["t3"], "eval": ["t1", "t2", "t3"]}


def test_the_layout_is_the_published_one(folder):
    """No header, semicolons, forward slashes, bool per point, integers with duplicates."""
    expected = "t1;val;annotations/t1__retrieval.npy;matching_points/t1__points.npy;query 1"
    assert (folder / "retrieval_anns_eval.csv").read_text().splitlines()[0] == expected
    mask = np.load(folder / "annotations" / "t1__retrieval.npy", allow_pickle=False)
    points = np.load(folder / "matching_points" / "t1__points.npy", allow_pickle=False)
    assert (mask.dtype, mask.shape) == (np.bool_, (30,))
    assert (points.dtype, points.shape) == (np.int64, (20,))
    assert sorted(path.name for path in folder.glob("*.csv")) == [
        f"retrieval_anns_{split}.csv" for split in ("all", "eval", "test", "train", "val")
    ]


def test_the_106_published_queries_pass_through(realdata, tmp_path):
    """One row of the list has no annotation in the release: 105 remain, of 106 rows with 76 different phrases."""
    with open(realdata / "pop3d_retrieval" / "queries.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    queries = [row["query"] for row in rows]
    assert (len(queries), len(set(queries))) == (106, 76)
    boston = sum(row["logfile"].startswith("n008") for row in rows)
    assert (boston, len(rows) - boston) == (68, 38)
    parts = ["train"] * 42 + ["val"] * 27 + ["test"] * 37
    given = [
        annotation(f"{row['image_file_stem']}", part, row["query"], number)
        for number, (row, part) in enumerate(zip(rows, parts, strict=True))
    ]
    write_retrieval(tmp_path, given[:-1])
    read = read_retrieval(tmp_path, "all")
    assert [a.query for a in read] == queries[:-1]
    assert all(same(a, b) for a, b in zip(read, given[:-1], strict=True))
    assert len(read_retrieval(tmp_path, "eval")) == 63


def test_a_second_query_of_a_keyframe_keeps_both_masks(tmp_path):
    first, second = annotation(), replace(annotation(query="white SUV"), mask=~annotation().mask)
    write_retrieval(tmp_path, [first, second])
    write_retrieval(tmp_path, [*read_retrieval(tmp_path, "all"), annotation("t1")])  # adding is reading and writing
    read = read_retrieval(tmp_path, "all")
    assert [same(a, b) for a, b in zip(read, (first, second, annotation("t1")), strict=True)] == [True] * 3


def test_lists_made_in_another_folder_and_numbers_for_bools(folder):
    path = list_file(folder, "val")
    path.write_text(path.read_text().replace("annotations/", "/data/benchmark/annotations/").replace("\n", "\r\n"))
    np.save(folder / "annotations" / "t1__retrieval.npy", annotation(seed=1).mask.numpy().astype(np.uint8))
    read = read_retrieval(folder, "val")
    assert same(read[0], annotation("t1", "val", "query 1", 1))


def test_missing_files_are_counted_and_named(folder):
    (folder / "annotations" / "t1__retrieval.npy").unlink()
    (folder / "matching_points" / "t3__points.npy").unlink()
    with pytest.raises(DataError, match=r"got 2 missing of 6\. .*t1__retrieval.npy, .*t3__points.npy"):
        read_retrieval(folder, "eval")
    list_file(folder, "eval").unlink()
    with pytest.raises(DataError, match=r"must hold its lists; got none\. Check the folder: .*anns_eval.csv"):
        read_retrieval(folder)
    with pytest.raises(DataError, match="must be one of train, val, test, eval, all; got 'mini'"):
        read_retrieval(folder, "mini")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (np.full(30, 2), "mask of an annotation must hold 0 and 1; got int64"),
        (np.zeros((3, 2), bool), r"must hold one row; got \(3, 2\)"),
        (np.array(["x"], dtype=object), "must be a plain .npy; got Object arrays cannot be loaded"),
        (b"", "must be a plain .npy"),
        (b"PK damaged", "must be a plain .npy"),
    ],
)
def test_damaged_masks_are_named(folder, content, line):
    path = folder / "annotations" / "t1__retrieval.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content, allow_pickle=True)
    with pytest.raises(DataError, match=f"{line}.*t1__retrieval.npy"):
        read_retrieval(folder, "val")


def test_damaged_points_and_lists_are_named(folder):
    np.save(folder / "matching_points" / "t1__points.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"matching points of an annotation must be integers; got float64.*t1__points"):
        read_retrieval(folder, "val")
    list_file(folder, "val").write_text("t1;val;annotations/t1__retrieval.npy;jeep\n")
    with pytest.raises(DataError, match=r"row 1 of a retrieval list must hold .*; got 4 fields.*anns_val.csv"):
        read_retrieval(folder, "val")
    list_file(folder, "val").write_bytes(b"\xff\xfe\x00;")
    with pytest.raises(DataError, match="must be text"):
        read_retrieval(folder, "val")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"split": "mini"}, "split of annotation t0 must be one of train, val, test; got 'mini'"),
        ({"query": "  "}, "query of annotation t0 must be one line without semicolons; got '  '"),
        ({"query": "a; b"}, "without semicolons; got 'a; b'"),
        ({"query": "a\nb"}, "must be one line"),
        ({"token": "a/b"}, "token of an annotation must be a file name without semicolons; got 'a/b'"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(change, line):
    with pytest.raises(DataError, match=line):
        replace(annotation(), **change)


def test_what_contradicts_itself_is_not_written(tmp_path):
    with pytest.raises(DataError, match="queries of keyframe t0 must differ; got 'jeep' twice"):
        write_retrieval(tmp_path, [annotation(), annotation()])
    wrong = replace(annotation(), matching=torch.tensor([0, 30]))
    with pytest.raises(DataError, match=r"matching points of t0 must be points of its mask, below 30; got 0\.\.30"):
        write_retrieval(tmp_path, [wrong])
    with pytest.raises(DataError, match="annotations of keyframe t0 must share split and matching points"):
        write_retrieval(tmp_path, [annotation(), annotation(split="test", query="van")])
    assert list(tmp_path.iterdir()) == []
