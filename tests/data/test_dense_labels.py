"""Dense labels on other grids: nothing moves by half a voxel, and what is lost is counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.conversion import convert as slow_convert

from lexivox.data import dense_labels
from lexivox.data.benchmark_classes import NUSCENES16_FROM_OCC3D, OCC3D, SEMANTICKITTI
from lexivox.data.classes import NUSCENES16
from lexivox.data.dense_labels import ConversionLoss, DenseLabels, convert
from lexivox.errors import DataError, ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

FINE = VoxelGrid((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (8, 6, 4), "ego")
FREE = OCC3D.free


def labels(**voxels):
    volume = torch.full(FINE.shape, FREE, dtype=torch.uint8)
    for place, number in voxels.items():
        volume[tuple(int(i) for i in place[1:])] = number
    return DenseLabels(FINE, OCC3D, volume)


def test_the_same_grid_changes_nothing():
    before = labels(v123=4, v700=11)
    after, loss = convert(before, FINE)
    assert torch.equal(after.label, before.label)
    assert loss == ConversionLoss(2, 0, 0)


def test_refining_repeats_every_voxel():
    after, loss = convert(labels(v123=4), FINE.refine(2))
    assert after.label[2:4, 4:6, 6:8].unique().tolist() == [4]
    assert int((after.label == 4).sum()) == 8
    assert loss == ConversionLoss(1, 0, 0)


def test_coarsening_votes():
    before = labels(v000=4, v010=4, v100=4, v110=4, v001=11)  # four of eight are car, one road, three free
    after, loss = convert(before, FINE.coarsen(2))
    assert after.label[0, 0, 0] == 4
    assert loss == ConversionLoss(5, 0, 1)
    assert str(loss) == "5 occupied voxels: 0 outside the new grid, 1 in a voxel of another class"


def test_any_keeps_what_a_majority_loses():
    lonely = labels(v221=4)
    majority, loss = convert(lonely, FINE.coarsen(2))
    assert (majority.label == FREE).all()
    assert loss == ConversionLoss(1, 0, 1)
    kept, loss = convert(lonely, FINE.coarsen(2), rule="any")
    assert kept.label[1, 1, 0] == 4
    assert loss == ConversionLoss(1, 0, 0)


def test_another_frame_turns_the_world():
    lidar = VoxelGrid((-3.0, 0.0, 0.0), (0.5, 0.5, 0.5), (6, 8, 4), "lidar")
    lidar_from_ego = RigidTransform.from_yaw(torch.pi / 2)  # x forward becomes y forward
    after, loss = convert(labels(v420=4), lidar, lidar_from_ego)
    # The centre (2.25, 1.25) of the voxel turns to (-1.25, 2.25), which lies in voxel (3, 4).
    assert (after.label == 4).nonzero().tolist() == [[3, 4, 0]]
    assert loss == ConversionLoss(1, 0, 0)


def test_what_lies_outside_is_ignored_and_counted():
    shifted = VoxelGrid((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (8, 6, 4), "ego")
    after, loss = convert(labels(v000=4, v200=5), shifted)
    assert after.label[0, 0, 0] == 5
    assert (after.label[6:] == OCC3D.ignore).all()
    assert loss == ConversionLoss(2, 1, 0)


def test_masks_follow():
    seen = torch.zeros(FINE.shape, dtype=torch.bool)
    seen[:2, :2, :2] = True
    before = DenseLabels(FINE, OCC3D, labels().label, seen_by_camera=seen)
    after, _ = convert(before, FINE.coarsen(2))
    assert after.seen_by_camera.nonzero().tolist() == [[0, 0, 0]]
    assert after.seen_by_lidar is None


@pytest.mark.parametrize("rule", ["majority", "any"])
def test_slabs_change_nothing(rule, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    volume = torch.randint(0, 18, FINE.shape, generator=generator).to(torch.uint8)
    volume[torch.rand(FINE.shape, generator=generator) < 0.5] = FREE
    seen = torch.rand(FINE.shape, generator=generator) < 0.5
    before, turned = DenseLabels(FINE, OCC3D, volume, seen), RigidTransform.from_yaw(0.3, (0.4, 0.1, 0.0))
    whole, loss = convert(before, FINE.coarsen(2), turned, rule)
    monkeypatch.setattr(dense_labels, "_MAX_PIECES", 1)
    slabs, loss_of_slabs = convert(before, FINE.coarsen(2), turned, rule)
    assert torch.equal(slabs.label, whole.label)
    assert torch.equal(slabs.seen_by_lidar, whole.seen_by_lidar)
    assert loss == loss_of_slabs


GRIDS = {
    "the same": FINE,
    "finer": FINE.refine(2),
    "coarser": FINE.coarsen(2),
    "five to four": VoxelGrid((0.1, -0.2, 0.0), (0.625, 0.625, 0.625), (6, 6, 4), "ego"),
    "bricks": VoxelGrid((-0.5, 0.3, 0.2), (0.4, 1.1, 0.7), (9, 4, 3), "ego"),
}


@pytest.mark.parametrize("rule", ["majority", "any"])
@pytest.mark.parametrize("yaw_rad", [0.0, 0.5, -2.2])
@pytest.mark.parametrize("name", GRIDS)
def test_agrees_with_the_slow_twin(name, yaw_rad, rule):
    generator, grid = torch.Generator().manual_seed(len(name)), GRIDS[name]
    volume = torch.randint(0, 18, FINE.shape, generator=generator).to(torch.uint8)
    volume[torch.rand(FINE.shape, generator=generator) < 0.7] = FREE
    volume[torch.rand(FINE.shape, generator=generator) < 0.1] = OCC3D.ignore
    turned = RigidTransform.from_yaw(yaw_rad, (0.37, 0.11, 0.03) if yaw_rad else (0.0, 0.0, 0.0))
    after, loss = convert(DenseLabels(FINE, OCC3D, volume), grid, turned, rule)
    wanted, counts = slow_convert(
        volume.numpy(), *((g.lower_m, g.voxel_size_m, g.shape) for g in (FINE, grid)), turned.matrix().double().numpy(),
        free=FREE, ignore=OCC3D.ignore, rule=rule,
    )  # fmt: skip
    assert np.array_equal(after.label.numpy(), wanted)
    assert (loss.occupied, loss.outside, loss.outvoted) == counts
    assert loss.kept + loss.outside + loss.outvoted == loss.occupied == int(((volume != FREE) & (volume != 255)).sum())


@pytest.mark.parametrize("seed", range(5))
def test_any_makes_nothing_inside_free(seed):
    """A thin pole survives every turn of the grid."""
    generator = torch.Generator().manual_seed(seed)
    volume = torch.full(FINE.shape, FREE, dtype=torch.uint8)
    volume[4, 3] = 15
    yaw, shift = 6.28 * float(torch.rand((), generator=generator)), torch.rand(3, generator=generator).tolist()
    turned = RigidTransform.from_yaw(yaw, tuple(shift))
    for size in (0.3, 0.5, 0.7):
        grid = VoxelGrid((-6.0, -6.0, -1.0), (size, size, size), (round(12 / size), round(12 / size), 12), "ego")
        after, loss = convert(DenseLabels(FINE, OCC3D, volume), grid, turned, "any")
        assert loss == ConversionLoss(4, 0, 0)
        assert int((after.label == 15).sum()) >= 1


def test_mapping_to_another_table():
    after = labels(v000=0, v001=4).mapped(NUSCENES16_FROM_OCC3D)
    assert after.classes == NUSCENES16
    assert after.label[0, 0, :3].tolist() == [NUSCENES16.ignore, 4, NUSCENES16.free]
    with pytest.raises(DataError, match="a map must start from nuscenes16; got occ3d"):
        after.mapped(NUSCENES16_FROM_OCC3D)


def test_bad_input():
    with pytest.raises(ShapeError, match="grids of different frames must be joined by a transform"):
        convert(labels(), VoxelGrid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (2, 2, 2), "lidar"))
    with pytest.raises(DataError, match=r"dense labels must hold classes of occ3d, 0 to 17; got \[18\]"):
        labels(v000=18)
    with pytest.raises(DataError, match="labels must say what the camera mask needs; got none"):
        labels().counted("camera")
    points = DenseLabels(FINE, SEMANTICKITTI, torch.zeros(FINE.shape, dtype=torch.uint8))
    with pytest.raises(DataError, match="classes of labels to convert must include free; got semantickitti"):
        convert(points, FINE)
