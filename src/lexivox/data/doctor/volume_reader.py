"""A volume from a file that may be wrong: nothing but the numbers is believed, the rest is what it claims.

All formats of :mod:`lexivox.data.formats` and what ``lexivox labels`` writes; axes are left as a file has them, so
that somebody can find out that they are swapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from lexivox.data.benchmark_classes import OPENOCCUPANCY, SEMANTICKITTI_VOXELS, SURROUNDOCC
from lexivox.data.classes import ClassTable
from lexivox.data.formats import read_semantickitti_occupancy, read_semantickitti_voxels
from lexivox.data.volume_files import claimed
from lexivox.errors import DataError
from lexivox.geometry import grid as grids
from lexivox.geometry.grid import VoxelGrid

ENDINGS = (".npz", ".npy", ".label", ".bin")
"""Of files that may hold a volume."""

BITS = ClassTable("occupied or not", ("free", "occupied"), 0, 255, frozenset(), ((0, 0, 0), (255, 255, 255)))
"""What ``.bin`` volumes of SemanticKITTI tell."""


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """Numbers of voxels, and the grid, classes and format that the file claims for them."""

    label: Shaped[Tensor, "_ _ _"]
    grid: VoxelGrid
    classes: ClassTable
    format: str


def read_volume(path: Path) -> VolumeFile:
    """A volume by the ending of its file and by its size.

    ``.npz``: ``semantics`` (labels) or ``pred`` (predictions), Occ3D unless a ``manifest.json`` beside says else;
    ``.npy``: a dense volume of Occ3D or SurroundOcc, or rows of OpenOccupancy (z, y, x, class) or SurroundOcc
    (x, y, z, class); ``.label`` and ``.bin``: SemanticKITTI.

    Raises:
        DataError: the file is missing, damaged or holds no volume.
    """
    if path.suffix in (".label", ".bin"):
        return _semantickitti(path)
    try:
        with open(path, "rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            array = loaded if path.suffix == ".npy" else _member(loaded)
    except (OSError, ValueError, StopIteration, EOFError, TypeError, KeyError) as error:
        raise DataError(f"a volume must be an .npz or .npy of class numbers; got {error}. Check {path}") from None
    if array.dtype.kind not in "iuf":
        raise DataError(f"a volume must hold numbers; got {array.dtype}. Check {path}")
    numbers = torch.from_numpy(_whole(array, path))
    if numbers.ndim == 2 and numbers.shape[1] == 4:
        return _rows(numbers, path)
    if numbers.ndim != 3:
        raise DataError(f"a volume must have three axes, or rows of four; got {tuple(numbers.shape)}. Check {path}")
    manifest = path.with_name("manifest.json")
    return VolumeFile(numbers, *claimed(manifest), "lexivox labels" if manifest.exists() else "Occ3D")


def _whole(array: np.ndarray, path: Path) -> np.ndarray:
    """Class numbers; a few formats keep them as floats, but scores and holes are none."""
    if array.dtype.kind == "f":
        strange = ~np.isfinite(array) | (array != np.rint(array))
        if strange.any():
            text = f"{int(strange.sum())} of {array.size} numbers that are not, the first {array[strange][0]}"
            raise DataError(f"a volume must hold whole class numbers; got {text}. Take the argmax of scores: {path}")
    return array.astype(np.int64)


def _member(file) -> np.ndarray:
    return file[next(name for name in ("semantics", "pred", *file.files) if name in file.files)]


def _semantickitti(path: Path) -> VolumeFile:
    if path.suffix == ".label":
        label = read_semantickitti_voxels(path.parent, path.stem).label.long()
        return VolumeFile(label, grids.SEMANTICKITTI, SEMANTICKITTI_VOXELS, "SemanticKITTI .label")
    label = read_semantickitti_occupancy(path).long()
    invalid = path.with_suffix(".invalid")
    if invalid.exists():
        label[read_semantickitti_occupancy(invalid) & (label == 0)] = BITS.ignore
    return VolumeFile(label, grids.SEMANTICKITTI, BITS, "SemanticKITTI .bin")


def _rows(rows: Tensor, path: Path) -> VolumeFile:
    """The smallest grid that some order of its axes lets hold all rows; voxels without a row are free."""
    if len(rows) == 0 or int(rows.min()) < 0:
        raise DataError(f"rows of a volume must hold indices from 0 and a class; got {len(rows)} rows. Check {path}")
    most = (rows[:, :3].amax(0) + 1).tolist()
    for grid, classes, order, name in (
        (grids.SURROUNDOCC, SURROUNDOCC, (0, 1, 2), "SurroundOcc rows (x, y, z, class)"),
        (grids.OPENOCCUPANCY, OPENOCCUPANCY, (2, 1, 0), "OpenOccupancy rows (z, y, x, class)"),
    ):
        claimed = tuple(grid.shape[axis] for axis in order)
        for shape in (claimed, *permutations(grid.shape)):
            if all(m <= n for m, n in zip(most, shape, strict=True)):
                assert classes.free is not None  # every table of a volume has one
                volume = torch.full(shape, classes.free, dtype=torch.int64)
                volume[rows[:, 0], rows[:, 1], rows[:, 2]] = torch.where(rows[:, 3] == 0, classes.ignore, rows[:, 3])
                return VolumeFile(volume.permute(order), grid, classes, name)
    raise DataError(f"rows of a volume must lie in a grid that is known; got indices up to {most}. Check {path}")
