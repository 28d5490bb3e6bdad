"""Scores of points against literal twins of the official tools, on hundreds of random and odd scans."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from reference.official_points import (
    Panoptic,
    eigen_depth,
    guo_ece,
    kitti_lidarseg,
    nuscenes_lidarseg,
    pop3d_iou,
)

from lexivox.data.benchmark_classes import NUSCENES16_POINTS, SEMANTICKITTI
from lexivox.data.classes import NUSCENES16
from lexivox.data.types import FREE, IGNORED, OCCUPIED
from lexivox.evaluate.calibration import CalibrationScore
from lexivox.evaluate.depth import DepthScore
from lexivox.evaluate.lidar import LidarScore
from lexivox.evaluate.lidarseg import LidarsegScore
from lexivox.evaluate.occupancy import OccupancyScore
from lexivox.evaluate.panoptic import PanopticScore, Segments

TABLES = {"kitti": (SEMANTICKITTI, 50), "nuscenes": (NUSCENES16_POINTS, 15)}


def same(ours, theirs, tolerance=1e-12):
    assert ours == pytest.approx(float(theirs), abs=tolerance)


def scan(rng, classes, official_ids):
    """Blobs of a class and an object; said with moved borders, split, merged, void, taken over. Ids may be 0, and the
    same in several classes."""
    blobs = rng.integers(1, 12)
    sizes = rng.choice([1, 5, 14, 15, 16, 30, 49, 50, 51, 120], blobs)
    blob = np.repeat(np.arange(blobs), sizes)
    some = rng.choice(classes, rng.integers(1, 6))
    true, true_id = rng.choice(some, blobs)[blob], rng.integers(0, 4, blobs)[blob]
    said, said_id = true.copy(), true_id.copy()
    for _ in range(rng.integers(0, 6)):
        part = slice(*np.sort(rng.integers(0, len(blob) + 1, 2)))
        kind = rng.integers(0, 4)
        if kind == 0:
            said[part] = rng.choice([*some, 0])
        elif kind == 1:
            said_id[part] = rng.integers(0, 5)
        elif kind == 2:
            said[part], said_id[part] = np.roll(said, 7)[part], np.roll(said_id, 7)[part]
        else:
            true[part] = 0
    if official_ids:  # the whole label is the id
        true_id, said_id = true_id << 16 | true, said_id << 16 | said
    return said, said_id, true, true_id


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("seed", range(60))
def test_panoptic(seed, name):
    table, min_points = TABLES[name]
    rng = np.random.default_rng(seed)
    novel = list(rng.choice(table.evaluated_names, 3, replace=False))
    ours = PanopticScore(table, min_points=min_points, groups={"novel": novel})
    theirs = Panoptic(table.num_classes, [table.ignore], min_points)
    for _ in range(rng.integers(1, 4)):
        parts = scan(rng, table.num_classes, official_ids=bool(seed % 2))
        theirs.add(*parts)
        ours.update(Segments.of(*parts[:2]), Segments.of(*parts[2:]))
    kept = list(theirs.include)
    for row, counts in enumerate((theirs.tp, theirs.fp, theirs.fn)):
        assert ours.counts[row, kept].tolist() == counts[kept].tolist()
    wanted, values = theirs.scores(), ours.compute().values
    for metric, numbers in wanted.items():
        np.testing.assert_allclose(ours.per_class()[metric][kept].numpy(), numbers[kept], atol=1e-11, rtol=0)
    things, stuff = (sorted(part) for part in (table.things, set(kept) - table.things))
    members = {"": kept, "_things": things, "_stuff": stuff, "_novel": [table.index_of(c) for c in novel]}
    for suffix, chosen in members.items():
        for metric in ("pq", "sq", "rq"):
            same(values[f"{metric}{suffix}"], wanted[metric][chosen].mean(), 1e-11)
    same(values["miou"], wanted["iou"][kept].mean())
    same(values["pq_dagger"], np.mean([*wanted["pq"][things], *wanted["iou"][stuff]]), 1e-11)


@pytest.mark.parametrize("shared", [49, 50, 51])
def test_a_segment_that_matches_half(shared):
    """Of 100 points a segment of 100 says ``shared``: IoU at 50 of 100 + 0 false is exactly one half, and no match."""
    true, said = np.ones(100, int), np.where(np.arange(100) < shared, 1, 2)
    ours, theirs = PanopticScore(SEMANTICKITTI, min_points=1), Panoptic(20, [0], 1)
    theirs.add(said, said * 0, true, true * 0)
    ours.update(Segments.of(said, said * 0), Segments.of(true, true * 0))
    assert (
        ours.counts[:, 1].tolist() == [theirs.tp[1], theirs.fp[1], theirs.fn[1]] == ([0, 1, 1], [1, 0, 0])[shared > 50]
    )


@pytest.mark.parametrize("seed", range(30))
def test_lidarseg(seed):
    rng = np.random.default_rng(seed)
    kitti, nuscenes = LidarsegScore(SEMANTICKITTI, absent_is_zero=True), LidarsegScore(NUSCENES16_POINTS)
    scans = [scan(rng, 17, official_ids=False)[::2] for _ in range(rng.integers(1, 4))]
    for said, true in scans:
        kitti.update(said, true)
    miou, iou, accuracy = kitti_lidarseg(scans)
    same(kitti.compute().values["miou"], miou)
    same(kitti.compute().values["accuracy"], accuracy)
    assert list(kitti.compute().per_class["iou"].values()) == pytest.approx(iou[1:].tolist(), abs=1e-12)
    named = [(np.where(said == 0, 1, said), true) for said, true in scans]  # the tool takes 1 to 16 only
    for said, true in named:
        nuscenes.update(said, true)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mean of nothing
        miou, iou = nuscenes_lidarseg(named)
    numbers = nuscenes.compute()
    for name, wanted in zip(NUSCENES16_POINTS.names[1:], iou[1:], strict=True):
        assert np.isnan(wanted) if (got := numbers.per_class["iou"][name]) is None else got == pytest.approx(wanted)
    assert np.isnan(miou) if numbers.values["miou"] is None else numbers.values["miou"] == pytest.approx(miou, abs=1e-7)


@pytest.mark.parametrize("seed", range(30))
def test_pop3d(seed):
    """Voxels: 16 classes and free, 255 ignored; occupied or not, noise occupied. Points: noise ignored, seen twice
    count twice."""
    rng, shape = np.random.default_rng(seed), (6, 5, 4)
    score, points = OccupancyScore(NUSCENES16), LidarScore(NUSCENES16, dup=True)
    voxels, agnostic, seen = [], [], []
    some = rng.choice(np.arange(1, 17), rng.integers(1, 16), replace=False)
    for _ in range(rng.integers(1, 4)):
        true, said = (rng.choice([*some, 17, 17, 17], shape) for _ in range(2))
        noise, unseen = rng.random(shape) < 0.1, rng.random(shape) < rng.choice([0.2, 1.1])
        semantic = np.where(noise | unseen, 255, true)
        occupancy = np.where(true == 17, FREE, OCCUPIED)
        occupancy = np.where(noise, OCCUPIED, occupancy)
        occupancy = np.where(unseen & ~noise, IGNORED, occupancy).astype(np.uint8)
        score.update(said, semantic, occupancy)
        voxels.append((said.ravel(), semantic.ravel()))
        agnostic.append(((said != 17).astype(int).ravel(), occupancy.ravel()))
        label, guess, visible = rng.integers(0, 17, 50), rng.choice(some, 50), rng.integers(0, 50, rng.integers(0, 90))
        points.update(guess, label, torch.from_numpy(visible))
        seen.append((guess[visible], label[visible]))
    values = score.compute().values
    if score.semantic.counts.any():
        iou, mean = pop3d_iou(voxels, range(1, 18), 255)
        same(values["miou"], mean)
        present = score.semantic.targets[1:] > 0
        assert score.semantic.iou()[1:][present].tolist() == pytest.approx(np.array(iou)[present.numpy()].tolist())
        (free, occupied), mean = pop3d_iou(agnostic, (FREE, OCCUPIED), IGNORED)
        assert [values["iou_free"], values["iou_occupied"], values["miou_2class"]] == pytest.approx(
            [free, occupied, mean]
        )
    if points.total:
        same(points.compute().values["miou"], pop3d_iou(seen, range(1, 17), 0)[1])


@pytest.mark.parametrize("seed", range(20))
def test_depth(seed):
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.0, 100.0, (12, 20)).astype(np.float32)
    true[rng.random(true.shape) < 0.5] = 0.0
    said = (true * rng.lognormal(0.0, 0.3, true.shape)).astype(np.float32) + (true == 0)
    said[0, :3], true[0, :3] = (0.0, 500.0, 1.25), (0.1, 80.0, 1.0)  # clamped below, above; a ratio at the threshold
    score = DepthScore(0.1, 80.0)
    score.update(said, true)
    wanted = eigen_depth(said, true, np.float32(0.1), 80.0)
    assert {name: score.compute().values[name] for name in wanted} == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize("seed", range(20))
def test_calibration(seed):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(seed)
    confidence = [rng.random(500), rng.choice(np.arange(1, 16) / 15, 500), 1.0 - 10.0 ** -rng.uniform(0.5, 6, 500)][
        seed % 3
    ]
    right = rng.random(500) < confidence * rng.choice([0.3, 0.9])
    score = CalibrationScore("test")
    score.update(confidence, right)
    values = score.compute().values
    same(values["ece"], guo_ece(confidence, right), 1e-10)
    same(values["accuracy"], right.mean())
    if 0 < right.sum() < len(right):
        same(values["auroc"], metrics.roc_auc_score(right, confidence), 1e-4)
    order = np.argsort(-confidence, kind="stable")
    last = np.append(np.diff(confidence[order]) != 0, True)  # ties are given together
    risk = (np.cumsum(~right[order]) / np.arange(1, 501))[last]
    for limit in (0.05, 0.1, 0.2):
        allowed = (np.arange(1, 501)[last] / 500)[risk <= limit]
        same(values[f"coverage_at_{100 * limit:g}"], allowed.max() if len(allowed) else 0.0, 5e-3)
