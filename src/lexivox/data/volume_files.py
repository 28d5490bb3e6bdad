"""A volume from a file that may be wrong: nothing but the numbers is believed, the rest is what it claims."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from lexivox.data.benchmark_classes import OCC3D
from lexivox.data.classes import ClassTable
from lexivox.errors import DataError, LexivoxError
from lexivox.geometry import grid as grids
from lexivox.geometry.grid import VoxelGrid


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """Numbers of voxels, and the grid and classes that the file claims for them."""

    label: Shaped[Tensor, "_ _ _"]
    grid: VoxelGrid
    classes: ClassTable


def read_volume(path: Path) -> VolumeFile:
    """``semantics`` (labels) or ``pred`` (predictions) of an ``.npz``; Occ3D's grid unless a manifest says else.

    Raises:
        DataError: the file is damaged, holds neither, or its manifest is.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            name = next(name for name in ("semantics", "pred", *file.files) if name in file.files)
            label = torch.from_numpy(file[name].astype(np.int64))
    except (OSError, ValueError, StopIteration, EOFError, TypeError) as error:
        raise DataError(f"a volume must be an .npz of class numbers; got {error}. Check {path}") from None
    if label.ndim != 3:
        raise DataError(f"a volume must have three axes; got {tuple(label.shape)}. Check {path}")
    grid, classes = _claimed(path.with_name("manifest.json"))
    return VolumeFile(label, grid, classes)


def _claimed(path: Path) -> tuple[VoxelGrid, ClassTable]:
    if not path.exists():
        return grids.OCC3D, OCC3D
    try:
        manifest = json.loads(path.read_text())
        grid, names = manifest["grid"], tuple(manifest["classes"]["names"])
        lower, size = (tuple(float(v) for v in grid[key]) for key in ("lower_m", "voxel_size_m"))
        free = names.index("free")
        table = ClassTable(
            manifest["classes"]["table"], names, free, manifest["unobserved"], frozenset(), ((0, 0, 0),) * len(names)
        )
        return VoxelGrid(lower, size, tuple(grid["shape"]), grid["frame"]), table  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError, LexivoxError) as error:
        raise DataError(f"a manifest must be one of lexivox labels; got {error!r}. Check {path}") from None
