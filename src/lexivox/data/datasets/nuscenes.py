"""nuScenes keyframes: cameras, LiDAR, and the labels that were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from lexivox.data.classes import NUSCENES16, NUSCENES16_FROM_RAW, NUSCENES_RAW, ClassTable
from lexivox.data.datasets.files import finite_rows, read_image, read_no_image
from lexivox.data.datasets.nuscenes_cloud import (
    earlier_sweeps,
    ego_from_sensor,
    global_from_ego,
    lidar_sweep,
    point_labels,
    read_sweep,
)
from lexivox.data.datasets.nuscenes_extras import NuscenesExtras
from lexivox.data.datasets.nuscenes_labels import boxes_in_ego, label_files, read_point_labels
from lexivox.data.datasets.nuscenes_splits import scenes_of_split
from lexivox.data.datasets.nuscenes_tables import CHANNELS, LIDAR, find_version, open_tables
from lexivox.data.datasets.nuscenes_voxels import voxel_source
from lexivox.data.subset import every_nth
from lexivox.data.types import Boxes, CameraView, LidarSweep, PointLabels, Sample, VoxelLabels
from lexivox.errors import ConfigError, DataError
from lexivox.geometry.transform import RigidTransform

MICROSECOND_NS = 1000


class NuscenesDataset:
    """The keyframes of a nuScenes dataroot, in order of scene and time. Points are in LIDAR_TOP's frame.

    Args:
        root: folder with ``v1.0-*``, ``samples`` and perhaps ``sweeps``, ``lidarseg``, ``panoptic``.
        split: see :func:`~lexivox.data.datasets.nuscenes_splits.scenes_of_split`.
        version: folder of the tables; found by itself when there is only one.
        cameras: which to read, in this order; by default those of the standard six that the release knows.
        labels: ``"lidarseg"`` reads the class of every point, ``"panoptic"`` its instance too.
        boxes: read the labelled cuboids.
        num_sweeps: so many earlier sweeps are moved into the keyframe and appended to its cloud, fewer at the
            start of a drive. Their points carry label 0; their rays do not start at the keyframe's sensor.
        voxel_labels: read the class of every voxel: ``"occ3d"`` or ``"openoccupancy"`` those of the benchmark; ``True``
            those of synthetic data, with motion. Classes are of ``NUSCENES16``.
        voxel_root: folder of the benchmark's labels; by default ``gts`` or ``nuScenes-Occupancy`` below the root.
        every: keep every n-th keyframe in order of time (:func:`~lexivox.data.subset.every_nth`).

    Raises:
        DataError: tables or labels that were asked for are missing, or the split is unknown.
        ConfigError: an option has no such value.
    """

    name = "nuscenes"
    classes: ClassTable = NUSCENES16

    def __init__(
        self,
        root: str | PathLike[str],
        split: str | Sequence[str] | None = None,
        *,
        version: str | None = None,
        cameras: Sequence[str] | None = None,
        labels: str | None = None,
        boxes: bool = False,
        num_sweeps: int = 0,
        voxel_labels: bool | str = False,
        voxel_root: str | PathLike[str] | None = None,
        every: int = 1,
    ) -> None:
        self._arguments = (root, split, version, cameras, labels, boxes, num_sweeps, voxel_labels, voxel_root, every)
        self.root = Path(root)
        if labels not in (None, "lidarseg", "panoptic"):
            raise ConfigError(f"labels of nuscenes must be 'lidarseg', 'panoptic' or None; got {labels!r}.")
        if num_sweeps < 0:
            raise ConfigError(f"num_sweeps must be at least 0; got {num_sweeps}.")
        if every < 1:
            raise ConfigError(f"every of nuscenes must be at least 1; got {every}.")
        if not self.root.is_dir():
            raise DataError(f"root of nuscenes must be a folder; got none. Check the path: {self.root}")
        self.version = find_version(self.root, version)
        self._tables = open_tables(self.tables_folder)
        self.cameras = self._choose_cameras(cameras)
        self._label_kind, self._with_boxes, self._num_sweeps = labels, boxes, num_sweeps
        self._label_files = label_files(self.tables_folder, labels, self._tables) if labels else {}
        self._extras = NuscenesExtras(self.root, self.version)
        self._voxels = voxel_source(voxel_labels, self.root, self.version, voxel_root)
        if boxes and not (self.tables_folder / "sample_annotation.json").exists():
            raise DataError(f"boxes must be in the tables when asked for; got none in {self.tables_folder}")
        scene_names = [name.decode() for name in self._tables.scene_name]
        chosen = scenes_of_split(split, self.tables_folder, scene_names)
        self._rows = self._thinned(np.flatnonzero(chosen[self._tables.sample_scene]), every)
        self.tokens: Sequence[str] = [token.decode() for token in self._tables.sample_token[self._rows]]
        self.drives: Sequence[str] = [scene_names[i] for i in self._tables.sample_scene[self._rows]]

    def _thinned(self, rows: np.ndarray, every: int) -> np.ndarray:
        """Every n-th row by the time of its sweep, which is the keyframe's."""
        times = self._tables.file_time[self._tables.keyframe[rows, CHANNELS.index(LIDAR)]].tolist()
        tokens = [token.decode() for token in self._tables.sample_token[rows]]
        return rows[every_nth(times, tokens, every)]

    @property
    def tables_folder(self) -> Path:
        return self.root / self.version

    def __reduce__(self) -> tuple:
        """Workers open the tables again: mapped columns must not travel through a pipe."""
        return _reopen, self._arguments

    def __len__(self) -> int:
        return len(self._rows)

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
        row, token = self._row(index)
        tables = self._tables
        lidar_row = self._file(row, LIDAR, token)
        global_from_car = global_from_ego(tables, lidar_row)
        ego_from_global = global_from_car.inverse()
        lidar, truth = self._cloud(row, lidar_row, token)
        return Sample(
            token=token,
            drive=self.drives[index],
            timestamp_ns=int(tables.file_time[lidar_row]) * MICROSECOND_NS,
            views=tuple(self._view(row, camera, token, ego_from_global, with_images) for camera in self.cameras),
            lidar=lidar,
            ego_from_lidar=ego_from_sensor(tables, lidar_row),
            global_from_ego=global_from_car,
            point_labels=truth,
            boxes=self._boxes(row, ego_from_global) if self._with_boxes else None,
            voxel_labels=self._voxel_labels(row, index),
        )

    def files(self) -> Iterator[Path]:
        """Every file that reading all samples as asked for would open."""
        wanted = [CHANNELS.index(name) for name in (LIDAR, *self.cameras)]
        for row, token in zip(self._rows.tolist(), self.tokens, strict=True):
            for file in self._tables.keyframe[row][wanted].tolist():
                if file >= 0:
                    yield self._path(file)
            if self._label_kind is not None:
                yield self._label_path(row, token)

    def raw_labels(self, index: int) -> Int64[Tensor, " P"]:
        """Class 0..31 as stored for every point of the file, before any is dropped. Needs ``labels``."""
        row, token = self._row(index)
        if self._label_kind is None:
            raise ConfigError("raw labels must be asked for; got labels=None. Open with labels='lidarseg'.")
        raw, _ = read_point_labels(self._label_path(row, token), self._label_kind, token)
        return torch.from_numpy(raw)

    def fine_labels(self, index: int) -> Int64[Tensor, " P"]:
        """Concept of every point of the file, as synthetic data has it; ``fine_names`` tells their names."""
        row, token = self._row(index)
        return self._extras.of_points(self._lidar_token(row), token)

    def fine_pixels(self, index: int, camera: str) -> Int64[Tensor, "H W"]:
        """Concept of every pixel of a camera, where the synthetic data was written with them."""
        row, token = self._row(index)
        file_token = self._tables.file_token[self._file(row, camera, token)].decode()
        return self._extras.of_pixels(file_token, f"{camera} of sample {token}")

    @property
    def fine_names(self) -> tuple[str, ...]:
        return self._extras.names()

    def sweep_names(self, index: int) -> tuple[str, str]:
        """What label files of other projects are named after: the token and the file of a keyframe's sweep."""
        row, token = self._row(index)
        return self._lidar_token(row), self._path(self._file(row, LIDAR, token)).name.split(".")[0]

    def _lidar_token(self, row: int) -> str:
        return bytes(self._tables.file_token[self._tables.keyframe[row, 0]]).decode()

    def _row(self, index: int) -> tuple[int, str]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index of a sample must be below {len(self)}; got {index}.")
        return int(self._rows[index]), self.tokens[index]

    def _choose_cameras(self, cameras: Sequence[str] | None) -> tuple[str, ...]:
        has_images = np.any(self._tables.keyframe >= 0, axis=0)
        known = [name for name, has in zip(CHANNELS, has_images.tolist(), strict=True) if has and name != LIDAR]
        if cameras is None:
            if not known:
                raise DataError(f"tables must name at least one camera image; got none in {self.tables_folder}")
            return tuple(known)
        strange = [name for name in cameras if name not in known]
        if strange:
            raise ConfigError(f"cameras must be some of {', '.join(known)}; got {', '.join(strange)}.")
        return tuple(cameras)

    def _file(self, row: int, channel: str, token: str) -> int:
        file = int(self._tables.keyframe[row, CHANNELS.index(channel)])
        if file < 0:
            raise DataError(f"sample {token} must have a keyframe of {channel}; got none in {self.tables_folder}")
        return file

    def _path(self, file: int) -> Path:
        return self.root / self._tables.file_name[file].decode()

    def _view(self, row: int, camera: str, token: str, ego_from_global: RigidTransform, with_image: bool) -> CameraView:
        file = self._file(row, camera, token)
        tables = self._tables
        height, width = (int(n) for n in tables.file_hw[file])
        who = f"{camera} of sample {token}"
        if with_image:
            image = read_image(self._path(file), who, (height, width) if height else None)
        else:
            image = torch.zeros(0, height, width, dtype=torch.uint8) if height else read_no_image(self._path(file), who)
        return CameraView(
            name=camera,
            image=image,
            image_from_cam=torch.tensor(tables.calibration_intrinsics[tables.file_calibration[file]]),
            ego_from_cam=ego_from_global @ global_from_ego(tables, file) @ ego_from_sensor(tables, file),
            timestamp_ns=int(tables.file_time[file]) * MICROSECOND_NS,
        )

    def _cloud(self, row: int, lidar_row: int, token: str) -> tuple[LidarSweep, PointLabels | None]:
        who = f"{LIDAR} of sample {token}"
        records = read_sweep(self._path(lidar_row), who)
        kept = finite_rows(records[:, :3], who)
        labels = None
        if self._label_kind is not None:
            raw, instance = read_point_labels(self._label_path(row, token), self._label_kind, token)
            if len(raw) != len(records):
                raise DataError(
                    f"labels of {who} must be as many as its points, {len(records)}; got {len(raw)}. "
                    f"Fetch both files again: {self._label_path(row, token)}"
                )
            labels = raw[kept], instance[kept]
        parts = [records[kept], *earlier_sweeps(self._tables, self.root, row, self._num_sweeps, token)]
        sweep = lidar_sweep(np.concatenate(parts))
        return sweep, None if labels is None else point_labels(*labels, sweep.num_points)

    def _label_path(self, row: int, token: str) -> Path:
        name = self._label_files.get(self._lidar_token(row).encode())
        if name is None:
            raise DataError(
                f"sample {token} must have {self._label_kind} labels when asked for; got none in the table. "
                f"Open with labels=None or complete {self.tables_folder}"
            )
        return self.root / name

    def _voxel_labels(self, row: int, index: int) -> VoxelLabels | None:
        if self._voxels is None:
            return None
        return self._voxels.read(self.tokens[index], self._lidar_token(row), self.drives[index])

    def _boxes(self, row: int, ego_from_global: RigidTransform) -> Boxes:
        return boxes_in_ego(self._tables, row, ego_from_global, _CLASS_OF_CATEGORY)


_CLASS_OF_CATEGORY = dict(zip(NUSCENES_RAW.names, NUSCENES16_FROM_RAW.table, strict=True))


def _reopen(
    root, split, version, cameras, labels, boxes, num_sweeps, voxel_labels, voxel_root, every
) -> NuscenesDataset:
    return NuscenesDataset(
        root, split, version=version, cameras=cameras, labels=labels, boxes=boxes, num_sweeps=num_sweeps,
        voxel_labels=voxel_labels, voxel_root=voxel_root, every=every,
    )  # fmt: skip
