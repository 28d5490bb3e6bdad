"""The supervision of the paper, term by term: dense target, raw features, borders, weights (spec pop3d 1.8, 4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import make_sample

from lexivox.data.collate import collate
from lexivox.data.labels import training_occupancy_dense
from lexivox.data.types import FREE, OCCUPIED, PointFeatures
from lexivox.fields import CoordinateField
from lexivox.geometry.grid import POP3D, VoxelGrid
from lexivox.geometry.voxelize import clamp_to_grid
from lexivox.model import Scene
from lexivox.supervision.language import LanguageDistillation
from lexivox.supervision.occupancy import LidarOccupancy, enet_weights

GRID = VoxelGrid((-4.0, -4.0, -1.0), (1.0, 1.0, 1.0), (8, 8, 2), "lidar")
"""Smaller than the sample's cloud, so that many of its points lie outside."""


class Fixed(torch.nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, rows):
        return self.answer(rows)


def scene(answer) -> Scene:
    field = CoordinateField(GRID, 0, 1, torch.device("cpu"))
    return Scene(field, {"occupancy": Fixed(answer), "language": Fixed(answer)}, 1)


def prepare(supervision, count=1):
    batch = collate([make_sample(i) for i in range(count)], GRID)
    return supervision.prepare(batch, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("xyz", "coordinate", "index"),
    [
        ((0.0, 0.0, 0.0), (50.0, 50.0, 5.0), (50, 50, 5)),
        ((10.0, -3.5, -1.2), (59.765625, 46.58203125, 3.8), (59, 46, 3)),
        ((80.0, 0.0, 5.0), (99.9990234, 50.0, 7.999), (99, 50, 7)),
    ],
)
def test_voxel_coordinates_of_the_specification(xyz, coordinate, index):
    clamped = clamp_to_grid(POP3D, torch.tensor([xyz]))
    assert POP3D.coordinate_from_xyz(clamped)[0].tolist() == pytest.approx(coordinate, abs=1e-6)
    assert tuple(POP3D.index_from_xyz(clamped)[0].tolist()) == index


def test_places_for_sampling_are_those_of_the_specification():
    place = POP3D.normalized_from_xyz(torch.tensor([[10.0, -3.5, -1.2]], dtype=torch.float64))
    assert place[0].tolist() == pytest.approx((0.1953125, -0.0683594, -0.05), abs=1e-7)


@pytest.mark.parametrize("outside", ["clamp", "drop"])
def test_points_outside_are_on_the_border_or_nowhere(outside):
    """Erratum 6, for both kinds of targets."""
    far = torch.tensor([[30.0, 0.0, 0.0], [-30.0, 1.0, 0.5], [0.0, 0.0, 9.0]])
    volume = training_occupancy_dense(GRID, far, outside)
    assert int((volume == OCCUPIED).sum()) == (3 if outside == "clamp" else 0)
    assert volume[7, 4, 1] == volume[0, 5, 1] == volume[4, 4, 1] == (OCCUPIED if outside == "clamp" else FREE)
    points = prepare(LanguageDistillation(outside=outside)).targets.language
    before = collate([make_sample()], GRID).targets.language
    assert GRID.contains(points.xyz).all()
    assert len(points.xyz) == (len(before.xyz) if outside == "clamp" else int(GRID.contains(before.xyz).sum()))
    assert len(points.xyz) == len(points.feature) == len(points.batch) == len(points.weight)


def test_dropped_points_change_no_voxel():
    inside = LidarOccupancy(target="dense", outside="drop")
    batch = prepare(inside)
    counted = batch.targets.occupancy.label.sum()
    xyz = batch.lidar.xyz
    expected = GRID.flat_from_index(GRID.index_from_xyz(xyz[GRID.contains(xyz)])).unique()
    assert int(counted) == len(expected)


def test_the_published_terms_are_plain_means_over_all_voxels():
    supervision = LidarOccupancy(target="dense", max_voxels=0)
    batch = prepare(supervision, count=2)
    label = batch.targets.occupancy.label
    assert len(label) == 2 * GRID.num_voxels
    assert set(label.tolist()) == {FREE, OCCUPIED}
    logit = torch.randn(len(label), 2, generator=torch.Generator().manual_seed(1))
    terms = supervision(scene(lambda rows: logit), batch)
    expected = torch.nn.functional.cross_entropy(logit, label)
    torch.testing.assert_close(terms["occupancy/ce"], expected)
    assert terms["occupancy/unobserved"] == 0


def test_enet_weights_are_those_of_the_specification():
    """Erratum 28: off by default; 1.44 and 25.5 for two per cent occupied voxels."""
    assert enet_weights(0.02) == pytest.approx((1.4427, 25.4967), abs=1e-3)
    assert LidarOccupancy().enet_share == 0.0


def test_enet_weights_act_as_class_weights():
    supervision = LidarOccupancy(target="dense", max_voxels=0, enet_share=0.02)
    batch = prepare(supervision)
    label = batch.targets.occupancy.label
    logit = torch.randn(len(label), 2, generator=torch.Generator().manual_seed(1))
    expected = torch.nn.functional.cross_entropy(logit, label, torch.tensor(enet_weights(0.02)))
    torch.testing.assert_close(supervision(scene(lambda rows: logit), batch)["occupancy/ce"], expected)


def test_a_point_in_two_images_counts_twice_each_time_with_its_own_target():
    sample = make_sample(num_points=3)
    sample = replace(sample, lidar=replace(sample.lidar, xyz=torch.zeros(3, 3)))
    feature = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    known = PointFeatures(torch.tensor([0, 2, 2]), feature, torch.ones(3))
    supervision = LanguageDistillation(loss="mse", weight=0.5, outside="clamp")
    batch = supervision.prepare(collate([replace(sample, point_features=known)], GRID), torch.Generator())
    terms = supervision(scene(lambda rows: torch.ones(len(rows), 2)), batch)
    # Squares of (0, 1), (2, 1), (1, 4): 0 + 1 + 4 + 1 + 1 + 16 = 23, over 3 rows x 2 channels, times 0.5.
    assert float(terms["language"]) == pytest.approx(0.5 * 23 / 6)


def test_lambda_scales_the_language_term_alone():
    batch = prepare(LanguageDistillation(loss="mse"))

    def answer(rows):
        return torch.zeros(len(rows), 8)

    one, quarter = (LanguageDistillation(loss="mse", weight=w)(scene(answer), batch)["language"] for w in (1.0, 0.25))
    torch.testing.assert_close(quarter, 0.25 * one)
