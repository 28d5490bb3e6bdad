"""The label doctor finds each planted fault, says the mend, and cries wolf on nothing untouched."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import pytest
import torch

from lexivox.data.classes import NUSCENES16, PANDASET9
from lexivox.data.datasets import open_dataset
from lexivox.data.doctor.half_voxels import FEW, Places, preference
from lexivox.data.doctor.readings import Reading
from lexivox.data.doctor.volumes import check_labels
from lexivox.data.label_builder import LabelPolicy, build_labels
from lexivox.data.synthetic import SyntheticDrive
from lexivox.errors import ShapeError
from lexivox.geometry.grid import VoxelGrid

CUBE = VoxelGrid((-12.0, -12.0, -12.0), (1.0, 1.0, 1.0), (24, 24, 24), "ego")
FLAT = VoxelGrid((-20.0, -16.0, -1.6), (0.8, 0.8, 0.8), (50, 40, 8), "ego")


@pytest.fixture(scope="module")
def drive(realdata):
    return open_dataset("pandaset", realdata / "pandaset", keyframes=[0, 40, 55], labels="semseg", cameras=[])


@pytest.fixture(scope="module")
def case(drive):
    """Keyframe, volume built from three sweeps, by grid."""
    return {grid: (drive[1], build_labels(drive, 1, grid, LabelPolicy(1, 1)).labels.label) for grid in (CUBE, FLAT)}


def verdicts(sample, volume, grid, classes=PANDASET9):
    return list(check_labels([sample], [volume], grid, classes, PANDASET9))


def test_nothing_is_wrong_with_untouched_labels(case):
    for grid, (sample, volume) in case.items():
        results = verdicts(sample, volume, grid)
        assert [found.severity for found in results] == ["ok", "ok", "ok"], results
        assert results[0].text.startswith("axes, frame and origin of the volume fit the sweep")


PLANTED = [(order, flipped) for order in permutations(range(3)) for flipped in product((False, True), repeat=3)][1::3]
"""Every third of the 47 wrong orders; ``benchmarks/doctor_volumes.py`` plants them all."""


@pytest.mark.parametrize(("order", "flipped"), PLANTED)
def test_signed_permutations_are_found(case, order, flipped):
    sample, volume = case[CUBE]
    inverse = tuple(order.index(axis) for axis in range(3))
    planted = volume.flip([axis for axis in range(3) if flipped[axis]]).permute(inverse)
    mend = Reading(order, flipped).mend(Reading())
    assert torch.equal(Reading(order, flipped).apply(planted), volume)
    found, *_ = verdicts(sample, planted, CUBE)
    assert (found.severity, found.fault) == ("error", "axes")
    assert mend in found.text


def test_a_volume_in_another_order_of_axes_is_read_by_its_shape(case):
    sample, volume = case[FLAT]
    found, *_ = verdicts(sample, volume.permute(2, 1, 0), FLAT)
    assert (found.severity, found.fault) == ("error", "axes")
    assert "(impossible) but would" in found.text
    assert "transpose it with (2, 1, 0)" in found.text


@pytest.mark.parametrize("shift", [(0.5, 0.5, 0.5), (-0.5, 0.0, 0.0), (0.0, 0.0, 0.5)])
def test_half_a_voxel_is_found(case, shift):
    sample, volume = case[FLAT]
    lower = tuple(low - s * size for low, s, size in zip(FLAT.lower_m, shift, FLAT.voxel_size_m, strict=True))
    found, *_ = verdicts(sample, volume, replace(FLAT, lower_m=lower))
    assert (found.severity, found.fault) == ("error", "half-voxel")
    assert f"move its grid by ({', '.join(f'{s:+g}' for s in shift)}) voxels" in found.text


def test_the_wrong_frame_is_found(case):
    sample, volume = case[FLAT]
    found, *_ = verdicts(sample, volume, replace(FLAT, frame="lidar"))
    assert (found.severity, found.fault) == ("error", "frame")
    assert "take it for a volume in the 'ego' frame, not 'lidar'" in found.text


def test_classes_off_by_one_are_found(case):
    sample, volume = case[FLAT]
    planted = torch.where((volume > 0) & (volume < 9), volume + 1, volume)
    results = verdicts(sample, planted, FLAT)
    assert results[0].severity == "ok"
    assert (results[-1].severity, results[-1].fault) == ("error", "off-by-one")
    assert "if every class is numbered -1: the table is off by one" in results[-1].text


def test_free_and_ignored_exchanged_are_found(case):
    sample, volume = case[FLAT]
    free, ignore = PANDASET9.free, PANDASET9.ignore
    planted = volume.clone()
    planted[volume == free], planted[volume == ignore] = ignore, free
    found = {found.fault: found for found in verdicts(sample, planted, FLAT) if found.severity == "error"}
    assert "are exchanged" in found["free-ignored"].text


def test_labels_of_another_keyframe_do_not_fit(drive, case):
    sample, _ = case[FLAT]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 11, FLAT.shape, generator=generator).to(torch.uint8)
    found, *_ = verdicts(sample, noise, FLAT)
    assert (found.severity, found.fault) == ("error", "no-fit")
    assert "is it of this keyframe?" in found.text


def test_bad_input(case):
    sample, volume = case[FLAT]
    with pytest.raises(ShapeError, match="volumes must be as many as samples, 1; got 2"):
        list(check_labels([sample], [volume, volume], FLAT, PANDASET9))
    (found,) = verdicts(sample, volume[:5], FLAT)
    assert (found.fault, found.text) == ("shape", "a volume of (5, 40, 8) has no reading on a grid of (50, 40, 8)")
    (found,) = verdicts(sample, torch.where(volume == 1, 77, volume), FLAT)
    assert (found.fault, found.text) == (
        "unknown-classes",
        "numbers [77] are no classes of pandaset9: choose its table",
    )


def test_a_road_on_the_border_of_voxels_is_healthy_and_its_half_voxel_is_found():
    """z = 0 is a face of the grid, so half of the returns of the road lie in free voxels."""
    grid = VoxelGrid((-20.0, -16.0, -1.6), (0.8, 0.8, 0.8), (50, 40, 8), "ego")
    sample = SyntheticDrive(107, 1, grid=grid)[0]
    volume = sample.voxel_labels.label
    shifts = ((0.0, 0.0, 0.0), (-0.5, -0.5, -0.5), (0.0, 0.0, 0.5))
    for shift in shifts:
        wrong = replace(grid, lower_m=tuple(lo - 0.8 * s for lo, s in zip(grid.lower_m, shift, strict=True)))
        first, *_ = check_labels([sample], [volume], wrong, NUSCENES16)
        assert first.fault == ("half-voxel" if any(shift) else None), first.text
        parts = ", ".join(f"{s:+g}" for s in shift)
        assert first.severity == "ok" or f"move its grid by ({parts}) voxels" in first.text


def test_only_places_of_which_readings_differ_have_a_vote():
    # Voxels 0..3 along x of 1 m; the file says occupied in voxel 1. Read half a voxel further it spans 1.5 to 2.5.
    grid = VoxelGrid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (4, 1, 1), "ego")
    volume = torch.full((4, 1, 1), NUSCENES16.free)
    volume[1] = 1
    x = torch.tensor([1.2, 1.7, 2.2, 2.2, 3.2])  # one for the first, both, the other twice, neither
    xyz = torch.stack([x, torch.full((5,), 0.5), torch.full((5,), 0.5)], dim=1)
    places = [Places(xyz, torch.ones(5, dtype=torch.bool))]
    found = preference(places, [volume], grid, NUSCENES16, Reading(), Reading().moved(0, 0.5))
    assert found == pytest.approx((2 - 1) / (3 + FEW) / 2)  # passed places have no vote here: half of the mean
