"""The doctor's confusion table for volumes: axes, half a voxel, frame, classes off by one, free and ignored.

    python benchmarks/doctor_volumes.py --real ../recordings

``--real`` is a folder with ``pandaset``, ``semantickitti``, ``nuscenes`` and ``occ3d_nuscenes_label`` inside; without
it only the synthetic city is examined. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from doctor_faults import Rows
from torch import Tensor

from lexivox.data.benchmark_classes import OPENOCCUPANCY
from lexivox.data.classes import NUSCENES16, ClassTable
from lexivox.data.collate import grid_from_lidar
from lexivox.data.datasets import open_dataset
from lexivox.data.dense_labels import DenseLabels
from lexivox.data.doctor.structure import check_structure
from lexivox.data.doctor.volume_reader import read_volume
from lexivox.data.doctor.volumes import check_labels
from lexivox.data.formats import write_openoccupancy
from lexivox.data.label_builder import LabelPolicy, build_labels
from lexivox.data.labels import occupancy_from_lidar
from lexivox.data.synthetic import SyntheticDrive
from lexivox.data.types import OCCUPIED, Sample
from lexivox.geometry import grid as grids
from lexivox.geometry.grid import VoxelGrid

SMALL = VoxelGrid((-20.0, -16.0, -1.6), (0.8, 0.8, 0.8), (50, 40, 8), "ego")
CUBE = VoxelGrid((-12.0, -12.0, -12.0), (1.0, 1.0, 1.0), (24, 24, 24), "ego")


@dataclass
class Case:
    """Volumes that are right, their sweeps if there are any, and a grid on which every order of axes can be told."""

    name: str
    samples: list[Sample]
    volumes: list[Tensor]
    grid: VoxelGrid
    classes: ClassTable
    points: ClassTable | None = None

    def faults(self, volumes: list[Tensor], grid: VoxelGrid | None = None) -> set[str]:
        grid = grid or self.grid
        if self.samples:
            found = check_labels(self.samples, volumes, grid, self.classes, self.points)
        else:
            found = check_structure(volumes, grid, self.classes)
        return {finding.fault for finding in found if finding.fault}


def cases(real: Path | None) -> Iterator[Case]:
    drive = SyntheticDrive(107, 2, grid=SMALL)
    truth = [sample.voxel_labels for sample in drive]
    yield Case("city, complete truth", list(drive), [t.label for t in truth], SMALL, NUSCENES16)  # type: ignore[union-attr]
    if real is None:
        return
    pandaset = open_dataset("pandaset", real / "pandaset", keyframes=[0, 40, 55], labels="semseg", cameras=[])
    for name, grid in (("PandaSet, three sweeps", SMALL), ("PandaSet, a cube", CUBE)):
        built = build_labels(pandaset, 1, grid, LabelPolicy(1, 1)).labels
        yield Case(name, [pandaset[1]], [built.label], grid, built.classes, pandaset.classes)  # type: ignore[arg-type]
    kitti = open_dataset("semantickitti", real / "semantickitti", keyframes=[0, 5])
    files = [read_volume(real / f"semantickitti/sequences/00/voxels/{k:06d}.bin") for k in (0, 5)]
    volumes = [file.label for file in files]
    yield Case("SemanticKITTI .bin", list(kitti), volumes, files[0].grid, files[0].classes)
    yield openoccupancy(real)
    path = next((real / "occ3d_nuscenes_label").rglob("labels.npz"))
    yield Case("Occ3D label, no sweep", [], [read_volume(path).label], grids.OCC3D, read_volume(path).classes)


def openoccupancy(real: Path) -> Case:
    """What a sweep says, as rows of a file: ground and things by height, for no real file of that format is at hand."""
    sample = open_dataset("nuscenes", real / "nuscenes")[0]
    grid, transform = grids.OPENOCCUPANCY, grid_from_lidar(sample, grids.OPENOCCUPANCY)
    seen = occupancy_from_lidar(grid, transform.translation.float(), transform.apply(sample.lidar.xyz))
    hit = (seen == OCCUPIED).nonzero()
    height_m = sample.ego_from_lidar.apply(grid.xyz_from_index(hit))[:, 2]
    names = torch.tensor([OPENOCCUPANCY.index_of(name) for name in ("driveable_surface", "manmade")])
    label = torch.full(grid.shape, OPENOCCUPANCY.free or 0, dtype=torch.uint8)
    label[hit.unbind(-1)] = names[(height_m > 0.3).long()].to(torch.uint8)
    with TemporaryDirectory() as folder:
        path = write_openoccupancy(Path(folder) / "a.npy", DenseLabels(grid, OPENOCCUPANCY, label))
        file = read_volume(path)
    return Case("OpenOccupancy rows", [sample], [file.label], file.grid, file.classes)


def orders() -> list[tuple[tuple[int, int, int], tuple[bool, bool, bool]]]:
    return [(o, f) for o in permutations(range(3)) for f in product((False, True), repeat=3)][1:]  # type: ignore[misc]


def planted(volume: Tensor, order: tuple[int, int, int], flipped: tuple[bool, bool, bool]) -> Tensor:
    inverse = tuple(order.index(axis) for axis in range(3))
    return volume.flip([axis for axis in range(3) if flipped[axis]]).permute(inverse)


def exchanged(volume: Tensor, classes: ClassTable) -> Tensor:
    ignored, free = volume == classes.ignore, volume == classes.free
    out = volume.clone()
    out[free], out[ignored] = classes.ignore, int(classes.free or 0)
    return out


SHIFTS = ((0.5, 0.5, 0.5), (-0.5, -0.5, -0.5), (0.5, 0.0, 0.0), (0.0, -0.5, 0.0), (0.0, 0.0, 0.5))
"""Of grids, in voxels."""


def counts(case: Case, every: int, shifts: Sequence[tuple[float, float, float]] = SHIFTS) -> dict[str, tuple[int, int]]:
    """Fault: how many of how many planted ones were found by name; ``untouched``: how many were left alone."""
    table = {"untouched": [not case.faults(case.volumes)], "axes": []}
    for order, flipped in orders()[::every]:
        if case.samples or order[2] != 2 or flipped[2]:  # without a sweep only up and down can be told
            wrong = [planted(v, order, flipped) for v in case.volumes]
            table["axes"].append(bool({"axes", "shape"} & case.faults(wrong)))
    if case.samples:
        table["half-voxel"] = []
        for shift in shifts:
            lower = [low - s * e for low, s, e in zip(case.grid.lower_m, shift, case.grid.voxel_size_m, strict=True)]
            moved = replace(case.grid, lower_m=(lower[0], lower[1], lower[2]))
            table["half-voxel"].append("half-voxel" in case.faults(case.volumes, moved))
        other = "ego" if case.grid.frame == "lidar" else "lidar"
        table["frame"] = ["frame" in case.faults(case.volumes, replace(case.grid, frame=other))]
    wide = [v.long() for v in case.volumes]
    shifted = [[torch.where(v == case.classes.ignore, v, v + by) for v in wide] for by in (1, -1)]
    table["off-by-one"] = ["off-by-one" in case.faults(volumes) for volumes in shifted]
    if any(bool((v == case.classes.ignore).any()) for v in case.volumes):
        wrong = [exchanged(v, case.classes) for v in case.volumes]
        table["free-ignored"] = ["free-ignored" in case.faults(wrong)]
    return {name: (sum(found), len(found)) for name, found in table.items()}


NAMES = ("untouched", "axes", "half-voxel", "frame", "off-by-one", "free-ignored")
WITHOUT_SWEEP = ("half-voxel", "frame")
"""What a volume alone cannot tell: it looks the same whatever the frame and origin of its grid are called."""


def row(name: str, found: dict[str, tuple[int, int]], has_sweep: bool) -> str:
    blind = "–" if has_sweep else "cannot be told"
    cells = {n: f"{found[n][0]} of {found[n][1]}" for n in NAMES if n in found}
    return f"| {name} | " + " | ".join(cells.get(n, blind if n in WITHOUT_SWEEP else "–") for n in NAMES) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=None)
    parser.add_argument("--every", type=int, default=1, help="of the 47 wrong orders of axes plant every nth")
    parser.add_argument("--out", type=Path, default=Path("runs/doctor_volumes.json"), help="rows; goes on where it was")
    arguments = parser.parse_args()
    rows = Rows(arguments.out)
    for case in cases(arguments.real):
        if not rows.has(case=case.name):
            found = counts(case, arguments.every)
            rows.add({"case": case.name, "found": found, "has_sweep": bool(case.samples)})
    print("| volumes | " + " | ".join(NAMES) + " |\n" + "|---" * (len(NAMES) + 1) + "|")
    for one in rows.rows:
        print(row(one["case"], one["found"], one["has_sweep"]))


if __name__ == "__main__":
    main()
