"""Annotations on disk: adding, changing, removing, and what a crash leaves."""

from __future__ import annotations

import pytest
import torch

from lexivox.annotate.keyframe import Keyframe
from lexivox.annotate.store import AnnotationStore
from lexivox.data.retrieval import RetrievalAnnotation, read_retrieval
from lexivox.errors import DataError


def contents(store: AnnotationStore) -> list[tuple[str, str, str, list[int]]]:
    return [(a.token, a.split, a.query, a.mask.nonzero()[:, 0].tolist()) for a in store.read()]


def annotation(token: str, query: str, rows: list[int], split: str = "val", points: int = 16) -> RetrievalAnnotation:
    mask = torch.zeros(points, dtype=torch.bool)
    mask[rows] = True
    return RetrievalAnnotation(token, split, query, mask, torch.arange(4))


def test_an_empty_folder_holds_none(tmp_path):
    assert AnnotationStore(tmp_path / "new").read() == ()


def test_what_is_put_is_read_back_by_the_benchmark(tmp_path, keyframe: Keyframe):
    store = AnnotationStore(tmp_path)
    made = keyframe.annotation("fire hydrant", "test", torch.tensor([1, 2]))
    store.put(made)
    (read,) = read_retrieval(tmp_path, "eval")
    assert (read.token, read.split, read.query) == ("k0", "test", "fire hydrant")
    assert torch.equal(read.mask, made.mask)
    assert torch.equal(read.matching, made.matching)


def test_putting_again_changes_and_moves_to_the_end(tmp_path):
    store = AnnotationStore(tmp_path)
    for made in (annotation("a", "x", [1]), annotation("a", "y", [2]), annotation("b", "x", [3])):
        store.put(made)
    store.put(annotation("a", "x", [4, 5]))
    assert contents(store) == [("a", "val", "y", [2]), ("b", "val", "x", [3]), ("a", "val", "x", [4, 5])]
    store.put(annotation("b", "z", [6]), replaces="x")  # the words were changed
    assert contents(store)[1:] == [("a", "val", "x", [4, 5]), ("b", "val", "z", [6])]


def test_a_keyframe_has_one_split(tmp_path):
    store = AnnotationStore(tmp_path)
    store.put(annotation("a", "x", [1], "train"))
    store.put(annotation("a", "y", [2], "test"))
    assert [(a.query, a.split) for a in store.read()] == [("x", "test"), ("y", "test")]
    assert read_retrieval(tmp_path, "train") == ()


def test_removing(tmp_path):
    store = AnnotationStore(tmp_path)
    store.put(annotation("a", "x", [1]))
    store.put(annotation("a", "y", [2]))
    store.remove("a", "x")
    assert contents(store) == [("a", "val", "y", [2])]
    with pytest.raises(DataError, match="annotation to remove must exist; got keyframe a, query 'x'"):
        store.remove("a", "x")
    store.remove("a", "y")
    assert contents(store) == []


def test_two_people_in_one_folder_lose_nothing(tmp_path):
    one, two = AnnotationStore(tmp_path), AnnotationStore(tmp_path)
    one.put(annotation("a", "x", [1]))
    two.put(annotation("b", "y", [2]))
    one.put(annotation("c", "z", [3]))
    assert [a.token for a in two.read()] == ["a", "b", "c"]


def test_saving_one_more_leaves_the_other_files_alone(tmp_path):
    store = AnnotationStore(tmp_path)
    store.put(annotation("a", "x", [1]))
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*.npy")}
    store.put(annotation("b", "y", [2]))
    assert {path: path.stat().st_ino for path in before} == before
    assert len(list(tmp_path.rglob("*.npy"))) == 4


def test_a_sweep_of_another_length_is_refused(tmp_path):
    store = AnnotationStore(tmp_path)
    store.put(annotation("a", "x", [1]))
    with pytest.raises(DataError, match="keyframe a must be of one sweep; got 20 points, 16 before"):
        store.put(annotation("a", "y", [1], points=20))


@pytest.mark.parametrize("broken_at", range(1, 8))
def test_a_crash_while_saving_keeps_what_was_saved(tmp_path, monkeypatch, broken_at):
    """Whichever file is the last that is written, earlier annotations are whole; the new one is there or not."""
    store = AnnotationStore(tmp_path)
    store.put(annotation("a", "x", [1]))
    import lexivox.data.retrieval as files

    write, count = files.write_atomically, 0

    def dies(*arguments):
        nonlocal count
        count += 1
        if count == broken_at:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(files, "write_atomically", dies)
    with pytest.raises(KeyboardInterrupt):
        store.put(annotation("b", "y", [2, 3]))
    monkeypatch.undo()
    assert contents(store)[0] == ("a", "val", "x", [1])
    assert contents(store)[1:] in ([], [("b", "val", "y", [2, 3])])
