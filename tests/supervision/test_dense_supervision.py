"""Labels of voxels: what is asked, which samples teach, and each loss by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers import make_sample
from torch import nn

from lexivox.data.collate import collate
from lexivox.data.types import IGNORED, VoxelLabels
from lexivox.errors import DataError, ShapeError
from lexivox.fields import CoordinateField
from lexivox.geometry.grid import VoxelGrid
from lexivox.model import Scene
from lexivox.supervision.dense import DenseLabels

GRID = VoxelGrid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (2, 2, 2), "ego")
LABEL = torch.tensor([[[2, 0], [2, 2]], [[1, 2], [IGNORED, 2]]])  # 0 and 1 are classes, 2 is free


def labels_of(volume: torch.Tensor = LABEL, **seen) -> VoxelLabels:
    return VoxelLabels(GRID, volume, torch.zeros(*volume.shape, 2), 2, **seen)


def batch_of(*labels: VoxelLabels | None):
    samples = [replace(make_sample(i), voxel_labels=known) for i, known in enumerate(labels)]
    return collate(samples, GRID)


def prepared(supervision: DenseLabels, *labels: VoxelLabels | None):
    return supervision.prepare(batch_of(*labels), torch.Generator().manual_seed(0))


class Constant(nn.Module):
    def __init__(self, *logits: float):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, rows):
        return self.logits.expand(len(rows), -1)


def scene(occupied: float = 0.0, classes: tuple[float, ...] = (0.0, math.log(3.0))) -> Scene:
    """Density with this logit everywhere; class 1 three times as likely as class 0."""
    heads = {"density": Constant(occupied), "semantic": Constant(*classes)}
    return Scene(CoordinateField(GRID, 0, 2), heads, 2)


def values(supervision: DenseLabels, *labels: VoxelLabels | None, occupied: float = 0.0) -> dict[str, float]:
    terms = supervision(scene(occupied), prepared(supervision, *labels))
    return {name: float(term.detach()) for name, term in terms.items()}


def test_published_losses_by_hand():
    """Seven known voxels, two occupied: at a probability of 1/4 the mean is (2 log 4 + 5 log 4/3) / 7; classes 0 and 1
    cost log 4 and log 4/3."""
    terms = values(DenseLabels(2), labels_of(), occupied=-math.log(3.0))
    assert terms == pytest.approx(
        {
            "dense/geometry": (2 * math.log(4) + 5 * math.log(4 / 3)) / 7,
            "dense/semantic": (math.log(4) + math.log(4 / 3)) / 2,
        }
    )


def test_focal_by_hand():
    """Even odds: a quarter of log 2. Classes: (3/4)^2 log 4 and (1/4)^2 log 4/3."""
    terms = values(DenseLabels(2, focal=2.0), labels_of())
    assert terms["dense/geometry"] == pytest.approx(0.25 * math.log(2))
    assert terms["dense/semantic"] == pytest.approx((9 / 16 * math.log(4) + math.log(4 / 3) / 16) / 2)


def test_all_losses_have_terms_of_their_own():
    supervision = DenseLabels(2, lovasz=1.0, sem_scal=1.0, geo_scal=1.0)
    terms = values(supervision, labels_of())
    assert set(terms) == {f"dense/{name}" for name in ("geometry", "semantic", "lovasz", "sem_scal", "geo_scal")}
    assert all(value > 0.1 for value in terms.values())
    # Occupied, soft: precision 2 * 0.5 / 3.5, recall 0.5, specificity 0.5.
    assert terms["dense/geo_scal"] == pytest.approx(-math.log(2 / 7) - 2 * math.log(0.5), rel=1e-4)
    double = values(replace(supervision, lovasz=2.0), labels_of())
    assert double["dense/lovasz"] == pytest.approx(2 * terms["dense/lovasz"])


def test_a_perfect_answer_costs_nothing():
    volume = torch.full((2, 2, 2), 1)
    supervision = DenseLabels(2, lovasz=1.0, sem_scal=1.0, geo_scal=1.0)
    terms = supervision(scene(30.0, (-30.0, 30.0)), prepared(supervision, labels_of(volume)))
    assert all(abs(float(term.detach())) < 1e-4 for term in terms.values())


def test_geometry_alone_needs_no_semantic_head():
    supervision = DenseLabels(2, semantic=0.0, lovasz=1.0, geo_scal=1.0)
    only = Scene(CoordinateField(GRID, 0, 1), {"density": Constant(0.0)}, 1)
    assert set(supervision(only, prepared(supervision, labels_of()))) == {
        "dense/geometry",
        "dense/lovasz",
        "dense/geo_scal",
    }


@pytest.mark.parametrize(("mask", "count"), [("none", 7), ("lidar", 3), ("camera", 1)])
def test_masks(mask, count):
    lidar, camera = torch.zeros(2, 2, 2, dtype=torch.bool), torch.zeros(2, 2, 2, dtype=torch.bool)
    lidar[0, 0] = lidar[1, 0, 0] = lidar[1, 1, 0] = True  # the last one has no label
    camera[0, 0, 1] = True
    batch = prepared(DenseLabels(2, mask=mask), labels_of(seen_by_lidar=lidar, seen_by_camera=camera))
    assert len(batch.targets.dense.label) == count


def test_places_are_the_centres_of_their_labels():
    places = prepared(DenseLabels(2), labels_of(), labels_of(LABEL.flip(0))).targets.dense
    for item, volume in enumerate((LABEL, LABEL.flip(0))):
        rows = places.batch == item
        index = GRID.index_from_xyz(places.xyz[rows])
        assert torch.equal(volume[tuple(index.T)], places.label[rows])
        assert torch.equal(GRID.xyz_from_index(index), places.xyz[rows])


def test_samples_without_labels_teach_nothing():
    alone = values(DenseLabels(2), labels_of(), occupied=1.0)
    beside = values(DenseLabels(2), labels_of(), None, occupied=1.0)
    assert beside == pytest.approx(alone)
    supervision = DenseLabels(2, geo_scal=1.0)
    there = scene()
    terms = supervision(there, prepared(supervision, None))
    assert set(terms) == {"dense/geometry", "dense/semantic", "dense/geo_scal"}
    torch.stack(list(terms.values())).sum().backward()
    assert all(float(head.logits.grad.abs().sum()) == 0.0 for head in there.heads.values())


def test_a_budget_draws_voxels():
    batch = prepared(DenseLabels(2, max_voxels=3), labels_of(), labels_of())
    assert torch.bincount(batch.targets.dense.batch).tolist() == [3, 3]


def test_labels_of_another_grid_are_refused():
    other = replace(labels_of(), grid=replace(GRID, lower_m=(0.5, 0.0, 0.0)))
    with pytest.raises(ShapeError, match=r"labels of voxels must lie on the grid of the batch, \(2, 2, 2\) from"):
        prepared(DenseLabels(2), other)


def test_labels_of_another_table_are_refused():
    with pytest.raises(DataError, match="labels of voxels must call free what the run does, 17; got 2"):
        prepared(DenseLabels(17), labels_of())
