"""Classes of points: hand-computed, absent classes in two ways, real clouds through files."""

from __future__ import annotations

import pytest
import torch

from lexivox.data.benchmark_classes import NOVEL_CLASSES, NUSCENES16_POINTS, NUSCENES16_POINTS_FROM_RAW, SEMANTICKITTI
from lexivox.data.classes import NUSCENES_RAW
from lexivox.data.point_formats import read_nuscenes_lidarseg, write_nuscenes_lidarseg
from lexivox.evaluate.files.points import novel_groups
from lexivox.evaluate.files.score import score_files
from lexivox.evaluate.lidarseg import LidarsegScore

CAR, BUS, TRUCK = (NUSCENES16_POINTS.index_of(name) for name in ("car", "bus", "truck"))


def test_hand_computed():
    # Two cars, one called bus; a bus called noise; noise called car, which does not count.
    label = torch.tensor([CAR, CAR, BUS, 0])
    said = torch.tensor([CAR, BUS, 0, CAR])
    score = LidarsegScore(NUSCENES16_POINTS)
    score.update(said, label)
    # Car: 1 of 2. Bus: 0 of (1 missed + 1 false). Nothing else occurs.
    assert score.compute().values == {"miou": 0.25, "accuracy": pytest.approx(1 / 3)}
    assert score.compute().per_class["iou"]["truck"] is None
    official = LidarsegScore(NUSCENES16_POINTS, absent_is_zero=True)
    official.update(said, label)
    assert official.compute().values["miou"] == pytest.approx(0.5 / 16)


def test_real_clouds_through_files(realdata, tmp_path):
    for number in (0, 4):
        source = realdata / f"nuscenes_lidarseg/{number:02d}_lidarseg.bin"
        raw = read_nuscenes_lidarseg(source, NUSCENES_RAW)
        write_nuscenes_lidarseg(tmp_path / f"labels/{number}_lidarseg.bin", raw)
        said = NUSCENES16_POINTS_FROM_RAW.apply(raw)
        said[said == CAR] = TRUCK
        write_nuscenes_lidarseg(tmp_path / f"said/lidarseg/val/{number}_lidarseg.bin", said)
    scores = score_files(tmp_path / "said", tmp_path / "labels", "lidarseg-nuscenes").rows[0][1]
    assert scores.per_class["iou"]["car"] == 0.0
    assert scores.per_class["iou"]["vegetation"] == 1.0
    assert scores.counts["samples"] == 2


@pytest.mark.parametrize("name", NOVEL_CLASSES)
def test_named_splits_are_of_their_tables(name):
    table = {"nuscenes": NUSCENES16_POINTS, "semantickitti": SEMANTICKITTI}[name.split("-")[0]]
    groups = novel_groups(table, NOVEL_CLASSES[name])
    assert [len(groups["base"]), len(groups["novel"])] == [int(part) for part in name.split("-")[1:]]
