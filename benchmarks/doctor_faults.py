"""The doctor's confusion table: every fault planted in every recording, and what the doctor said.

    python benchmarks/doctor_faults.py --real ../recordings --out runs/doctor_faults [--only pandaset] [--fault bgr]

``--real`` is a folder with ``nuscenes``, ``pandaset`` and ``semantickitti`` inside; without it only the synthetic city
is examined. Writes rows to ``recordings-*.json`` as they come, goes on from there when it is started again (remove the
file after the code has changed), and prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional as F

from lexivox.data.datasets import open_dataset
from lexivox.data.doctor.examine import diagnose
from lexivox.data.synthetic import DriveSpec, write_nuscenes
from lexivox.data.types import CameraView, Sample, SampleDataset
from lexivox.geometry.transform import RigidTransform

Change = Callable[[Sample, SampleDataset, int], Sample]
OPENGL = RigidTransform(torch.diag(torch.tensor([1.0, -1.0, -1.0]).double()), torch.zeros(3).double())


@dataclass
class Planted:
    """A recording whose keyframes pass through a fault."""

    dataset: SampleDataset
    change: Change

    def __post_init__(self) -> None:
        self.name, self.classes = self.dataset.name, self.dataset.classes
        step, drives = getattr(self.change, "step", 0), self.dataset.drives
        places = range(max(-step, 0), len(drives) - max(step, 0))
        self.kept = [place for place in places if drives[place] == drives[place + step]]
        self.tokens = [self.dataset.tokens[place] for place in self.kept]
        self.drives = [drives[place] for place in self.kept]

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> Sample:
        return self.change(self.dataset[self.kept[index]], self.dataset, self.kept[index])

    def without_images(self, index: int) -> Sample:
        return self.dataset.without_images(self.kept[index])  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


def views(change: Callable[[CameraView], CameraView], only: int | None = None) -> Change:
    def apply(sample: Sample, _: SampleDataset, __: int) -> Sample:
        changed = [change(v) if only is None or i == only else v for i, v in enumerate(sample.views)]
        return replace(sample, views=tuple(changed))

    return apply


def poses(change: Callable[[RigidTransform], RigidTransform]) -> Change:
    return views(lambda view: replace(view, ego_from_cam=change(view.ego_from_cam)))


def lidar_pose(change: Callable[[RigidTransform], RigidTransform]) -> Change:
    return lambda sample, _, __: replace(sample, ego_from_lidar=change(sample.ego_from_lidar))


def lidar2img(change: Callable[[RigidTransform], RigidTransform]) -> Change:
    def apply(sample: Sample, _: SampleDataset, __: int) -> Sample:
        lidar = sample.ego_from_lidar
        turned = [replace(v, ego_from_cam=lidar @ change(lidar.inverse() @ v.ego_from_cam)) for v in sample.views]
        return replace(sample, views=tuple(turned))

    return apply


def transposed(pose: RigidTransform) -> RigidTransform:
    return RigidTransform(pose.rotation.T, pose.translation)


def resized(height: float, width: float) -> Change:
    def change(view: CameraView) -> CameraView:
        size = (round(view.image_hw[0] * height), round(view.image_hw[1] * width))
        image = F.interpolate(view.image.float()[None], size=size, mode="bilinear", antialias=True)[0]
        return replace(view, image=image.clamp(0, 255).byte())

    return views(change)


def cropped(view: CameraView) -> CameraView:
    return replace(view, image=view.image[:, view.image_hw[0] // 6 :])


def in_ego(sample: Sample, _: SampleDataset, __: int) -> Sample:
    """Points were already moved into the ego frame, and are moved again."""
    moved = sample.ego_from_lidar.apply(sample.lidar.xyz.double()).float()
    return replace(sample, lidar=replace(sample.lidar, xyz=moved))


def swapped(sample: Sample, _: SampleDataset, __: int) -> Sample:
    a, b, *rest = sample.views
    return replace(sample, views=(replace(a, image=b.image), replace(b, image=a.image), *rest))


@dataclass
class Neighbour:
    """The images of the next or previous keyframe of the drive, with the stamps and poses of this one."""

    step: int

    def __call__(self, sample: Sample, dataset: SampleDataset, index: int) -> Sample:
        pairs = zip(sample.views, dataset[index + self.step].views, strict=True)
        return replace(sample, views=tuple(replace(own, image=late.image) for own, late in pairs))


def travelled(metres: float) -> Change:
    """Images taken further along the road, as the stamps would have it: nothing else tells of motion here."""
    back = RigidTransform.from_yaw(0.0, (-metres, 0.0, 0.0))
    return poses(lambda pose: back @ pose)


FAULTS: dict[str, tuple[str, Change]] = {
    "untouched": ("", lambda sample, _, __: sample),
    "all images mirrored": ("mirrored", views(lambda v: replace(v, image=v.image.flip(2)))),
    "one camera mirrored": ("mirrored", views(lambda v: replace(v, image=v.image.flip(2)), only=0)),
    "all images upside down": ("upside-down", views(lambda v: replace(v, image=v.image.flip(1, 2)))),
    "all images BGR": ("bgr", views(lambda v: replace(v, image=v.image.flip(0)))),
    "one camera BGR": ("bgr", views(lambda v: replace(v, image=v.image.flip(0)), only=0)),
    "camera poses inverted": ("extrinsics-inverted", poses(RigidTransform.inverse)),
    "lidar2img inverted": ("extrinsics-inverted", lidar2img(RigidTransform.inverse)),
    "LiDAR pose inverted": ("extrinsics-inverted", lidar_pose(RigidTransform.inverse)),
    "camera rotations transposed": ("rotation-transposed", poses(transposed)),
    "lidar2img transposed": ("rotation-transposed", lidar2img(transposed)),
    "camera axes of OpenGL": ("camera-axes", poses(lambda pose: pose @ OPENGL)),
    "points already in ego": ("lidar-frame", in_ego),
    "images halved": ("image-size", resized(0.5, 0.5)),
    "images of another ratio": ("image-size", resized(0.4, 0.6)),
    "images 4 % larger": ("image-size", resized(1.04, 1.04)),
    "top sixth cut off": ("cropped", views(cropped)),
    "cameras turned by 2 degrees": ("turned", poses(lambda pose: RigidTransform.from_yaw(0.035) @ pose)),
    "one camera turned by 2 degrees": (
        "turned",
        views(lambda v: replace(v, ego_from_cam=RigidTransform.from_yaw(0.035) @ v.ego_from_cam), only=0),
    ),
    "two cameras swapped": ("cameras-swapped", swapped),
    "images of the next exposure": ("time-offset", Neighbour(1)),
    "images of the previous exposure": ("time-offset", Neighbour(-1)),
    "images 0.5 m further along": ("time-offset", travelled(0.5)),
    "images 0.5 m back": ("time-offset", travelled(-0.5)),
}
"""What is planted: the name that the doctor should say, and how."""

NOT_THERE = {
    "semantickitti": (
        "one camera",
        "two cameras",
        "LiDAR pose",
        "lidar2img",
        "points already",
        "images 0.5",
        "a sweep missing",
    ),
    "nuscenes": ("images of the next", "images of the previous"),
    "pandaset": ("images 0.5", "a sweep missing"),
    "city": ("images 0.5",),
}
"""Faults that a recording cannot have: with one camera, with a LiDAR that is the frame of
the car, without neighbours, and where the scans on disk are by definition the keyframes."""


def recordings(real: Path | None, out: Path) -> dict[str, tuple[SampleDataset, int]]:
    """Name, reader, and how many keyframes the doctor looks at."""
    city = out / "city"
    write_nuscenes(city, [DriveSpec(100, 4), DriveSpec(107, 4), DriveSpec(109, 4)])
    found: dict[str, tuple[SampleDataset, int]] = {"city": (open_dataset("nuscenes", city), 4)}
    if real is not None:
        found["nuscenes"] = (open_dataset("nuscenes", real / "nuscenes"), 2)
        found["pandaset"] = (open_dataset("pandaset", real / "pandaset", keyframes=range(30, 60, 5)), 3)
        found["semantickitti"] = (open_dataset("semantickitti", real / "semantickitti"), 4)
    return found


def damaged(real: Path | None, out: Path) -> Iterator[tuple[str, str, str, SampleDataset]]:
    """Copies of recordings by links, one file of each missing, empty or cut: recording, what, name, reader."""
    roots = {"city": ("nuscenes", out / "city")}
    if real is not None:
        roots |= {kind: (kind, real / kind) for kind in ("nuscenes", "pandaset", "semantickitti")}
    for name, (kind, root) in roots.items():
        files = list(open_dataset(kind, root).files())  # type: ignore[attr-defined]
        image = next(path for path in files if path.suffix in (".jpg", ".png"))
        sweep = next(path for path in files if path.suffix in (".bin", ".gz"))
        for what, fault, path, share in (
            ("an image missing", "missing-files", image, None),
            ("a sweep missing", "missing-files", sweep, None),
            ("an image cut in half", "truncated-files", image, 0.5),
            ("a sweep cut in half", "truncated-files", sweep, 0.5),
            ("a sweep of no bytes", "empty-files", sweep, 0.0),
        ):
            copy = out / "damaged" / f"{name} {what}"
            _link(root, copy)
            target = copy / path.relative_to(root)
            target.unlink()
            if share is not None:
                size = int(path.stat().st_size * share) // 80 * 80  # whole records: nothing tells but the content
                target.write_bytes(path.read_bytes()[:size])
            yield name, what, fault, open_dataset(kind, copy)


def _link(root: Path, copy: Path) -> None:
    for path in root.rglob("*"):
        target = copy / path.relative_to(root)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(path.resolve())


def examine(dataset: SampleDataset, count: int, recording: str, what: str, expected: str) -> dict:
    started = time.perf_counter()
    report = diagnose(dataset, None, count)
    seconds = round(time.perf_counter() - started, 1)
    told = [finding.text for finding in report.findings if finding.fault is not None]
    found = {"recording": recording, "planted": what, "expected": expected, "faults": list(report.faults)}
    return {**found, "right": right(expected, report.faults), "text": told, "seconds": seconds}


class Rows:
    """Rows of a benchmark in a JSON file, written one by one."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, json.loads(path.read_text()) if path.exists() else []

    def has(self, **values: object) -> bool:
        return any(all(row[key] == value for key, value in values.items()) for row in self.rows)

    def add(self, row: dict) -> None:
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.rows, indent=1))
        print(json.dumps(row), flush=True)


