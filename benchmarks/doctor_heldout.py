"""The doctor on what it was never tuned on: other drives, other keyframes, faults of other sizes.

    python benchmarks/doctor_heldout.py --real ../recordings --out runs/doctor_heldout

Drives of the synthetic city of other seeds; the keyframes of PandaSet and SemanticKITTI that ``doctor_faults.py`` does
not examine; volumes of other drives, keyframes and grids than in ``doctor_volumes.py``. The two nuScenes keyframes are
both used there; they get the new faults. Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from doctor_faults import (
    FAULTS,
    NOT_THERE,
    Change,
    Neighbour,
    Planted,
    Rows,
    examine,
    poses,
    resized,
    table,
    travelled,
    views,
)
from doctor_volumes import NAMES, Case, counts, row
from torch import Tensor

from lexivox.data.classes import NUSCENES16
from lexivox.data.datasets import open_dataset
from lexivox.data.label_builder import LabelPolicy, build_labels
from lexivox.data.synthetic import DriveSpec, SyntheticDrive, write_nuscenes
from lexivox.data.types import CameraView, Sample, SampleDataset
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

VEHICLE = RigidTransform(
    torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]).double(), torch.zeros(3).double()
).inverse()
TILT = RigidTransform(torch.roll(RigidTransform.from_yaw(0.026).rotation, (1, 1), (0, 1)), torch.zeros(3).double())
SEEDS = (401, 419, 433)


def turned(yaw_rad: float, only: int | None = None) -> Change:
    def change(view: CameraView) -> CameraView:
        pose, turn = view.ego_from_cam, RigidTransform.from_yaw(yaw_rad).rotation
        return replace(view, ego_from_cam=RigidTransform(turn @ pose.rotation, pose.translation))

    return views(change, only)


def with_image(change: Callable[[Tensor], Tensor], only: int | None = None) -> Change:
    return views(lambda view: replace(view, image=change(view.image)), only)


def last_swapped(sample: Sample, _: SampleDataset, __: int) -> Sample:
    *rest, a, b = sample.views
    return replace(sample, views=(*rest, replace(a, image=b.image), replace(b, image=a.image)))


SAME = (
    "untouched",
    "all images mirrored",
    "all images upside down",
    "all images BGR",
    "camera poses inverted",
    "camera rotations transposed",
    "lidar2img inverted",
    "points already in ego",
)
OTHER: dict[str, tuple[str, Change]] = {
    "one camera mirrored, the third": ("mirrored", with_image(lambda image: image.flip(2), only=2)),
    "one camera BGR, the fourth": ("bgr", with_image(lambda image: image.flip(0), only=3)),
    "camera axes of a vehicle": ("camera-axes", poses(lambda pose: pose @ VEHICLE)),
    "images at 0.7 of their size": ("image-size", resized(0.7, 0.7)),
    "images 6 % larger": ("image-size", resized(1.06, 1.06)),
    "images 3 % smaller": ("image-size", resized(0.97, 0.97)),
    "images of a third ratio": ("image-size", resized(0.8, 0.5)),
    "top tenth cut off": ("cropped", with_image(lambda image: image[:, image.shape[1] // 10 :])),
    "cameras turned by -1.5 degrees": ("turned", turned(-0.026)),
    "cameras tilted by 1.5 degrees": ("turned", poses(lambda pose: pose @ TILT)),
    "one camera turned by 1.5 degrees, the second": ("turned", turned(0.026, only=1)),
    "two cameras swapped, the last": ("cameras-swapped", last_swapped),
    "images of the next exposure": ("time-offset", Neighbour(1)),
    "images of the previous exposure": ("time-offset", Neighbour(-1)),
    "images 0.8 m further along": ("time-offset", travelled(0.8)),
    "images 0.8 m back": ("time-offset", travelled(-0.8)),
}
"""Other sizes, other cameras, another convention; what has no size is planted again on the new keyframes."""

GRIDS = (
    VoxelGrid((-20.0, -16.0, -1.75), (0.4, 0.4, 0.4), (100, 80, 15), "ego"),
    VoxelGrid((-18.0, -14.4, -2.1), (0.6, 0.6, 0.6), (60, 48, 11), "ego"),
    VoxelGrid((-17.5, -14.0, -1.9), (0.7, 0.7, 0.7), (50, 40, 9), "ego"),
)
"""The road lies elsewhere in a voxel of each: 0.15 m, 0.3 m and 0.5 m above its lower face."""

SHIFTS = ((-0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, -0.5), (0.5, -0.5, 0.0), (-0.5, 0.5, 0.5))


def recordings(real: Path | None, out: Path) -> Iterator[tuple[str, str, SampleDataset, int]]:
    """Name, name in ``NOT_THERE``, reader, and how many keyframes the doctor looks at."""
    for seed in SEEDS:
        root = out / f"city-{seed}"
        write_nuscenes(root, [DriveSpec(seed, 4), DriveSpec(seed + 1, 4), DriveSpec(seed + 2, 4)])
        yield f"city {seed}", "city", open_dataset("nuscenes", root), 4
    if real is not None:
        pandaset, kitti = real / "pandaset", real / "semantickitti"
        yield "PandaSet, parked", "parked", open_dataset("pandaset", pandaset, keyframes=[0, 5, 10, 15, 20, 25]), 4
        yield "PandaSet, others", "pandaset", open_dataset("pandaset", pandaset, keyframes=[35, 40, 50, 55]), 2
        yield "SemanticKITTI, others", "semantickitti", open_dataset("semantickitti", kitti, keyframes=[1, 4]), 2
        yield "nuScenes", "nuscenes", open_dataset("nuscenes", real / "nuscenes"), 2


MISSING = {**NOT_THERE, "parked": ("images of the next", "images of the previous", "images 0.8")}


def volumes(real: Path | None) -> Iterator[Case]:
    """The city's voxels share space with solids by rule, PandaSet's hold returns of three sweeps."""
    for seed, grid in zip((307, 311, 313), GRIDS, strict=True):
        drive = list(SyntheticDrive(seed, 2, grid=grid))
        truth = [sample.voxel_labels.label for sample in drive]  # type: ignore[union-attr]
        yield Case(f"city {seed}, {grid.voxel_size_m[0]} m", drive, truth, grid, NUSCENES16)
    if real is None:
        return
    for frames, grid in zip(((5, 10, 15), (25, 30, 35), (45, 50, 55)), GRIDS, strict=True):
        drive = open_dataset("pandaset", real / "pandaset", keyframes=list(frames), labels="semseg", cameras=[])
        built = build_labels(drive, 1, grid, LabelPolicy(1, 1)).labels
        name = f"PandaSet {frames[1]}, {grid.voxel_size_m[0]} m"
        yield Case(name, [drive[1]], [built.label], grid, built.classes, drive.classes)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/doctor_heldout"))
    arguments = parser.parse_args()
    found = Rows(arguments.out / "volumes.json")
    for case in volumes(arguments.real):
        if not found.has(case=case.name):
            found.add({"case": case.name, "found": counts(case, 4, SHIFTS)})
    rows = Rows(arguments.out / "recordings.json")
    faults = {**{name: FAULTS[name] for name in SAME}, **OTHER}
    for name, kind, dataset, count in recordings(arguments.real, arguments.out):
        for what, (expected, change) in faults.items():
            if not what.startswith(MISSING[kind]) and not rows.has(recording=name, planted=what):
                rows.add(examine(Planted(dataset, change), count, name, what, expected))
    print(table(rows.rows))
    print(f"{sum(one['right'] for one in rows.rows)} of {len(rows.rows)} right")
    print("| volumes | " + " | ".join(NAMES) + " |\n" + "|---" * (len(NAMES) + 1) + "|")
    for one in found.rows:
        print(row(one["case"], one["found"], True))


if __name__ == "__main__":
    main()
