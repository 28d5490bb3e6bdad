"""Dense volumes: the official numbers of Occ3D and SemanticKITTI, and what goes wrong with users' files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lexivox.data.benchmark_classes import (
    OCC3D,
    SEMANTICKITTI_CODES,
    SEMANTICKITTI_FROM_RAW,
    SEMANTICKITTI_VOXELS,
)
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.dense import (
    OPENOCCUPANCY_PROTOCOL,
    SEMANTICKITTI_PROTOCOL,
    DenseScore,
    occ3d_protocol,
    surface_distance_scores,
)

FREE = OCC3D.free


@pytest.fixture(scope="module")
def occ3d_case(golden, realdata):
    g = np.load(golden / "occ3d_miou.npz", allow_pickle=False)
    (path,) = (realdata / "occ3d_nuscenes_label").glob("*/labels.npz")
    label = np.load(path, allow_pickle=False)
    names = ("semantics", "mask_lidar", "mask_camera")
    first = [torch.from_numpy(label[name]) for name in names]
    return g, [first, [volume.flip(0) for volume in first]]


@pytest.mark.parametrize("mask", ["none", "lidar", "camera"])
def test_official_occ3d_miou(occ3d_case, mask):
    g, samples = occ3d_case
    score = DenseScore(occ3d_protocol(mask))
    for number, (semantics, lidar, camera) in enumerate(samples):
        counted = {"none": None, "lidar": lidar.bool(), "camera": camera.bool()}[mask]
        score.update(torch.from_numpy(g[f"pred{number}"]), semantics, counted)
    assert np.array_equal(score.confusion.counts[:, :-1].numpy(), g[f"{mask}/confusion"])
    result = score.compute()
    assert result.values["miou"] == pytest.approx(float(g[f"{mask}/miou"]), abs=1e-12)
    wanted = g[f"{mask}/iou"]
    for number, name in enumerate(OCC3D.names):
        got = result.per_class["iou"][name]
        assert (got is None and np.isnan(wanted[number])) or got == pytest.approx(wanted[number], abs=1e-12)
    assert result.protocol == f"occ3d/{mask}"


@pytest.mark.parametrize("mask", ["none", "lidar", "camera"])
def test_official_occ3d_f_score(occ3d_case, mask):
    g, samples = occ3d_case
    for number, (semantics, lidar, camera) in enumerate(samples):
        counted = {"none": torch.ones_like(lidar).bool(), "lidar": lidar.bool(), "camera": camera.bool()}[mask]
        said, truth = torch.from_numpy(g[f"pred{number}"]) != FREE, semantics != FREE
        got = surface_distance_scores(said & counted, truth & counted)
        assert got == pytest.approx(g[f"{mask}/fscore_sample{number}"].tolist(), abs=1e-6)


def test_official_semantickitti_scene_completion(golden):
    g = np.load(golden / "semantickitti_ssc_metric.npz", allow_pickle=False)
    score = DenseScore(SEMANTICKITTI_PROTOCOL)
    for frame in ("000000", "000005"):
        truth, said = (volume_of(g, frame, side) for side in ("gt", "pred"))
        invalid = torch.from_numpy(np.unpackbits(g[f"{frame}/invalid_packed"])).reshape(256, 256, 32).bool()
        score.update(said.clamp_max(19), torch.where(invalid, SEMANTICKITTI_VOXELS.ignore, truth))
    assert np.array_equal(score.confusion.counts[:, :-1].numpy().T, g["confusion_pred_rows_gt_cols"])
    result = score.compute()
    assert result.values["iou_occupied"] == pytest.approx(float(g["iou_completion"]), abs=1e-9)
    assert result.values["miou"] == pytest.approx(float(g["iou_mean"]), abs=1e-9)
    assert 100 * result.values["precision_occupied"] == pytest.approx(float(g["precision_percent_printed"]), abs=0.01)
    assert 100 * result.values["recall_occupied"] == pytest.approx(float(g["recall_percent_printed"]), abs=0.01)


def volume_of(g, frame, side):
    raw = torch.zeros(256, 256, 32, dtype=torch.int64)
    index = torch.from_numpy(g[f"{frame}/{side}_index"].astype("int64"))
    raw[tuple(index.T)] = torch.from_numpy(g[f"{frame}/{side}_raw_label"].astype("int64"))
    label = SEMANTICKITTI_FROM_RAW.apply(SEMANTICKITTI_CODES.decode(raw))
    # A raw class without a number (outlier, other structure) is ignored; an unlabelled voxel is free.
    return torch.where((label == 0) & (raw != 0), SEMANTICKITTI_VOXELS.ignore, label)


def small(*classes):
    return torch.tensor(classes).reshape(-1, 1, 1)


def test_hand_computed():
    # others, car, free; car missed once, free called car once.
    truth, said = small(0, 4, 4, 17, 17), small(0, 4, 17, 4, 17)
    score = DenseScore(occ3d_protocol("none"))
    score.update(said, truth)
    values = score.compute().values
    assert values["miou"] == pytest.approx((1.0 + 1 / 3) / 2)
    assert values["miou_15"] == pytest.approx(1 / 3)
    assert values["iou_occupied"] == pytest.approx(2 / 4)
    assert values["precision_occupied"] == pytest.approx(2 / 3)
    assert values["recall_occupied"] == pytest.approx(2 / 3)


def test_a_class_that_is_predicted_but_never_true_scores_zero():
    score = DenseScore(occ3d_protocol("none"))
    score.update(small(4, 5), small(4, 4))
    assert score.compute().per_class["iou"]["construction_vehicle"] == 0.0
    assert score.compute().per_class["iou"]["bus"] is None


def test_masked_voxels_do_not_count():
    truth, said = small(4, 4), small(4, 5)
    score = DenseScore(occ3d_protocol("camera"))
    score.update(said, truth, torch.tensor([True, False]).reshape(2, 1, 1))
    assert score.compute().values["miou"] == 1.0


def test_merging_equals_counting_in_one_place():
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randint(0, 18, (2, 4, 4, 4), generator=generator) for _ in range(4)]
    whole, one, two = (DenseScore(occ3d_protocol("none")) for _ in range(3))
    for number, (said, truth) in enumerate(pairs):
        whole.update(said, truth)
        (one if number % 2 else two).update(said, truth)
    assert one.merge(two).compute() == whole.compute()
    with pytest.raises(ShapeError, match="merged scores must follow one protocol; got occ3d/none and occ3d/camera"):
        whole.merge(DenseScore(occ3d_protocol("camera")))


def test_a_sample_without_counted_voxels_is_named_in_the_counts():
    score = DenseScore(OPENOCCUPANCY_PROTOCOL)
    score.update(small(1), small(255))
    assert score.compute().counts == {"samples": 1, "samples_without_anything_counted": 1, "voxels": 0}
    assert score.compute().values["miou"] is None


def test_bad_input_names_the_sample():
    score = DenseScore(occ3d_protocol("none"))
    with pytest.raises(ShapeError, match=r"prediction, label and mask of s7 must have one shape"):
        score.update(small(1, 2), small(1), token="s7")
    with pytest.raises(DataError, match=r"classes of the prediction of s7 must be 0 to 17.*got \[18\]"):
        score.update(small(18), small(1), token="s7")
    with pytest.raises(DataError, match=r"the prediction of s7 must hold whole class numbers; got torch.float32"):
        score.update(small(1.0), small(1), token="s7")
    with pytest.raises(DataError, match=r"classes of the label of s7 must be 0 to 17.*got \[-1\]"):
        score.update(small(1), small(-1), token="s7")
    with pytest.raises(ConfigError, match="mask of Occ3D must be one of none, lidar, camera, both"):
        occ3d_protocol("visible")
