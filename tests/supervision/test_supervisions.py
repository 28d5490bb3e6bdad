"""Supervisions ask heads at the right places and count the right things."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import make_sample

from lexivox.data.collate import collate
from lexivox.data.labels import occupancy_from_lidar
from lexivox.data.types import FREE, IGNORED, OCCUPIED
from lexivox.errors import DataError
from lexivox.fields import CoordinateField
from lexivox.geometry.grid import VoxelGrid
from lexivox.model import Scene
from lexivox.supervision.language import LanguageDistillation
from lexivox.supervision.occupancy import LidarOccupancy
from lexivox.supervision.semantic import LabelledSemantics

GRID = VoxelGrid((-12.0, -12.0, -2.0), (1.0, 1.0, 1.0), (24, 24, 6), "ego")


class Answer(torch.nn.Module):
    """A head that is a plain function of the points."""

    def __init__(self, name, answer):
        super().__init__()
        self.name, self.answer = name, answer

    def forward(self, xyz):
        return self.answer(self.name, xyz)


def scene_of(answer) -> Scene:
    """A scene whose field is the place itself and whose heads answer by a function instead of a network."""
    field = CoordinateField(GRID, 0, 1, torch.device("cpu"))
    return Scene(field, {name: Answer(name, answer) for name in ("occupancy", "language", "semantic")}, 1)


def generator():
    return torch.Generator().manual_seed(0)


def prepared(supervision, count=1):
    return supervision.prepare(collate([make_sample(i) for i in range(count)], GRID), generator())


def test_all_voxels_are_asked_without_a_budget():
    batch = prepared(LidarOccupancy(max_voxels=0), count=2)
    target = batch.targets.occupancy
    assert len(target.label) == 2 * GRID.num_voxels
    volume = occupancy_from_lidar(GRID, batch.lidar_origin[0], batch.lidar.xyz[batch.lidar.batch == 0])
    assert torch.equal(target.label[: GRID.num_voxels], volume.flatten().long())
    torch.testing.assert_close(target.xyz[: GRID.num_voxels], GRID.centers().reshape(-1, 3))


def test_a_budget_keeps_the_share_of_occupied_voxels():
    full = prepared(LidarOccupancy(max_voxels=0)).targets.occupancy.label
    some = prepared(LidarOccupancy(max_voxels=1500)).targets.occupancy.label
    assert len(some) <= 1500

    def share(label):
        return float((label == OCCUPIED).sum() / (label != IGNORED).sum())

    assert share(some) == pytest.approx(share(full), abs=0.05)


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_much():
    supervision = LidarOccupancy(max_voxels=0)
    batch = prepared(supervision)
    truth = batch.targets.occupancy.label

    def answer(head, xyz):
        occupied = (truth == OCCUPIED).float()
        return 20.0 * torch.stack([1 - occupied, occupied], dim=-1)

    good = supervision(scene_of(answer), batch)
    bad = supervision(scene_of(lambda head, xyz: answer(head, xyz).flip(-1)), batch)
    assert sum(good.values()) < 1e-3
    assert bad["occupancy/ce"] > 10


def test_unobserved_space_counts_only_with_its_weight():
    free = torch.tensor([0.0, 5.0]).repeat(GRID.num_voxels, 1)  # says occupied everywhere
    batch = prepared(LidarOccupancy(max_voxels=0))
    off = LidarOccupancy(max_voxels=0, unobserved_weight=0.0)(scene_of(lambda h, x: free), batch)
    on = LidarOccupancy(max_voxels=0, unobserved_weight=0.5)(scene_of(lambda h, x: free), batch)
    assert off["occupancy/unobserved"] == 0
    # cross-entropy of logits (0, 5) towards the first: log(1 + e^5) = 5.0067
    torch.testing.assert_close(on["occupancy/unobserved"], torch.tensor(0.5 * 5.0067153), atol=1e-4, rtol=0)


def test_ignored_voxels_change_no_observed_term():
    supervision = LidarOccupancy(max_voxels=0)
    batch = prepared(supervision)
    label = batch.targets.occupancy.label
    logit = torch.randn(len(label), 2, generator=generator())
    noisy = torch.where((label == IGNORED)[:, None], torch.full_like(logit, 7.0), logit)
    one = supervision(scene_of(lambda h, x: logit), batch)
    two = supervision(scene_of(lambda h, x: noisy), batch)
    for name in ("occupancy/ce", "occupancy/lovasz"):
        torch.testing.assert_close(one[name], two[name])


def test_dense_target_calls_everything_else_free():
    label = prepared(LidarOccupancy(target="dense", max_voxels=0)).targets.occupancy.label
    assert set(label.unique().tolist()) == {FREE, OCCUPIED}


@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_language_loss_vanishes_at_the_teacher(loss):
    supervision = LanguageDistillation(loss=loss)
    batch = prepared(supervision)
    feature = batch.targets.language.feature
    assert supervision(scene_of(lambda h, x: feature), batch)["language"] == pytest.approx(0.0, abs=1e-6)
    assert supervision(scene_of(lambda h, x: -feature), batch)["language"] > 0.1


def test_language_without_features_is_refused():
    batch = collate([replace(make_sample(), point_features=None)], GRID)
    with pytest.raises(DataError, match="must carry teacher features"):
        LanguageDistillation().prepare(batch, generator())


def test_semantic_noise_is_not_learnt():
    supervision = LabelledSemantics(num_classes=18, free_label=17, max_voxels=0, max_points=0)
    batch = prepared(supervision)
    points = batch.targets.semantic_points
    assert 0 not in points.label.unique().tolist()
    terms = supervision(scene_of(lambda h, x: torch.zeros(len(x), 18)), batch)
    # all logits equal: cross-entropy is log 18
    torch.testing.assert_close(terms["semantic/point_ce"], torch.log(torch.tensor(18.0)))


def test_an_empty_cloud_gives_finite_terms():
    sample = make_sample(num_points=4)
    empty = replace(sample.lidar, xyz=sample.lidar.xyz[:0], intensity=sample.lidar.intensity[:0],
                    ring=sample.lidar.ring[:0], batch=sample.lidar.batch[:0])  # fmt: skip
    batch = collate([replace(sample, lidar=empty, point_features=None, point_labels=None)], GRID)
    supervision = LidarOccupancy()
    batch = supervision.prepare(batch, generator())
    terms = supervision(scene_of(lambda h, x: torch.zeros(len(x), 2)), batch)
    assert all(torch.isfinite(term) for term in terms.values())


def test_balanced_voxels_weigh_as_the_teachers_points_inside():
    sample = make_sample(num_points=60)
    known = sample.point_features
    heavy = torch.arange(1.0, len(known.index) + 1)
    sample = replace(sample, point_features=replace(known, weight=heavy))
    sensed = collate([sample], GRID)
    target = LidarOccupancy(max_voxels=0, balance=1.0).prepare(sensed, generator()).targets.occupancy
    language = sensed.targets.language
    index = GRID.index_from_xyz(target.xyz)
    for row in (target.label == OCCUPIED).nonzero()[:, 0].tolist():
        inside = (GRID.index_from_xyz(language.xyz) == index[row]).all(dim=-1)
        expected = float(language.weight[inside].mean()) if bool(inside.any()) else 1.0
        assert float(target.weight[row]) == pytest.approx(expected)
    assert (target.weight[target.label != OCCUPIED] == 1.0).all()


def test_language_at_voxels_is_the_mean_of_their_points():
    supervision = LanguageDistillation(voxel_weight=1.0)
    batch = prepared(supervision, count=2)
    points, voxels = batch.targets.language, batch.targets.language_voxels
    torch.testing.assert_close(voxels.xyz, GRID.xyz_from_index(GRID.index_from_xyz(voxels.xyz)))
    own = GRID.index_from_xyz(points.xyz)
    for row in range(0, len(voxels.xyz), 7):
        here = (own == GRID.index_from_xyz(voxels.xyz[row])).all(dim=-1) & (points.batch == voxels.batch[row])
        mean = torch.nn.functional.normalize(points.feature[here].mean(dim=0), dim=0)
        torch.testing.assert_close(voxels.feature[row], mean, atol=1e-5, rtol=0)
    inside = GRID.contains(points.xyz)
    assert len(voxels.xyz) == len(torch.cat([own, points.batch[:, None]], dim=1)[inside].unique(dim=0))
    assert set(supervision(scene_of(lambda h, x: torch.ones(len(x), 8)), batch)) == {"language", "language/voxels"}


def test_occupied_voxels_weigh_more_when_asked():
    target = prepared(LidarOccupancy(max_voxels=0, occupied_weight=2.5)).targets.occupancy
    assert (target.weight[target.label == OCCUPIED] == 2.5).all()
    assert (target.weight[target.label != OCCUPIED] == 1.0).all()
