"""Labels of voxels for nuScenes keyframes: those of a benchmark, or those that a simulator wrote beside its data."""

from __future__ import annotations

from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from lexivox.data.benchmark_classes import NUSCENES16_FROM_OCC3D, NUSCENES16_FROM_OPENOCCUPANCY
from lexivox.data.classes import NUSCENES16, LabelMap
from lexivox.data.datasets.nuscenes_extras import NuscenesExtras
from lexivox.data.dense_labels import DenseLabels
from lexivox.data.formats import read_occ3d, read_openoccupancy
from lexivox.data.types import IGNORED, VoxelLabels
from lexivox.errors import ConfigError, DataError

FOLDERS = {"occ3d": "gts", "openoccupancy": "nuScenes-Occupancy"}
"""Where each benchmark's labels lie below the dataroot, unless a folder is given."""


@runtime_checkable
class VoxelSource(Protocol):
    """Gives the labels of a keyframe by its tokens and scene."""

    def read(self, sample: str, lidar_token: str, scene: str) -> VoxelLabels: ...


def voxel_source(
    kind: bool | str, root: Path, version: str, folder: str | PathLike[str] | None = None
) -> VoxelSource | None:
    """What the reader's ``voxel_labels`` asks for: nothing, a simulator's (``True``), or a benchmark's.

    Raises:
        ConfigError: no such kind.
        DataError: there are no such labels.
    """
    if kind is False:
        return None
    if kind is True:
        extras = NuscenesExtras(root, version)
        if not extras.has_voxels:
            raise DataError(f"voxel labels must be beside the data set when asked for; got none in {extras.folder}")
        return SimulatedVoxels(extras)
    if kind not in FOLDERS:
        raise ConfigError(f"voxel_labels of nuscenes must be True, False or one of {', '.join(FOLDERS)}; got {kind!r}.")
    place = Path(folder) if folder is not None else root / FOLDERS[kind]
    if not place.is_dir():
        raise DataError(f"{kind} labels must lie in a folder; got none. Pass voxel_root or unpack them into {place}")
    return Occ3dVoxels(place) if kind == "occ3d" else OpenOccupancyVoxels(place)


class SimulatedVoxels:
    """Class and motion, as only synthetic data has them."""

    def __init__(self, extras: NuscenesExtras) -> None:
        self.extras = extras

    def read(self, sample: str, lidar_token: str, scene: str) -> VoxelLabels:
        return self.extras.of_voxels(lidar_token, sample)


class Occ3dVoxels:
    """``SCENE/TOKEN/labels.npz``: ego frame, seen by LiDAR and cameras. "others" is occupied by noise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, sample: str, lidar_token: str, scene: str) -> VoxelLabels:
        return _attached(read_occ3d(self.folder / scene / sample / "labels.npz"), NUSCENES16_FROM_OCC3D, sample)


class OpenOccupancyVoxels:
    """``scene_*/occupancy/LIDAR_TOKEN.npy``: LiDAR frame. What a file calls noise is ignored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _paths(self) -> dict[str, Path]:
        return {path.stem: path for path in self.folder.glob("scene_*/occupancy/*.npy")}

    def read(self, sample: str, lidar_token: str, scene: str) -> VoxelLabels:
        path = self._paths.get(lidar_token)
        if path is None:
            raise DataError(
                f"sample {sample} must have openoccupancy labels when asked for; got none of {lidar_token}. "
                f"Complete {self.folder}"
            )
        return _attached(read_openoccupancy(path), NUSCENES16_FROM_OPENOCCUPANCY, sample)


def _attached(labels: DenseLabels, label_map: LabelMap, sample: str) -> VoxelLabels:
    """In the sixteen classes of nuScenes with free space; nothing is said of motion."""
    label = labels.mapped(label_map).label.long()
    label[labels.label == labels.classes.ignore] = IGNORED
    assert NUSCENES16.free is not None
    still = torch.zeros(1, 1, 1, 2).expand(*labels.grid.shape, 2)
    return VoxelLabels(labels.grid, label, still, NUSCENES16.free, labels.seen_by_lidar, labels.seen_by_camera)
