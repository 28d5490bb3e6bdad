"""POP-3D of bare files: the published numbers from raw points and arrays up; shares; what is wrong with files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lexivox import cli
from lexivox.data.retrieval import RetrievalAnnotation, write_retrieval
from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.files.base import FileOptions
from lexivox.evaluate.files.score import merge_parts, score_files, score_part
from lexivox.evaluate.files.splits import retrieval_tokens
from lexivox.evaluate.part import Part

FRAMES = ("f12", "f15", "f19")


@pytest.fixture(scope="module")
def published(golden, tmp_path_factory):
    """The recorded official predictions and raw points as files."""
    folder = tmp_path_factory.mktemp("pop3d")
    labels, case = (np.load(golden / f"pop3d_eval_{name}.npz", allow_pickle=False) for name in ("labels", "metrics"))
    for name in ("maps", "sweeps", "points", "seen"):
        (folder / name).mkdir()
    for frame in FRAMES:
        volume = np.full((100, 100, 8), 17, np.uint8)
        volume[tuple(case[f"{frame}/occupied_voxels"].T)] = case[f"{frame}/assigned_class_of_occupied_voxels"]
        np.savez(folder / f"maps/{frame}.npz", pred=volume)
        np.savez(folder / f"sweeps/{frame}.npz", **{name: labels[f"{frame}/{name}"] for name in ("xyz", "lidarseg")})
        np.savez(folder / f"points/{frame}.npz", pred=case[f"{frame}/assigned_class_of_points"])
        label, visible = case[f"{frame}/point_labels"], case[f"{frame}/matching_points"]
        np.savez(folder / f"seen/{frame}.npz", label=label, visible=visible)
    return folder, case


def test_published_occupancy(published):
    folder, case = published
    scored = score_files(folder / "maps", folder / "sweeps", "pop3d-occupancy")
    (name, theirs), (other, ours) = scored.rows
    assert (name, theirs.protocol) == ("published", "pop3d-occupancy/sampled100+clamped")
    assert (other, ours.protocol) == ("recommended", "pop3d-occupancy/exact")
    assert 100 * theirs.values["miou"] == pytest.approx(float(case["metric/voxels_16plus1/mean_percent"]), abs=1e-4)
    wanted = case["metric/voxels_class_agnostic/iou_percent"]
    got = [100 * theirs.values[name] for name in ("iou_free", "iou_occupied")]
    assert got == pytest.approx(wanted.tolist(), abs=1e-4)
    assert ours.counts["voxels"] > theirs.counts["voxels"]  # 100 samples miss some that a ray passes


def test_published_point_classes(published):
    folder, case = published
    (_, theirs), (_, ours) = score_files(folder / "points", folder / "seen", "pop3d-lidar").rows
    wanted = float(case["metric/points_16class_visible/mean_percent"])
    assert 100 * theirs.values["miou"] == pytest.approx(wanted, abs=1e-4)
    assert ours.counts["points"] < theirs.counts["points"]  # seen by two cameras, counted once


@pytest.fixture
def retrieval(golden, tmp_path):
    """Recorded rankings as a benchmark: two phrases of one keyframe, one of each other."""
    case = np.load(golden / "pop3d_eval_metrics.npz", allow_pickle=False)
    asked = [
        ("k0", "val", "excavator", 0),
        ("k1", "test", "dog", 2),
        ("k2", "train", "vase", 3),
        ("k0", "val", "dog", 1),
    ]
    first = torch.from_numpy(case["ap0/visible_index"])
    rows = [
        RetrievalAnnotation(
            token, split, query, torch.from_numpy(case[f"ap{n}/labels"]),
            first if token == "k0" else torch.from_numpy(case[f"ap{n}/visible_index"]),
        )
        for token, split, query, n in asked
    ]  # fmt: skip
    write_retrieval(tmp_path / "benchmark", rows)
    (tmp_path / "said").mkdir()
    scores = [case[f"ap{n}/scores"] for n in range(4)]
    np.savez(tmp_path / "said/k0.npz", excavator=scores[0], dog=scores[1])
    np.save(tmp_path / "said/k1.npy", scores[2])
    np.savez(tmp_path / "said/k2.npz", scores=scores[3])
    return tmp_path, case


def test_published_average_precision(retrieval):
    folder, case = retrieval
    scored = score_files(folder / "said", folder / "benchmark", "pop3d-retrieval")
    values, per_class = scored.rows[0][1].values, scored.rows[0][1].per_class
    assert scored.rows[0][1].protocol == "pop3d-retrieval/given/all"
    precisions = [float(case[f"ap{n}/ap"]) for n in range(4)]
    assert values["map"] == pytest.approx(sum(precisions) / 4, abs=1e-9)
    assert per_class["ap"]["dog"] == pytest.approx((precisions[1] + precisions[2]) / 2, abs=1e-9)
    assert per_class["ap_visible"]["excavator"] == pytest.approx(float(case["ap0/ap_visible"]), abs=1e-9)
    tokens = retrieval_tokens(folder / "benchmark", "eval")
    assert tokens == ["k0", "k1"]
    some = score_files(folder / "said", folder / "benchmark", "pop3d-retrieval", tokens=tokens)
    assert some.rows[0][1].counts == {"samples": 3, "queries": 2, "skipped": 0}


def test_retrieval_by_the_command_line(retrieval, capsys):
    folder, case = retrieval
    words = ["--predictions", str(folder / "said"), "--labels", str(folder / "benchmark")]
    assert cli.main(["evaluate", *words, "--protocol", "pop3d-retrieval", "--split", "test", "--per-class"]) == 0
    out = capsys.readouterr().out
    assert "pop3d-retrieval/given/test" in out
    assert "| 1 of 1 samples |" in out
    content = json.loads((folder / "said/scores.json").read_text())
    assert content["results"][0]["values"]["map"] == pytest.approx(float(case["ap2/ap"]), abs=1e-9)


def test_parts_add_up_to_the_whole(published, retrieval, capsys):
    for said, labels, benchmark in (
        (published[0] / "points", published[0] / "seen", "pop3d-lidar"),
        (retrieval[0] / "said", retrieval[0] / "benchmark", "pop3d-retrieval"),
    ):
        whole = score_files(said, labels, benchmark)
        words = ["evaluate", "--predictions", str(said), "--labels", str(labels), "--protocol", benchmark]
        assert cli.main([*words, "--part", "1/2"]) == 0
        assert cli.main([*words, "--merge"]) == 1
        assert f"parts of {benchmark} must be complete; got 1/2. Score the missing ones" in capsys.readouterr().err
        assert cli.main([*words, "--part", "2/2"]) == 0
        assert cli.main([*words, "--merge"]) == 0
        assert capsys.readouterr().out.count(f"#{whole.label_hash[1:]}") == len(whole.rows)
        merged = merge_parts(said, labels, benchmark)
        assert merged.label_hash == whole.label_hash
        assert [scores.values for _, scores in merged.rows] == [scores.values for _, scores in whole.rows]
        assert [scores.counts for _, scores in merged.rows] == [scores.counts for _, scores in whole.rows]
        if benchmark == "pop3d-lidar":
            with pytest.raises(DataError, match="must be of these files and options; got 2 of others, first 1/2"):
                merge_parts(said, labels, benchmark, tokens=["f12", "f15"])
            score_part(said, labels, benchmark, Part(1, 3))
            with pytest.raises(DataError, match=r"must be complete; got 1/2, 1/3, 2/2\. Score the missing"):
                merge_parts(said, labels, benchmark)
            (said / f"parts/{benchmark}-1-of-3.json").write_text("{}")
            with pytest.raises(DataError, match="a part must be lexivox-file-part-1; got KeyError"):
                merge_parts(said, labels, benchmark)


XYZ, LABEL = np.ones((4, 3), np.float32), np.array([4, 4, 0, 11])
FREE = np.full((100, 100, 8), 17, np.uint8)
SEEN = {"label": LABEL, "visible": np.arange(4)}
SWEEP = {"xyz": XYZ, "label": LABEL}
BAD = {
    "no class": ("pop3d-occupancy", {"pred": FREE * 0}, SWEEP, DataError, "where 17 is free; got 0 to 0"),
    "shape": ("pop3d-occupancy", {"pred": FREE[:50]}, SWEEP, ShapeError, r"\(100, 100, 8\); got \(50, 100, 8\)"),
    "no points": ("pop3d-occupancy", {"pred": FREE}, SEEN, DataError, "must hold an array xyz; got none"),
    "nan": ("pop3d-occupancy", {"pred": FREE}, {**SWEEP, "xyz": XYZ * np.nan}, ShapeError, "xyz of t must be finite"),
    "rows": ("pop3d-occupancy", {"pred": FREE}, {**SWEEP, "xyz": XYZ[:3]}, ShapeError, "a row for each label; got"),
    "no label": ("pop3d-occupancy", {"pred": FREE}, {"xyz": XYZ}, DataError, "hold label or lidarseg; got xyz"),
    "raw": ("pop3d-lidar", {"pred": LABEL}, {**SEEN, "label": LABEL + 20}, DataError, "must be 0 to 16; got 20 to 31"),
    "number": ("pop3d-lidar", {"pred": LABEL[:3]}, SEEN, ShapeError, "a label each; got 3 and 4"),
    "said": ("pop3d-lidar", {"pred": LABEL / 2}, SEEN, DataError, "a whole number for each point; got float64"),
    "visible": ("pop3d-lidar", {"pred": LABEL}, {**SEEN, "visible": np.array([4])}, DataError, "of its 4 points"),
    "arrays": ("pop3d-lidar", {"a": LABEL, "b": LABEL}, SEEN, DataError, "must hold an array pred; got a, b"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_wrong_files_are_named(fault, tmp_path):
    benchmark, said, label, error, words = BAD[fault]
    for name, arrays in (("said", said), ("label", label)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / f"{name}/t.npz", **arrays)
    with pytest.raises(error, match=words) as refusal:
        score_files(tmp_path / "said", tmp_path / "label", benchmark)
    assert "t" in str(refusal.value)


def test_wrong_rankings_are_named(retrieval):
    folder, _ = retrieval
    for arrays, error, words in (
        ({"excavator": np.zeros(5000)}, DataError, "prediction of k0 must hold scores for 'dog'; got excavator"),
        (
            {"excavator": np.zeros(3), "dog": np.zeros(3)},
            ShapeError,
            "points of k0 must have a score each, 5000; got 3",
        ),
        (
            {"excavator": np.full(5000, np.nan), "dog": np.zeros(5000)},
            DataError,
            "scores of k0 must be numbers; got NaN",
        ),
        (
            {"excavator": np.zeros(5000, int), "dog": np.zeros(5000)},
            DataError,
            "scores of k0 must be a real number for",
        ),
    ):
        np.savez(folder / "said/k0.npz", **arrays)
        with pytest.raises(error, match=words):
            score_files(folder / "said", folder / "benchmark", "pop3d-retrieval", options=FileOptions())
