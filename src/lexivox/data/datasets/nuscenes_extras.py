"""Truth beside a nuScenes dataroot that only a simulator knows: ``extras/<version>/``.

``fine/<LiDAR token>.npy`` is the concept of every point, ``fine/<camera token>.png`` that of every pixel,
``occupancy/<LiDAR token>.npz`` every voxel, ``concepts.json`` the names.
"""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from lexivox.data.classes import NUSCENES16
from lexivox.data.datasets.files import read_image
from lexivox.data.types import VoxelLabels
from lexivox.errors import DataError, LexivoxError
from lexivox.geometry.grid import VoxelGrid


class NuscenesExtras:
    """Reads the folder of extras of one version.

    Raises:
        DataError: what was asked for is not there or is damaged.
    """

    def __init__(self, root: Path, version: str) -> None:
        self.folder = root / "extras" / version

    @property
    def has_voxels(self) -> bool:
        return (self.folder / "occupancy").is_dir()

    def names(self) -> tuple[str, ...]:
        path = self.folder / "concepts.json"
        try:
            return tuple(str(name) for name in json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError) as error:
            raise _absent("names of fine labels", path, error) from error

    def of_points(self, lidar_token: str, sample: str) -> Int64[Tensor, " P"]:
        path = self.folder / "fine" / f"{lidar_token}.npy"
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.int64))
        except (FileNotFoundError, ValueError, EOFError) as error:
            raise _absent(f"fine labels of sample {sample}", path, error) from error

    def of_pixels(self, camera_token: str, who: str) -> Int64[Tensor, "H W"]:
        path = self.folder / "fine" / f"{camera_token}.png"
        return read_image(path, f"fine labels of {who}")[0].long()  # grey: all channels are equal

    def of_voxels(self, lidar_token: str, sample: str) -> VoxelLabels:
        path = self.folder / "occupancy" / f"{lidar_token}.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                label, flow = archive["label"].astype(np.int64), archive["flow"].astype(np.float32)
                lower, size = archive["lower_m"].tolist(), archive["voxel_size_m"].tolist()
                grid = VoxelGrid(tuple(lower), tuple(size), label.shape, str(archive["frame"]))  # type: ignore[arg-type]
        except (FileNotFoundError, ValueError, KeyError, EOFError, BadZipFile, LexivoxError) as error:
            raise _absent(f"voxel labels of sample {sample}", path, error) from error
        return VoxelLabels(grid, torch.from_numpy(label), torch.from_numpy(flow), NUSCENES16.index_of("free"))


def _absent(what: str, path: Path, error: Exception) -> DataError:
    got = "none" if isinstance(error, FileNotFoundError) else f"{error}"
    return DataError(f"{what} must exist when asked for; got {got}. Only synthetic data has them: {path}")
