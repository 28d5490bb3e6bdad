"""Folders of labels and predictions: formats, names, a volume alone, against labels, against sweeps; pictures."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lexivox.data.benchmark_classes import OCC3D, OPENOCCUPANCY
from lexivox.data.doctor.folder import diagnose_volumes, find_volumes, with_volumes
from lexivox.data.doctor.pairs import check_pairs
from lexivox.data.doctor.readings import Reading, orders
from lexivox.data.doctor.report import FAULTS, DoctorReport
from lexivox.data.doctor.structure import check_structure
from lexivox.data.doctor.volume_reader import VolumeFile, read_volume
from lexivox.data.synthetic import SyntheticDrive
from lexivox.errors import DataError
from lexivox.geometry.grid import OCC3D as GRID
from lexivox.geometry.grid import VoxelGrid

ROAD, CAR, FREE = OCC3D.index_of("driveable_surface"), OCC3D.index_of("car"), OCC3D.free


def street(seed: int = 0) -> torch.Tensor:
    """A road 40 m wide in layer 2 with boxes on it: left and right, front and back all differ."""
    generator = torch.Generator().manual_seed(seed)
    volume = torch.full(GRID.shape, FREE)
    volume[:, 40:140, 2] = ROAD
    for x, y in torch.randint(0, 90, (12, 2), generator=generator).tolist():
        volume[x : x + 10, 40 + y : 45 + y, 3:7] = CAR
    return volume


def saved(folder, volume, token="a", name="semantics"):
    path = folder / token / "labels.npz"
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, **{name: volume.numpy().astype(np.uint8)})
    return path


def faults(volume):
    return {found.fault for found in check_structure([volume], GRID, OCC3D) if found.fault}


def test_a_street_is_healthy_by_itself(tmp_path):
    saved(tmp_path, street())
    report = diagnose_volumes(tmp_path, out_dir=tmp_path / "out")
    assert report.ok
    assert report.faults == ()
    text = report.text()
    for part in ("format: Occ3D, (200, 200, 16) voxels", "z is up", "100% of the floor", "nobody can tell left from"):
        assert part in text
    with Image.open(report.pictures[0]) as picture:
        assert picture.size == (648, 868)


@pytest.mark.parametrize("reading", [r for r in orders(GRID.shape, GRID.shape, "ego") if r.flipped[2]][:3])
def test_a_volume_on_its_head_is_found_without_a_sweep(reading):
    assert faults(reading.apply(street())) == {"axes"}


def test_swapped_axes_are_found_by_shape(tmp_path):
    saved(tmp_path, street().permute(2, 1, 0))
    report = diagnose_volumes(tmp_path, out_dir=tmp_path / "out")
    assert report.faults == ("axes",)
    assert "the floor lies along axis 0 of the file, forwards" in report.text()
    assert len(report.pictures) == 1


def test_numbers_of_classes_are_checked():
    volume = street()
    assert faults(volume + 1) == faults(volume - 1) == {"off-by-one"}
    # Free stays 17 while the others move: the floor is a trailer then.
    assert faults(torch.where(volume == FREE, volume, volume - 1)) == {"off-by-one"}
    strange = volume.clone()
    strange[0, 0, 0] = 99
    assert faults(strange) == {"unknown-classes"}
    assert faults(volume[:50]) == {"shape"}
    assert faults(torch.full(GRID.shape, FREE)) == set()


def test_free_and_ignored_exchanged_are_found_without_a_sweep():
    volume = street()
    volume[:, :, :2] = OCC3D.ignore
    volume[:, :, 12:] = OCC3D.ignore
    assert faults(volume) == set()
    ignored, free = volume == OCC3D.ignore, volume == FREE
    volume[ignored], volume[free] = FREE, OCC3D.ignore
    assert "free-ignored" in faults(volume)


def file_of(volume) -> VolumeFile:
    return VolumeFile(volume, GRID, OCC3D, "Occ3D")


def against(volume, truth):
    return {found.fault: found.text for found in check_pairs([file_of(volume)], [file_of(truth)]) if found.fault}


@pytest.mark.parametrize("reading", list(orders(GRID.shape, GRID.shape, "ego"))[1::2])
def test_predictions_in_another_order_of_axes_are_found_against_labels(reading):
    inverse = tuple(reading.order.index(axis) for axis in range(3))
    wrong = street().flip([axis for axis in range(3) if reading.flipped[axis]]).permute(inverse)
    found = against(wrong, street())
    assert "axes" in found
    assert reading.mend(Reading()) in found["axes"]


def test_predictions_that_begin_elsewhere_or_count_elsewise_are_found():
    truth = street()
    assert against(truth, truth) == {}
    moved = torch.roll(truth, (1, 1, 0), (0, 1, 2))
    assert "when read (1, 1, 0) voxels further" in against(moved, truth)["half-voxel"]
    shifted = torch.where(truth == FREE, truth, truth + 1)
    assert "if predictions are numbered -1" in against(shifted, truth)["off-by-one"]
    other = replace(file_of(truth), grid=VoxelGrid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), GRID.shape, "lidar"))
    (found,) = check_pairs([other], [file_of(truth)])
    assert found.fault == "shape"
    assert "convert one of them" in found.text


def test_predictions_are_paired_with_labels_by_name(tmp_path):
    saved(tmp_path / "gts", street(), "a")
    np.save(tmp_path / "a.npy", street().flip(0).numpy())
    report = diagnose_volumes(tmp_path / "gts", None)
    assert report.ok
    (tmp_path / "said").mkdir()
    (tmp_path / "a.npy").rename(tmp_path / "said" / "a.npy")
    report = diagnose_volumes(tmp_path / "said", tmp_path / "gts", out_dir=tmp_path / "out")
    assert report.faults == ("axes",)
    assert "turn x around" in report.text()
    with Image.open(report.pictures[0]) as picture:
        assert picture.size == (1296, 868)  # before and after


def test_a_folder_without_volumes_or_names_in_common_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a folder of volumes must hold \.npz, \.npy, \.label, \.bin; got none"):
        diagnose_volumes(tmp_path)
    saved(tmp_path / "one", street(), "a")
    saved(tmp_path / "two", street(), "b")
    with pytest.raises(DataError, match="predictions must be named as labels are; got no name that both have"):
        diagnose_volumes(tmp_path / "one", tmp_path / "two")


def test_damaged_and_mixed_files_are_findings(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"nothing")
    np.save(tmp_path / "b.npy", street().numpy())
    np.save(tmp_path / "c.npy", street()[:, :, :8].numpy())
    report = diagnose_volumes(tmp_path)
    assert report.faults == ("unreadable", "shape")
    assert "c.npy is another kind of volume than the first" in report.text()


def test_rows_of_benchmarks_are_told_apart_by_what_they_hold(tmp_path):
    path = tmp_path / "n008__LIDAR_TOP__15.pcd.bin.npy"
    rows = torch.tensor([[3, 500, 100, 4], [39, 10, 511, 0]])  # z, y, x, class
    np.save(path, rows.numpy())
    file = read_volume(path)
    assert file.format == "OpenOccupancy rows (z, y, x, class)"
    assert tuple(file.label.shape) == (512, 512, 40)
    assert int(file.label[100, 500, 3]) == 4
    assert int(file.label[511, 10, 39]) == OPENOCCUPANCY.ignore
    np.save(path, rows[:, [2, 1, 0, 3]].numpy())  # x, y, z, class: the axes of the volume come out swapped
    assert tuple(read_volume(path).label.shape) == (40, 512, 512)
    np.save(path, torch.tensor([[199, 100, 15, 4]]).numpy())
    assert read_volume(path).format == "SurroundOcc rows (x, y, z, class)"
    assert set(find_volumes(tmp_path)) == {"n008__LIDAR_TOP__15"}
    np.save(path, torch.tensor([[999, 100, 15, 4]]).numpy())
    with pytest.raises(DataError, match="rows of a volume must lie in a grid that is known"):
        read_volume(path)
    np.save(path, np.zeros((0, 4)))
    with pytest.raises(DataError, match="must hold indices from 0 and a class; got 0 rows"):
        read_volume(path)


def test_semantickitti_bits_are_found_by_drive_and_number(realdata):
    found = find_volumes(realdata / "semantickitti")
    assert set(found) == {"000000", "000005", "00-000000", "00-000005"}  # neither clouds nor labels of points
    file = read_volume(found["00-000005"])
    assert (file.format, tuple(file.label.shape)) == ("SemanticKITTI .bin", (256, 256, 32))
    assert sorted(file.label.unique().tolist()) == [0, 1, 255]


SMALL = VoxelGrid((-16.0, -16.0, -1.6), (0.8, 0.8, 0.8), (40, 40, 8), "ego")


class _Drive:
    """A synthetic drive that names its sweeps as readers of nuScenes do."""

    name = "drive"

    def __init__(self):
        from lexivox.data.classes import NUSCENES16

        self.drive, self.classes = SyntheticDrive(107, 1, (32, 56), 360, grid=SMALL), NUSCENES16
        self.tokens, self.drives = ["one"], ["d"]

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.drive[index]

    def __iter__(self):
        return iter(self.drive)

    def sweep_names(self, index):
        return ("sweep-token", "sweep-file")


def test_volumes_are_held_against_the_sweeps_of_their_keyframes(tmp_path):
    dataset = _Drive()
    truth = dataset[0].voxel_labels.label
    path = saved(tmp_path, truth.flip(1), "sweep-token")
    grid = {"lower_m": SMALL.lower_m, "voxel_size_m": SMALL.voxel_size_m, "shape": SMALL.shape, "frame": "ego"}
    classes = {"table": "nuscenes16", "names": list(dataset.classes.names)}
    path.with_name("manifest.json").write_text(json.dumps({"grid": grid, "classes": classes, "unobserved": 255}))
    empty = DoctorReport("drive", 1, (), ())
    report = with_volumes(empty, dataset, tmp_path, 4, tmp_path / "out")
    assert "axes" in report.faults
    assert "turn y around" in report.text()
    assert len(report.pictures) == 1
    with pytest.raises(DataError, match=r"volumes must be in files such as one/labels\.npz; got none of 1 keyframes"):
        with_volumes(empty, dataset, tmp_path / "out")


def test_every_fault_has_a_name_and_words():
    import lexivox.data.doctor as package

    folder = next(iter(package.__path__))
    from pathlib import Path

    source = "".join(path.read_text() for path in Path(folder).glob("*.py") if path.name != "report.py")
    assert [name for name in FAULTS if f'"{name}"' not in source] == []


def test_numbers_that_are_no_classes_are_told_in_a_line(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 4, 4), np.nan))
    with pytest.raises(
        DataError, match="must hold whole class numbers; got 64 of 64 numbers that are not, the first nan"
    ):
        read_volume(tmp_path / "a.npy")
    with pytest.raises(DataError, match="volumes must lie in a folder; got a file"):
        find_volumes(tmp_path / "a.npy")
    with pytest.raises(DataError, match="volumes must lie in a folder; got none"):
        find_volumes(tmp_path / "nowhere")
