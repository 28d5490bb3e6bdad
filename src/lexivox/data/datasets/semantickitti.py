"""SemanticKITTI keyframes: the Velodyne, its labels, and the colour cameras of KITTI odometry where they are.

Frames. ``lidar`` is the Velodyne (x forward, y left, z up). KITTI has no frame of the car: ``ego`` has the same
axes and its origin on the ground below the Velodyne, ``LIDAR_HEIGHT_M`` under it. ``global`` is the Velodyne's
frame of the first scan, level with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from lexivox.data.benchmark_classes import SEMANTICKITTI_MAP
from lexivox.data.classes import ClassTable
from lexivox.data.datasets.files import finite_rows, read_image, read_no_image, read_records
from lexivox.data.dense_labels import DenseLabels
from lexivox.data.formats import read_semantickitti_points, read_semantickitti_voxels
from lexivox.data.types import CameraView, LidarSweep, PointLabels, Sample
from lexivox.errors import ConfigError, DataError
from lexivox.geometry.transform import RigidTransform

SPLITS = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": tuple(f"{number}" for number in range(11, 22)),
}
"""Sequences of the official splits (spec ovpanoptic 6.6)."""

CAMERAS = ("image_2", "image_3")
"""The colour cameras, left and right; they share their exposure with the scan."""

LIDAR_HEIGHT_M = 1.73
"""Of the Velodyne above the ground, from KITTI's drawing of the car."""

EGO_FROM_LIDAR = RigidTransform(
    torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0.0, LIDAR_HEIGHT_M], dtype=torch.float64)
)