def right(expected: str, faults: tuple[str, ...]) -> bool:
    """The planted fault by its name; nothing at all where none was planted."""
    return expected in faults if expected else not faults


def table(rows: list[dict]) -> str:
    names = list(dict.fromkeys(row["recording"] for row in rows))
    lines = ["| planted | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for what in dict.fromkeys(row["planted"] for row in rows):
        cells = {row["recording"]: row for row in rows if row["planted"] == what}
        lines.append(f"| {what} | " + " | ".join(_cell(cells.get(name)) for name in names) + " |")
    return "\n".join(lines)


def _cell(row: dict | None) -> str:
    if row is None:
        return "–"
    return ("" if row["right"] else "**not found:** ") + (", ".join(row["faults"]) or "healthy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/doctor_faults"))
    parser.add_argument("--only", default=None, help="one recording")
    parser.add_argument("--fault", default=None, help="faults whose description holds this")
    arguments = parser.parse_args()
    rows = Rows(arguments.out / f"recordings-{arguments.only or 'all'}.json")

    def missing(name: str, what: str) -> bool:
        wanted = arguments.only in (None, name) and (arguments.fault or "") in what
        return wanted and not what.startswith(NOT_THERE[name]) and not rows.has(recording=name, planted=what)

    for name, (dataset, count) in recordings(arguments.real, arguments.out).items():
        for what, (expected, change) in FAULTS.items():
            if missing(name, what):
                rows.add(examine(Planted(dataset, change), count, name, what, expected))
    for name, what, expected, dataset in damaged(arguments.real, arguments.out):
        if missing(name, what):
            rows.add(examine(dataset, 2, name, what, expected))
    print(table(rows.rows))
    print(f"{sum(row['right'] for row in rows.rows)} of {len(rows.rows)} right")


if __name__ == "__main__":
    main()
