"""RayPQ: hand-computed rays, the slow twin, what the published tool does with objects, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.panoptic import ray_panoptic_counts

from lexivox.data.benchmark_classes import OCC3D, SEMANTICKITTI
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.rayiou import THRESHOLDS_M
from lexivox.evaluate.raypq import PanopticVolume, RayPqScore
from lexivox.geometry.grid import VoxelGrid

CORRIDOR = VoxelGrid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (12, 4, 1), "ego")
FORWARD = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
ORIGINS = torch.tensor([[0.5, y + 0.5, 0.5] for y in range(4)])
CAR, ROAD = OCC3D.index_of("car"), OCC3D.index_of("driveable_surface")
CONE = OCC3D.index_of("traffic_cone")


def corridors(*ends):
    """Four rays along x; each meets (place, class, object) or nothing."""
    label = torch.full(CORRIDOR.shape, OCC3D.free, dtype=torch.uint8)
    instance = torch.zeros(CORRIDOR.shape, dtype=torch.int32)
    for y, end in enumerate(ends):
        if end is not None:
            label[end[0], y, 0], instance[end[0], y, 0] = end[1], end[2]
    return PanopticVolume(label, instance)


def scored(said, true, min_rays=1):
    score = RayPqScore(OCC3D, CORRIDOR, FORWARD, min_rays=min_rays)
    score.update(said, true, ORIGINS)
    return score


def test_hand_computed():
    # Truth: a car of three rays, road on the fourth. Said: the same car, but one of its rays 3 m too far, and road.
    true = corridors((5, CAR, 1), (5, CAR, 1), (5, CAR, 1), (8, ROAD, 0))
    score = scored(corridors((5, CAR, 7), (5, CAR, 7), (8, CAR, 7), (8, ROAD, 3)), true)
    # Within 1 and 2 m two rays are shared: IoU 2 / (3 + 3 - 2) = 0.5, no match. Within 4 m three: IoU 1.
    assert score.counts[:, :, CAR].tolist() == [[0, 0, 1], [1, 1, 0], [1, 1, 0]]
    assert score.counts[:, :, ROAD].tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    values = score.compute().values
    assert [values[f"raypq_{t}m"] for t in (1, 2, 4)] == [0.5, 0.5, 1.0]
    assert values["raypq"] == pytest.approx((0 + 1 + 0 + 1 + 1 + 1) / 6)
    assert score.compute().counts == {"samples": 1, "rays": 4}


def test_two_objects_said_as_one_are_missed():
    true = corridors((5, CAR, 1), (5, CAR, 2), (5, CAR, 2), (5, CAR, 2))
    score = scored(corridors(*[(5, CAR, 4)] * 4), true)
    # The said car shares 3 of 4 rays with the second: IoU 3/4; the first is missed.
    assert score.counts[:, 0, CAR].tolist() == [1, 0, 1]
    assert score.per_class()["pq"][0, CAR] == pytest.approx(0.75 / 1.5)
    assert score.per_class()["sq"][0, CAR] == pytest.approx(0.75)
    assert score.per_class()["rq"][0, CAR] == pytest.approx(1 / 1.5)


def test_small_segments_that_are_alone_do_not_count():
    score = scored(corridors((5, ROAD, 0)), corridors((5, CAR, 1)), min_rays=2)
    assert not bool(score.counts.any())
    assert score.compute().values["raypq"] is None


def test_cones_and_stuff_are_one_segment_and_objects_of_two_classes_are_none():
    truck = OCC3D.index_of("truck")
    true = corridors((5, CONE, 1), (5, CONE, 2), (5, CAR, 3), (5, truck, 3))
    score = scored(corridors((5, CONE, 9), (5, CONE, 9), (5, CAR, 1), (5, truck, 1)), true)
    assert score.counts[0, 0, [CONE, CAR, truck]].tolist() == [1, 1, 1]
    assert score.counts[1:].sum() == 0


def test_rays_that_meet_nothing_in_truth_do_not_count_and_free_is_no_segment():
    score = scored(corridors((5, CAR, 1), None), corridors(None, (5, CAR, 1)))
    assert score.compute().counts["rays"] == 1
    assert score.counts[:, 0].sum(1).tolist() == [0, 0, 1]  # missed; the said car is where no truth is


@pytest.mark.parametrize("seed", range(4))
def test_counts_equal_the_slow_twin(seed):
    generator = torch.Generator().manual_seed(seed)
    grid = VoxelGrid((-4.0, -4.0, -1.0), (0.5, 0.5, 0.5), (16, 16, 6), "ego")
    directions = torch.nn.functional.normalize(torch.randn(300, 3, generator=generator).double(), dim=1)
    origins = torch.tensor([[0.1, 0.2, 0.3], [1.1, -0.7, 0.4]])

    def volume(like=None):
        label = torch.randint(0, 6, grid.shape, generator=generator)
        label[torch.rand(grid.shape, generator=generator) < 0.9] = OCC3D.free
        instance = torch.randint(0, 3, grid.shape, generator=generator)
        if like is not None:
            kept = torch.rand(grid.shape, generator=generator) < 0.8
            label, instance = torch.where(kept, like.label, label), torch.where(kept, like.instance, instance)
        return PanopticVolume(label, instance)

    true = volume()
    said = volume(true)
    score = RayPqScore(OCC3D, grid, directions, min_rays=2)
    score.update(said, true, origins)
    rays = score.cast(said.label, true.label, origins, "twin")
    ids = [v.instance.reshape(-1)[hit].numpy() for v, hit in ((said, rays.said_voxel), (true, rays.true_voxel))]
    labels = rays.said_label.numpy(), rays.true_label.numpy()
    things = set(score.is_thing.nonzero()[:, 0].tolist())
    for row, threshold in enumerate(THRESHOLDS_M):
        counts, iou_sum = ray_panoptic_counts(
            labels[0], ids[0], labels[1], ids[1], rays.error_m.numpy(), 18,
            things=things, within_m=threshold, min_rays=2,
        )  # fmt: skip
        counts[:, OCC3D.free] = 0
        assert score.counts[:, row].tolist() == counts.tolist()
        np.testing.assert_allclose(score.iou_sums.values().reshape(3, 18)[row, :17], iou_sum[:17], atol=1e-10)


def test_a_perfect_prediction_scores_one():
    true = corridors((5, CAR, 1), (5, CAR, 2), (6, ROAD, 0), (3, CONE, 1))
    assert scored(true, true).compute().values["raypq"] == 1.0


def test_bad_input_names_the_sample():
    good = corridors((5, CAR, 1))
    score = RayPqScore(OCC3D, CORRIDOR, FORWARD)
    with pytest.raises(ShapeError, match=r"objects of the label of s7 must have the shape of its classes \(12, 4, 1\)"):
        score.update(good, PanopticVolume(good.label, good.instance[:3]), ORIGINS, token="s7")
    with pytest.raises(DataError, match="objects of the prediction of s7 must be whole numbers from 0"):
        score.update(PanopticVolume(good.label, good.instance - 1), good, ORIGINS, token="s7")
    with pytest.raises(ConfigError, match="classes of RayIoU must include free; got semantickitti"):
        RayPqScore(SEMANTICKITTI, CORRIDOR)
