"""Panoptic quality: the official tools' numbers, the worked example of the spec, and laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference.panoptic import panoptic_counts

from lexivox.data.benchmark_classes import SEMANTICKITTI, SEMANTICKITTI_CODES, SEMANTICKITTI_FROM_RAW
from lexivox.data.classes import NUSCENES16, NUSCENES16_FROM_RAW, ClassTable
from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.panoptic import PanopticScore, Segments

POINTS16 = replace(
    NUSCENES16, name="nuscenes16_points", names=NUSCENES16.names[:17], free=None, palette=NUSCENES16.palette[:17]
)


def table(num_classes, ignore=0, things=()):
    names = tuple(f"c{i}" for i in range(num_classes))
    return ClassTable("test", names, None, ignore, frozenset(things), ((0, 0, 0),) * num_classes)


def cloud(label, segment):
    return Segments(torch.as_tensor(label).long(), torch.as_tensor(segment).long())


def random_cloud(generator, points, classes, ids):
    def draw(high):
        return torch.randint(high, (points,), generator=generator)

    return cloud(draw(classes), draw(ids))


def test_worked_example():
    # Units of 50 points: void, grass (10 points called sky), sky (10 called grass), a dog called a person,
    # three persons of 150, 50, 100 points predicted as two of 200 and 100 (spec ovpanoptic 6.2).
    label = [0] * 50 + [1] * 50 + [2] * 50 + [4] * 50 + [3] * 300
    ids = [0] * 50 + [1] * 50 + [2] * 50 + [9] * 50 + [3] * 150 + [4] * 50 + [5] * 100
    said = [1] * 50 + [1] * 40 + [2] * 10 + [2] * 40 + [1] * 10 + [3] * 50 + [3] * 300
    said_ids = [1] * 50 + [1] * 40 + [2] * 10 + [2] * 40 + [1] * 10 + [8] * 50 + [6] * 200 + [7] * 100
    score = PanopticScore(table(5, things=(3, 4)), min_points=1)
    score.update(cloud(said, said_ids), cloud(label, ids))
    values, per_class = score.compute().values, score.compute().per_class
    assert values["pq"] == pytest.approx(0.4791667, abs=1e-7)
    assert values["sq"] == pytest.approx(0.5520833, abs=1e-7)
    assert values["rq"] == pytest.approx(0.6666667, abs=1e-7)
    assert values["miou"] == pytest.approx(0.5476190, abs=1e-7)
    assert per_class["pq"]["c3"] == pytest.approx(0.5833333, abs=1e-7)
    assert per_class["pq"]["c4"] == 0.0
    # Stuff by IoU, things by PQ: (2/3 + 2/3 + 0.58333 + 0) / 4.
    assert values["pq_dagger"] == pytest.approx((2 * 2 / 3 + 0.5833333) / 4, abs=1e-7)


@pytest.mark.parametrize("case", [0, 1])
def test_official_small_cases(golden, case):
    g = np.load(golden / "panoptic_quality.npz", allow_pickle=False)
    num_classes, min_points = g[f"small{case}/n_classes_min_points"].tolist()
    ignore = g[f"small{case}/ignore"].tolist()
    score = PanopticScore(table(num_classes), min_points=min_points)
    names = ("pred_sem", "pred_inst", "gt_sem", "gt_inst")
    for scan in range(3):
        said, said_ids, truth, truth_ids = (g[f"small{case}/{name}"][scan].astype("int64") for name in names)
        truth[np.isin(truth, ignore)] = 0  # several ignored classes are one void here
        score.update(cloud(said, said_ids), cloud(truth, truth_ids))
    kept = [i for i in range(num_classes) if i not in ignore]
    for row, name in enumerate(("tp", "fp", "fn")):
        assert score.counts[row, kept].tolist() == g[f"small{case}/{name}"][kept].tolist()
    for name in ("pq", "sq", "rq", "iou"):
        found = score.per_class()[name][kept]
        torch.testing.assert_close(found, torch.tensor(g[f"small{case}/{name}"])[kept], atol=1e-9, rtol=0)


def kitti(label):
    raw = torch.tensor((label & 0xFFFF).astype("int64"))
    semantic = SEMANTICKITTI_FROM_RAW.apply(SEMANTICKITTI_CODES.decode(raw))
    return Segments(semantic, torch.tensor(label.astype("int64")))


@pytest.mark.parametrize("min_points", [50, 30])
def test_official_semantickitti(golden, min_points):
    g = np.load(golden / "panoptic_quality.npz", allow_pickle=False)
    score = PanopticScore(SEMANTICKITTI, min_points=min_points)
    for frame in ("000000", "000005"):
        score.update(kitti(g[f"kitti/{frame}/pred_label"]), kitti(g[f"kitti/{frame}/gt_label"]))
    want = {name.split("/")[-1]: g[name] for name in g.files if name.startswith(f"kitti/min_points_{min_points}/")}
    for row, name in enumerate(("tp", "fp", "fn")):
        assert score.counts[row].tolist() == want[name].tolist()
    values = score.compute().values
    ours = {"pq": "pq_mean", "sq": "sq_mean", "rq": "rq_mean", "miou": "iou_mean", "pq_dagger": "pq_dagger"}
    ours |= {f"{m}_{part}": f"{m}_{part}" for m in ("pq", "sq", "rq") for part in ("things", "stuff")}
    for name, theirs in ours.items():
        assert values[name] == pytest.approx(float(want[theirs]), abs=1e-9), name


def test_official_nuscenes(golden):
    g = np.load(golden / "panoptic_quality.npz", allow_pickle=False)
    score = PanopticScore(POINTS16, min_points=15)
    for frame in ("f11", "f17"):
        truth = torch.tensor(g[f"nuscenes/{frame}/gt_panoptic"].astype("int64"))
        said = torch.tensor(g[f"nuscenes/{frame}/pred_panoptic"].astype("int64"))
        score.update(Segments(said // 1000, said), Segments(NUSCENES16_FROM_RAW.apply(truth // 1000), truth))
    for row, name in enumerate(("tp", "fp", "fn")):
        assert score.counts[row].tolist() == g[f"nuscenes/{name}"].tolist()
    values = score.compute().values
    wanted = g["nuscenes/all_PQ_SQ_RQ_mIoU_PQdagger"]
    got = [values[name] for name in ("pq", "sq", "rq", "miou", "pq_dagger")]
    assert got == pytest.approx(wanted.tolist(), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_counts_equal_the_slow_twin(seed):
    generator = torch.Generator().manual_seed(seed)
    said, truth = (random_cloud(generator, 400, 4, 5) for _ in range(2))
    blend = torch.rand(400, generator=generator) < 0.8
    said = Segments(torch.where(blend, truth.label, said.label), torch.where(blend, truth.segment, said.segment))
    score = PanopticScore(table(4), min_points=4)
    score.update(said, truth)
    counts, iou_sum = panoptic_counts(
        said.label.numpy(), said.segment.numpy(), truth.label.numpy(), truth.segment.numpy(), 4, void=0, min_points=4
    )
    assert score.counts.tolist() == counts.tolist()
    assert score.iou_sum.tolist() == pytest.approx(iou_sum.tolist())


def test_large_ids_count_like_small_ones():
    generator = torch.Generator().manual_seed(3)
    said, truth = (random_cloud(generator, 300, 4, 6) for _ in range(2))
    small, large = (PanopticScore(table(4), min_points=2) for _ in range(2))
    small.update(said, truth)
    large.update(Segments(said.label, said.segment << 33), Segments(truth.label, truth.segment << 33))
    assert torch.equal(small.counts, large.counts)
    assert torch.equal(small.iou_sum, large.iou_sum)


def test_merging_equals_counting_in_one_place():
    generator = torch.Generator().manual_seed(1)
    scans = [(random_cloud(generator, 200, 4, 3), random_cloud(generator, 200, 4, 3)) for _ in range(4)]
    whole, one, two = (PanopticScore(table(4), min_points=3) for _ in range(3))
    for number, scan in enumerate(scans):
        whole.update(*scan)
        (one if number % 2 else two).update(*scan)
    merged = one.merge(two)
    assert torch.equal(merged.counts, whole.counts)
    assert merged.compute().values == pytest.approx(whole.compute().values)


def test_a_perfect_prediction_scores_one_where_classes_occur():
    truth = cloud([1, 1, 2, 2, 3], [0, 0, 1, 2, 5])
    score = PanopticScore(table(4), min_points=1)
    score.update(truth, truth)
    assert score.compute().values["pq"] == pytest.approx(1.0)


def test_segments_of_arrays_are_whole_numbers():
    made = Segments.of(np.array([1, 2], dtype=np.uint8), np.array([7, 1 << 31], dtype=np.uint32))
    assert made.segment.tolist() == [7, 1 << 31]
    with pytest.raises(DataError, match=r"classes and segment ids must be whole numbers; got torch.float64"):
        Segments.of(np.array([1.0]), np.array([1]))


def test_visible_points_only():
    truth = cloud([1, 1, 1, 1], [1, 1, 1, 1])
    said = cloud([1, 1, 2, 2], [1, 1, 1, 1])
    score = PanopticScore(table(3), min_points=1)
    score.update(said, truth, visible=torch.tensor([True, True, False, False]))
    assert score.compute().per_class["pq"]["c1"] == 1.0


def test_groups_are_means_over_their_classes():
    truth = cloud([1, 2, 3], [0, 0, 0])
    said = cloud([1, 2, 2], [0, 0, 0])
    score = PanopticScore(table(4), min_points=1, groups={"novel": ["c1", "c3"]})
    score.update(said, truth)
    assert score.compute().values["pq_novel"] == pytest.approx(0.5)


def test_an_empty_scan_counts_as_a_scan():
    empty = cloud([], [])
    score = PanopticScore(table(3), min_points=1)
    score.update(empty, empty)
    assert score.compute().counts == {"samples": 1, "samples_without_anything_counted": 1, "points": 0}
    assert score.compute().values["pq"] == 0.0


def test_unequal_points_and_foreign_classes_are_refused():
    score = PanopticScore(table(3), min_points=1)
    with pytest.raises(
        ShapeError, match=r"prediction and target of s7 must label the same points; got \[1, 2\] points"
    ):
        score.update(cloud([1], [0]), cloud([1, 1], [0, 0]), token="s7")
    with pytest.raises(DataError, match="classes of the prediction of s7 must be 0 to 2"):
        score.update(cloud([7], [0]), cloud([1], [0]), token="s7")
    with pytest.raises(DataError, match="segment ids of the target of s7 must be 0 or above; got -1"):
        score.update(cloud([1], [0]), cloud([1], [-1]), token="s7")
