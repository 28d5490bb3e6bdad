from __future__ import annotations

import numpy as np
import pytest
import torch

from lexivox.data.classes import NUSCENES16
from lexivox.errors import ShapeError
from lexivox.evaluate.lidar import LidarScore


def test_a_point_seen_twice_counts_once_unless_asked():
    prediction, label = torch.tensor([4, 11, 11, 4]), torch.tensor([4, 4, 11, 11])
    visible = torch.tensor([0, 0, 1, 2])  # point 0 is in two cameras, point 3 in none
    unique, dup = LidarScore(NUSCENES16), LidarScore(NUSCENES16, dup=True)
    for score in (unique, dup):
        score.update(prediction, label, visible)
    assert unique.compute().counts == {"samples": 1, "points": 3}
    assert unique.compute().per_class["iou"]["car"] == pytest.approx(1 / 2)  # TP 1, FN 1
    assert dup.compute().per_class["iou"]["car"] == pytest.approx(2 / 3)  # TP 2, FN 1
    assert unique.compute().protocol == "pop3d-lidar/unique"
    with pytest.raises(ShapeError, match="pop3d-lidar/unique nuscenes16 and pop3d-lidar/dup"):
        unique.merge(dup)


def test_noise_is_not_a_false_positive():
    score = LidarScore(NUSCENES16)
    score.update(torch.tensor([4, 4]), torch.tensor([4, 0]), torch.tensor([0, 1]))
    values = score.compute()
    assert values.per_class["precision"]["car"] == 1.0
    assert values.values["miou_present"] == 1.0
    assert values.per_class["iou"]["bus"] is None
    assert score.merge(score).compute().counts == {"samples": 2, "points": 2}


@pytest.mark.parametrize("metric", ["points_16class", "points_16class_visible"])
def test_golden_counts_and_scores_of_pop3d(golden, metric: str):
    case = np.load(golden / "pop3d_eval_metrics.npz")
    score = LidarScore(NUSCENES16, dup=True)
    for frame in ("f12", "f15", "f19"):
        prediction = torch.from_numpy(case[f"{frame}/assigned_class_of_points"])
        label = torch.from_numpy(case[f"{frame}/point_labels"])
        seen = torch.from_numpy(case[f"{frame}/matching_points"])
        score.update(prediction, label, seen if metric.endswith("visible") else torch.arange(len(label)))
    classes = case[f"metric/{metric}/classes"].tolist()
    assert classes == list(NUSCENES16.evaluated)
    assert score.confusion.targets[classes].tolist() == case[f"metric/{metric}/seen"].tolist()
    assert score.confusion.correct[classes].tolist() == case[f"metric/{metric}/correct"].tolist()
    assert score.confusion.predictions[classes].tolist() == case[f"metric/{metric}/predicted"].tolist()
    mean = float(case[f"metric/{metric}/mean_percent"])
    assert 100 * score.compute().values["miou"] == pytest.approx(mean, abs=1e-4)
