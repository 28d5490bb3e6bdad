"""Label files of the benchmarks: written and read back, real ones read, broken ones explained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lexivox.data import formats
from lexivox.data.benchmark_classes import OCC3D, OPENOCCUPANCY, SEMANTICKITTI, SEMANTICKITTI_VOXELS, SURROUNDOCC
from lexivox.data.dense_labels import DenseLabels
from lexivox.errors import DataError
from lexivox.geometry import grid as grids
from lexivox.geometry.voxelize import occupancy_counts

FORMATS = {
    "occ3d": (grids.OCC3D, OCC3D, "labels.npz", formats.write_occ3d, formats.read_occ3d),
    "openoccupancy": (
        grids.OPENOCCUPANCY, OPENOCCUPANCY, "l.npy", formats.write_openoccupancy, formats.read_openoccupancy,
    ),
    "surroundocc": (grids.SURROUNDOCC, SURROUNDOCC, "l.npy", formats.write_surroundocc, formats.read_surroundocc),
}  # fmt: skip


def random_labels(grid, classes, ignored=True):
    """A few thousand occupied voxels of every class, none symmetric in any axis."""
    generator = torch.Generator().manual_seed(0)
    label = torch.full(grid.shape, classes.free, dtype=torch.uint8)
    index = [torch.randint(n, (4000,), generator=generator) for n in grid.shape]
    label[tuple(index)] = torch.randint(classes.num_classes, (4000,), generator=generator).to(torch.uint8)
    if ignored:
        label[1, 2, 3] = classes.ignore
    return DenseLabels(grid, classes, label)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read(name, tmp_path):
    grid, classes, file, write, read = FORMATS[name]
    labels = random_labels(grid, classes, ignored=name != "occ3d")
    again = read(write(tmp_path / file, labels))
    assert torch.equal(again.label, labels.label)
    assert (again.grid, again.classes) == (grid, classes)


def test_openoccupancy_columns_are_z_y_x_class(tmp_path):
    np.save(tmp_path / "l.npy", np.array([[3, 20, 500, 4]]))
    label = formats.read_openoccupancy(tmp_path / "l.npy").label
    assert label.nonzero().tolist() == [[500, 20, 3]]
    assert label[500, 20, 3] == 4


def test_rows_of_one_voxel_vote(tmp_path):
    rows = [[1, 1, 1, 4], [1, 1, 1, 4], [1, 1, 1, 2], [2, 2, 2, 7], [2, 2, 2, 3], [3, 3, 3, 0], [3, 3, 3, 9]]
    np.save(tmp_path / "l.npy", np.array([*rows, [5, 5, 5, 0]]))
    label = formats.read_openoccupancy(tmp_path / "l.npy").label
    assert [int(label[i, i, i]) for i in (1, 2, 3, 5)] == [4, 3, 9, 255]  # a tie, noise outvoted, noise alone
    label = formats.read_surroundocc(tmp_path / "l.npy").label
    assert [int(label[i, i, i]) for i in (1, 2, 3, 5)] == [2, 3, 9, 255]  # the last row of each


def test_real_occ3d(realdata):
    (path,) = (realdata / "occ3d_nuscenes_label").glob("*/labels.npz")
    labels = formats.read_occ3d(path)
    assert int((labels.label == OCC3D.free).sum()) == 600_908
    assert labels.counted("none") is None
    both = labels.counted("both")
    assert torch.equal(both, labels.counted("lidar") & labels.counted("camera"))


@pytest.mark.parametrize("name", ["000000", "000005"])
def test_real_semantickitti_bits_lie_where_the_scan_hit(realdata, name):
    folder = realdata / "semantickitti/sequences/00"
    hit = formats.read_semantickitti_occupancy(folder / f"voxels/{name}.bin")
    scan = np.fromfile(folder / f"velodyne/{name}.bin", dtype="<f4").reshape(-1, 4)
    ours = occupancy_counts(grids.SEMANTICKITTI, torch.from_numpy(scan[:, :3])) > 0
    assert int((hit & ours).sum()) > 0.99 * max(int(hit.sum()), int(ours.sum()))
    invalid = formats.read_semantickitti_occupancy(folder / f"voxels/{name}.invalid")
    assert not bool((invalid & hit).any())


def test_semantickitti_voxels_round_trip(tmp_path):
    labels = random_labels(grids.SEMANTICKITTI, SEMANTICKITTI_VOXELS, ignored=False)
    formats.write_semantickitti_voxels(tmp_path, "000000", labels)
    invalid = np.zeros(grids.SEMANTICKITTI.shape, dtype=np.uint8)
    invalid[10, 20, 30] = 1
    (tmp_path / "000000.invalid").write_bytes(np.packbits(invalid).tobytes())
    again = formats.read_semantickitti_voxels(tmp_path, "000000")
    assert again.label[10, 20, 30] == SEMANTICKITTI_VOXELS.ignore
    again.label[10, 20, 30] = labels.label[10, 20, 30]
    assert torch.equal(again.label, labels.label)
    assert again.seen_by_lidar is None  # without .occluded nobody knows


def test_semantickitti_points_round_trip(tmp_path):
    label = torch.arange(20)
    instance = torch.where(torch.isin(label, torch.tensor(sorted(SEMANTICKITTI.things))), label + 5, 0)
    path = formats.write_semantickitti_points(tmp_path / "000000.label", label, instance)
    for ids, wanted in (("merged", instance), ("official", None)):
        got, segment = formats.read_semantickitti_points(path, ids)
        assert torch.equal(got, label)
        assert wanted is None or torch.equal(segment, wanted)


def test_real_semantickitti_points(realdata):
    folder = realdata / "semantickitti/sequences/00"
    label, _ = formats.read_semantickitti_points(folder / "labels/000000.label")
    assert len(label) == (folder / "velodyne/000000.bin").stat().st_size // 16


def test_a_perfect_road_scores_one_with_merged_ids(tmp_path):
    from lexivox.evaluate.panoptic import PanopticScore, Segments

    raw = np.array([40] * 800 + [60] * 200, dtype="<u4")  # road and lane marking, both class 9
    raw.tofile(tmp_path / "truth.label")
    said = Segments(torch.full((1000,), 9), torch.zeros(1000, dtype=torch.int64))
    quality = {}
    for ids in ("official", "merged"):
        score = PanopticScore(SEMANTICKITTI, min_points=50)
        score.update(said, Segments(*formats.read_semantickitti_points(tmp_path / "truth.label", ids)))
        quality[ids] = score.compute().per_class["pq"]["road"]
    assert quality["official"] == pytest.approx(0.8 * 2 / 3)  # the published fault: 0.533
    assert quality["merged"] == 1.0


def test_broken_files_are_explained(tmp_path):
    with pytest.raises(DataError, match=r"labels must be an .npz with semantics, mask_lidar, mask_camera; got"):
        formats.read_occ3d(tmp_path / "none.npz")
    np.savez(tmp_path / "small.npz", semantics=np.zeros((2, 2, 2)), mask_lidar=1, mask_camera=1)
    with pytest.raises(DataError, match=r"'semantics' must have the shape \(200, 200, 16\); got \(2, 2, 2\)"):
        formats.read_occ3d(tmp_path / "small.npz")
    np.save(tmp_path / "xyz.npy", np.array([[500, 20, 3, 4]]))
    with pytest.raises(DataError, match=r"voxel indices must lie in a grid of \(512, 512, 40\); got \[3, 20, 500\]"):
        formats.read_openoccupancy(tmp_path / "xyz.npy")
    np.save(tmp_path / "class.npy", np.array([[1, 2, 3, 40]]))
    with pytest.raises(DataError, match="classes must be 0 to 16, those of surroundocc; got 40 to 40"):
        formats.read_surroundocc(tmp_path / "class.npy")
    np.save(tmp_path / "columns.npy", np.zeros((3, 5)))
    with pytest.raises(DataError, match=r"labels must be finite rows of 4 numbers; got float64 \(3, 5\)"):
        formats.read_surroundocc(tmp_path / "columns.npy")
    (tmp_path / "000000.label").write_bytes(b"12")
    with pytest.raises(DataError, match=r"labels must be 2,097,152 numbers of uint16; got 1"):
        formats.read_semantickitti_voxels(tmp_path, "000000")
    np.array([77777], dtype="<u4").tofile(tmp_path / "p.label")
    with pytest.raises(DataError, match="labels must be codes of semantickitti_raw; got"):
        formats.read_semantickitti_points(tmp_path / "p.label")
    with pytest.raises(DataError, match="labels to write must be on"):
        formats.write_occ3d(tmp_path / "l.npz", random_labels(grids.SURROUNDOCC, SURROUNDOCC))