class SemanticKittiDataset:
    """The scans of SemanticKITTI that are on disk, in order of sequence and number.

    Args:
        root: folder that holds ``sequences/00``, ..., or ``00``, ... itself.
        split: ``"train"``, ``"val"``, ``"test"`` or sequences to read; ``None`` or ``"all"`` takes every one.
        cameras: which to read; by default those of which the folder has images.
        labels: ``"semantic"`` reads class and instance of every point, as ``SEMANTICKITTI_MAP``.
        keyframes: scan numbers to read, each must be on disk; by default all that are.

    Raises:
        DataError: no such sequence or scan, or the layout is not that of SemanticKITTI.
        ConfigError: an option has no such value.
    """

    name = "semantickitti"
    classes: ClassTable = SEMANTICKITTI_MAP

    def __init__(
        self,
        root: str | PathLike[str],
        split: str | Sequence[str] | None = None,
        *,
        cameras: Sequence[str] | None = None,
        labels: str | None = None,
        keyframes: Sequence[int] | None = None,
    ) -> None:
        if labels not in (None, "semantic"):
            raise ConfigError(f"labels of semantickitti must be 'semantic' or None; got {labels!r}.")
        strange = [name for name in cameras or () if name not in CAMERAS]
        if strange:
            raise ConfigError(f"cameras must be some of {', '.join(CAMERAS)}; got {', '.join(strange)}.")
        self.root, self._with_labels = Path(root), labels is not None
        drives = [_Sequence(path, cameras) for path in _sequence_folders(self.root, split)]
        self._scans = [(drive, number) for drive in drives for number in drive.choose(keyframes)]
        self.tokens: Sequence[str] = [f"{drive.name}-{number:06d}" for drive, number in self._scans]
        self.drives: Sequence[str] = [drive.name for drive, _ in self._scans]

    def __len__(self) -> int:
        return len(self._scans)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        """Read a keyframe.

        Raises:
            DataError: a file of it is missing or damaged; the message names sensor and sample.
        """
        return self._read(index, with_images=True)

    def without_images(self, index: int) -> Sample:
        """The same keyframe; its views have a size and calibration, but no pixels were decoded."""
        return self._read(index, with_images=False)

    def _read(self, index: int, with_images: bool) -> Sample:
        drive, number = self._at(index)
        token = self.tokens[index]
        lidar, kept = drive.cloud(number, token)
        return Sample(
            token=token,
            drive=drive.name,
            timestamp_ns=drive.time_ns(number),
            views=tuple(drive.view(name, number, token, with_images) for name in drive.cameras),
            lidar=lidar,
            ego_from_lidar=EGO_FROM_LIDAR,
            global_from_ego=drive.global_from_lidar(number) @ EGO_FROM_LIDAR.inverse(),
            point_labels=drive.labels(number, token, kept) if self._with_labels else None,
        )

    def dense_labels(self, index: int) -> DenseLabels:
        """The scene-completion labels of a scan, on ``geometry.grid.SEMANTICKITTI`` in the ``lidar`` frame.

        Raises:
            DataError: the scan has none (they exist for every fifth scan), or they are damaged.
        """
        drive, number = self._at(index)
        return read_semantickitti_voxels(drive.path / "voxels", f"{number:06d}")

    def files(self) -> Iterator[Path]:
        """Every file that reading all samples as asked for would open, poses and calibration left out."""
        for drive, number in self._scans:
            yield drive.file("velodyne", number, "bin")
            yield from (drive.file(camera, number, "png") for camera in drive.cameras)
            if self._with_labels:
                yield drive.file("labels", number, "label")

    def _at(self, index: int) -> tuple[_Sequence, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index of a sample must be below {len(self)}; got {index}.")
        return self._scans[index]


class _Sequence:
    """One folder ``sequences/NN``."""

    def __init__(self, path: Path, cameras: Sequence[str] | None) -> None:
        self.path, self.name = path, path.name
        self.cameras = tuple(cameras or (c for c in CAMERAS if any(path.glob(f"{c}/*.png"))))
        self._calibration = _read_calibration(path / "calib.txt")
        self._poses = _read_matrices(path / "poses.txt") if (path / "poses.txt").exists() else None
        self._times = np.loadtxt(path / "times.txt", ndmin=1) if (path / "times.txt").exists() else None

    def choose(self, keyframes: Sequence[int] | None) -> list[int]:
        found = sorted(int(path.stem) for path in (self.path / "velodyne").glob("*.bin"))
        missing = sorted(set(keyframes or ()) - set(found))
        if missing or not found:
            raise DataError(
                f"keyframes of sequence {self.name} must be on disk; got {missing or 'no scan at all'}. "
                f"Complete the data set: {self.path / 'velodyne'}"
            )
        return found if keyframes is None else list(keyframes)

    def file(self, folder: str, number: int, ending: str) -> Path:
        return self.path / folder / f"{number:06d}.{ending}"

    def time_ns(self, number: int) -> int:
        """Since the start of the sequence; 10 Hz where ``times.txt`` is missing."""
        seconds = 0.1 * number if self._times is None else float(self._times[number])
        return round(seconds * 1e9)

    def global_from_lidar(self, number: int) -> RigidTransform:
        if self._poses is None:
            return RigidTransform.identity()
        if number >= len(self._poses):
            raise DataError(
                f"poses of sequence {self.name} must cover its scans; got {len(self._poses)} for scan {number}. "
                f"Fetch the file again: {self.path / 'poses.txt'}"
            )
        cam_from_lidar = _rigid(self._calibration["Tr"])
        return cam_from_lidar.inverse() @ _rigid(self._poses[number]) @ cam_from_lidar

    def view(self, camera: str, number: int, token: str, with_image: bool) -> CameraView:
        read = read_image if with_image else read_no_image
        projection = self._calibration[f"P{camera[-1]}"]
        intrinsics = projection[:, :3]
        # The fourth column holds how far the camera stands beside the left grey one, times the intrinsics.
        aside = RigidTransform(torch.eye(3, dtype=torch.float64), torch.linalg.solve(intrinsics, projection[:, 3]))
        cam_from_lidar = aside @ _rigid(self._calibration["Tr"])
        return CameraView(
            name=camera,
            image=read(self.file(camera, number, "png"), f"{camera} of sample {token}"),
            image_from_cam=intrinsics.float(),
            ego_from_cam=EGO_FROM_LIDAR @ cam_from_lidar.inverse(),
            timestamp_ns=self.time_ns(number),
        )

    def cloud(self, number: int, token: str) -> tuple[LidarSweep, np.ndarray]:
        """The scan without points that are not finite, and which ones were kept."""
        who = f"lidar of sample {token}"
        records = read_records(self.file("velodyne", number, "bin"), "<f4", 4, who)
        kept = finite_rows(records[:, :3], who)
        rows = torch.from_numpy(records[kept])
        zeros = torch.zeros(len(rows), dtype=torch.int64)  # the files do not tell rings
        return LidarSweep(rows[:, :3].contiguous(), rows[:, 3].contiguous(), zeros, zeros), kept

    def labels(self, number: int, token: str, kept: np.ndarray) -> PointLabels:
        path = self.file("labels", number, "label")
        label, instance = read_semantickitti_points(path, "merged")
        if len(label) != len(kept):
            raise DataError(
                f"labels of lidar of sample {token} must be as many as its points, {len(kept)}; got {len(label)}. "
                f"Fetch both files again: {path}"
            )
        mask = torch.from_numpy(kept)
        return PointLabels(label[mask], instance[mask])


def _sequence_folders(root: Path, split: str | Sequence[str] | None) -> list[Path]:
    base = root / "sequences" if (root / "sequences").is_dir() else root
    found = sorted(path.parent for path in base.glob("*/velodyne"))
    if not found:
        raise DataError(
            f"root of semantickitti must hold sequences such as sequences/00/velodyne; got none. Check the path: {root}"
        )
    if split is None or split == "all":
        return found
    wanted = SPLITS.get(split, (split,)) if isinstance(split, str) else tuple(split)
    kept = [path for path in found if path.name in wanted]
    is_named = isinstance(split, str) and split in SPLITS
    missing = sorted(set(wanted) - {path.name for path in kept})
    if not kept or (missing and not is_named):
        raise DataError(
            f"split of semantickitti must be train, val, test or sequences on disk, "
            f"{', '.join(path.name for path in found[:8])}; got {split}. Check {root}"
        )
    return kept


def _read_calibration(path: Path) -> dict[str, Float64[Tensor, "3 4"]]:
    """``P0`` to ``P3`` and ``Tr`` of a ``calib.txt``.

    Raises:
        DataError: the file is missing, or a matrix in it is.
    """
    try:
        lines = [line.split(":", 1) for line in path.read_text().splitlines() if ":" in line]
        found = {name.strip(): _matrix(numbers.split()) for name, numbers in lines}
        return {name: found[name] for name in ("P0", "P1", "P2", "P3", "Tr")}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"calibration must hold P0 to P3 and Tr, twelve numbers each; got {type(error).__name__} {error}. "
            f"Fetch KITTI odometry's calibration: {path}"
        ) from None


def _read_matrices(path: Path) -> list[Float64[Tensor, "3 4"]]:
    try:
        return [_matrix(line.split()) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"poses must be lines of twelve numbers; got {error}. Fetch the file again: {path}") from None


def _matrix(numbers: Sequence[str]) -> Float64[Tensor, "3 4"]:
    if len(numbers) != 12:
        raise ValueError(f"{len(numbers)} numbers")
    return torch.tensor([float(n) for n in numbers], dtype=torch.float64).reshape(3, 4)


def _rigid(matrix: Float64[Tensor, "3 4"]) -> RigidTransform:
    return RigidTransform(matrix[:, :3], matrix[:, 3])
