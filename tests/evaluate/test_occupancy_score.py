from __future__ import annotations

import numpy as np
import pytest
import torch

from lexivox.data.classes import NUSCENES16, NUSCENES_RAW, PANDASET9
from lexivox.data.types import FREE, IGNORED, OCCUPIED
from lexivox.errors import ConfigError, ShapeError
from lexivox.evaluate.occupancy import OccupancyScore, class_agnostic_target, label_volume


def volume(*labels: int) -> torch.Tensor:
    return torch.tensor(labels, dtype=torch.uint8).reshape(1, 1, -1)


def test_known_values_on_six_voxels():
    # road, car, free, free, noise (occupied, no class), unseen
    semantic = volume(1, 5, 10, 10, 255, 255)
    occupancy = volume(OCCUPIED, OCCUPIED, FREE, FREE, OCCUPIED, IGNORED)
    prediction = volume(1, 1, 10, 5, 10, 1)
    score = OccupancyScore(PANDASET9)
    score.update(prediction, semantic, occupancy)
    values = score.compute().values
    # road: TP 1, FP 1 (on the car). car: FN 1, FP 1 (in the air). free: TP 1, FN 1; the noise is not asked.
    assert values["miou_present"] == pytest.approx((1 / 2 + 0 + 1 / 2) / 3)
    assert values["miou_present_occupied"] == pytest.approx((1 / 2 + 0) / 2)
    assert values["miou"] == pytest.approx((1 / 2 + 0 + 1 / 2 + 7) / 10)  # seven classes are never true
    # occupied: TP 2, FP 1, FN 1 (the noise). free: TP 1, FP 1, FN 1.
    assert values["iou_occupied"] == pytest.approx(2 / 4)
    assert values["iou_free"] == pytest.approx(1 / 3)
    assert values["miou_2class"] == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert values["precision_occupied"] == pytest.approx(2 / 3)
    assert values["recall_occupied"] == pytest.approx(2 / 3)


def test_ignored_voxels_change_nothing():
    semantic, occupancy = volume(1, 10, 255), volume(OCCUPIED, FREE, IGNORED)
    scores = []
    for label in (1, 5, 10):
        score = OccupancyScore(PANDASET9)
        score.update(volume(1, 10, label), semantic, occupancy)
        scores.append(score.compute())
    assert scores[0] == scores[1] == scores[2]
    assert scores[0].values["miou_present"] == 1.0


def test_agnostic_target_restores_noise_as_occupied():
    target = class_agnostic_target(volume(17, 4, 255, 255), volume(0, 0, 1, 0).bool(), free=17)
    assert target.flatten().tolist() == [FREE, OCCUPIED, OCCUPIED, IGNORED]
    assert target.dtype == torch.uint8


def test_label_volume_fills_in_index_order():
    occupied = torch.tensor([[[True, False], [False, True]]])
    assert label_volume(occupied, torch.tensor([4, 11]), 17).tolist() == [[[4, 17], [17, 11]]]


def test_protocol_names_the_rays_and_refuses_to_mix():
    exact, sampled = OccupancyScore(NUSCENES16), OccupancyScore(NUSCENES16, rays="sampled100")
    assert exact.compute().protocol == "pop3d-occupancy/exact"
    with pytest.raises(ShapeError, match="occupancy/exact nuscenes16 and pop3d-occupancy/sampled100"):
        exact.merge(sampled)
    with pytest.raises(ShapeError, match="pandaset9"):
        exact.merge(OccupancyScore(PANDASET9))
    with pytest.raises(ConfigError, match="must include free; got nuscenes_raw"):
        OccupancyScore(NUSCENES_RAW)


def test_golden_counts_and_scores_of_pop3d(golden):
    case = np.load(golden / "pop3d_eval_metrics.npz")
    score = OccupancyScore(NUSCENES16, rays="sampled100")
    for frame in ("f12", "f15", "f19"):
        occupied = torch.from_numpy(case[f"{frame}/occ_logits_f16"].astype(np.float32)).argmax(0) == 1
        assert occupied.nonzero().tolist() == case[f"{frame}/occupied_voxels"].tolist()
        assigned = torch.from_numpy(case[f"{frame}/assigned_class_of_occupied_voxels"]).long()
        semantic = torch.from_numpy(case[f"{frame}/eval_target"])
        is_noise = torch.from_numpy(case[f"{frame}/clamped_class_target"]) == 0
        target = class_agnostic_target(semantic, is_noise, free=17)
        score.update(label_volume(occupied, assigned, 17), semantic, target)

    def published(name: str, metric: str = "voxels_16plus1"):
        return case[f"metric/{metric}/{name}"]

    kept = published("classes").tolist()
    assert kept == [*NUSCENES16.evaluated, NUSCENES16.free]
    assert score.semantic.targets[kept].tolist() == published("seen").tolist()
    assert score.semantic.correct[kept].tolist() == published("correct").tolist()
    assert score.semantic.predictions[kept].tolist() == published("predicted").tolist()
    assert score.agnostic.targets.tolist() == published("seen", "voxels_class_agnostic").tolist()
    assert score.agnostic.correct.tolist() == published("correct", "voxels_class_agnostic").tolist()
    assert score.agnostic.predictions.tolist() == published("predicted", "voxels_class_agnostic").tolist()
    values = score.compute().values
    percent = 100 * score.semantic.iou()[kept].nan_to_num(nan=1.0)
    assert percent.tolist() == pytest.approx(published("iou_percent").tolist(), abs=1e-4)
    assert 100 * values["miou"] == pytest.approx(float(published("mean_percent")), abs=1e-4)
    agnostic = published("iou_percent", "voxels_class_agnostic").tolist()
    assert [100 * values["iou_free"], 100 * values["iou_occupied"]] == pytest.approx(agnostic, abs=1e-4)
    mean = float(published("mean_percent", "voxels_class_agnostic"))
    assert 100 * values["miou_2class"] == pytest.approx(mean, abs=1e-4)
