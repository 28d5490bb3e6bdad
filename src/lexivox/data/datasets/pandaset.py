"""PandaSet keyframes: six cameras, the spinning LiDAR, semantics and cuboids.

Frames. PandaSet's LiDAR pose frame (x right, y forward, z up) is not that of the sensor: its origin lies near
the road and the rays start at ``OPTICAL_CENTER_M`` in it. Here ``lidar`` has the axes of the pose frame and
its origin in the optical centre; ``ego`` (x forward, y left, z up) has its origin in that of the pose frame,
0.3 m above the road; ``global`` is PandaSet's world frame, that of the points, cuboids and poses on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from lexivox.data.classes import PANDASET9, PANDASET9_FROM_RAW, ClassTable
from lexivox.data.datasets.files import finite_rows, read_image, read_no_image
from lexivox.data.datasets.pandaset_boxes import boxes_in_ego
from lexivox.data.datasets.pandaset_drive import CAMERAS, PandasetDrive
from lexivox.data.datasets.restricted_pickle import read_frame
from lexivox.data.types import Boxes, CameraView, LidarSweep, PointLabels, Sample
from lexivox.errors import ConfigError, DataError
from lexivox.geometry.transform import RigidTransform

OPTICAL_CENTER_M = (0.02, 1.43, 1.75)
"""Where the rays of the 360-degree LiDAR start in its pose frame, fitted to the elevation of its beams."""

PANDAR64 = 0
"""Value of the column ``d`` for the 360-degree LiDAR; 1 is the forward PandarGT."""

POSE_FROM_LIDAR = RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor(OPTICAL_CENTER_M).double())
EGO_FROM_POSE = RigidTransform(
    torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64),
    torch.zeros(3, dtype=torch.float64),
)


class PandasetDataset:
    """The keyframes of PandaSet that are on disk, in order of drive and frame number.

    Args:
        root: folder of drives (``002``, ...), or one such folder.
        split: names of the drives to read; ``None`` or ``"all"`` takes every one.
        cameras: which to read, in this order; by default all six.
        labels: ``"semseg"`` reads the class of every point, as ``PANDASET9``.
        boxes: read the labelled cuboids.
        sensor: ``"pandar64"`` is the 360-degree LiDAR. ``"both"`` adds the PandarGT, whose rays do *not*
            start at the origin of the ``lidar`` frame: fit for looking, not for free space.
        keyframes: frame numbers to read, each must be on disk; by default all that are.

    Raises:
        DataError: no such drive or keyframe, or the layout is not that of PandaSet.
        ConfigError: an option has no such value.
    """

    name = "pandaset"
    classes: ClassTable = PANDASET9

    def __init__(
        self,
        root: str | PathLike[str],
        split: str | Sequence[str] | None = None,
        *,
        cameras: Sequence[str] | None = None,
        labels: str | None = None,
        boxes: bool = False,
        sensor: str = "pandar64",
        keyframes: Sequence[int] | None = None,
    ) -> None:
        self.root = Path(root)
        if labels not in (None, "semseg"):
            raise ConfigError(f"labels of pandaset must be 'semseg' or None; got {labels!r}.")
        if sensor not in ("pandar64", "both"):
            raise ConfigError(f"sensor of pandaset must be 'pandar64' or 'both'; got {sensor!r}.")
        strange = [name for name in cameras or () if name not in CAMERAS]
        if strange:
            raise ConfigError(f"cameras must be some of {', '.join(CAMERAS)}; got {', '.join(strange)}.")
        self.cameras = CAMERAS if cameras is None else tuple(cameras)
        self._with_labels, self._with_boxes, self._sensor = labels is not None, boxes, sensor
        drives = [PandasetDrive(path) for path in _drive_folders(self.root, split)]
        self._keyframes = [(drive, frame) for drive in drives for frame in drive.choose_keyframes(keyframes)]
        self.tokens: Sequence[str] = [f"{drive.name}-{frame:02d}" for drive, frame in self._keyframes]
        self.drives: Sequence[str] = [drive.name for drive, _ in self._keyframes]

    def __len__(self) -> int:
        return len(self._keyframes)

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
        drive, frame, token = self._at(index)
        global_from_pose = drive.lidar_pose(frame)
        global_from_ego = global_from_pose @ EGO_FROM_POSE.inverse()
        lidar, point_labels = self._cloud(drive, frame, token, global_from_pose @ POSE_FROM_LIDAR)
        return Sample(
            token=token,
            drive=drive.name,
            timestamp_ns=drive.lidar_time_ns(frame),
            views=tuple(_view(drive, frame, name, token, global_from_ego, with_images) for name in self.cameras),
            lidar=lidar,
            ego_from_lidar=EGO_FROM_POSE @ POSE_FROM_LIDAR,
            global_from_ego=global_from_ego,
            point_labels=point_labels,
            boxes=self._boxes(drive, frame, token, global_from_ego.inverse()),
        )

    def files(self) -> Iterator[Path]:
        """Every file that reading all samples as asked for would open, poses and times left out."""
        for drive, frame in self._keyframes:
            yield drive.lidar_path(frame)
            yield from (drive.image_path(camera, frame) for camera in self.cameras)
            if self._with_labels:
                yield drive.semseg_path(frame)
            if self._with_boxes:
                yield drive.cuboid_path(frame)

    def raw_labels(self, index: int) -> Int64[Tensor, " P"]:
        """Class 0..42 as stored for every point of the file (both LiDARs), before any is dropped."""
        drive, frame, token = self._at(index)
        return torch.from_numpy(_semantics(drive, frame, token))

    def _at(self, index: int) -> tuple[PandasetDrive, int, str]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index of a sample must be below {len(self)}; got {index}.")
        return *self._keyframes[index], self.tokens[index]

    def _cloud(
        self, drive: PandasetDrive, frame: int, token: str, global_from_lidar: RigidTransform
    ) -> tuple[LidarSweep, PointLabels | None]:
        who = f"lidar of sample {token}"
        table = read_frame(drive.lidar_path(frame), ("x", "y", "z", "i", "d"), who)
        kept = (table["d"] == PANDAR64) | (self._sensor == "both")
        xyz = np.stack([table[axis] for axis in "xyz"], axis=1).astype(np.float64)
        finite = finite_rows(xyz[kept], who)
        kept[kept] = finite
        sweep = LidarSweep(
            xyz=global_from_lidar.inverse().apply(torch.from_numpy(xyz[kept])).float(),
            intensity=torch.from_numpy(table["i"][kept].astype(np.float32)),
            ring=torch.zeros(int(kept.sum()), dtype=torch.int64),  # PandaSet does not tell it
            batch=torch.zeros(int(kept.sum()), dtype=torch.int64),
        )
        if not self._with_labels:
            return sweep, None
        raw = _semantics(drive, frame, token)
        if len(raw) != len(kept):
            raise DataError(
                f"labels of {who} must be as many as its points, {len(kept)}; got {len(raw)}. "
                f"Fetch both files again: {drive.semseg_path(frame)}"
            )
        label = PANDASET9_FROM_RAW.apply(torch.from_numpy(raw[kept]))
        return sweep, PointLabels(label, torch.zeros_like(label))

    def _boxes(self, drive: PandasetDrive, frame: int, token: str, ego_from_global: RigidTransform) -> Boxes | None:
        if not self._with_boxes:
            return None
        return boxes_in_ego(drive, frame, token, ego_from_global, drive.choose_keyframes(None))


def _drive_folders(root: Path, split: str | Sequence[str] | None) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"root of pandaset must be a folder; got none. Check the path: {root}")
    found = [root] if (root / "lidar").is_dir() else sorted(path.parent for path in root.glob("*/lidar"))
    if not found:
        raise DataError(f"root of pandaset must hold drives such as 002/lidar; got none. Check the path: {root}")
    if split is None or split == "all":
        return found
    wanted = [split] if isinstance(split, str) else list(split)
    names = [path.name for path in found]
    missing = [name for name in wanted if name not in names]
    if missing or not wanted:
        raise DataError(
            f"split of pandaset must name drives, some of {', '.join(names[:8])}; "
            f"got {', '.join(missing) or 'none'}. PandaSet has no official split: {root}"
        )
    return [path for path in found if path.name in wanted]


def _view(
    drive: PandasetDrive, frame: int, camera: str, token: str, global_from_ego: RigidTransform, with_image: bool
) -> CameraView:
    read = read_image if with_image else read_no_image
    image = read(drive.image_path(camera, frame), f"{camera} of sample {token}")
    return CameraView(
        name=camera,
        image=image,
        image_from_cam=drive.image_from_cam(camera),
        ego_from_cam=global_from_ego.inverse() @ drive.camera_pose(camera, frame),
        timestamp_ns=drive.camera_time_ns(camera, frame),
    )


def _semantics(drive: PandasetDrive, frame: int, token: str) -> np.ndarray:
    table = read_frame(drive.semseg_path(frame), ("class",), f"semseg of sample {token}")
    return table["class"].astype(np.int64)
