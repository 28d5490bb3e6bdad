"""A volume from a file that may be wrong: nothing but the numbers is believed, the rest is what it claims."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from lexivox.data.benchmark_classes import OCC3D
from lexivox.data.classes import ClassTable
from lexivox.errors import DataError, LexivoxError, ShapeError
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


PREDICTED = ("pred", "semantics")
OBJECTS = ("instances",)


def read_prediction(
    path: Path, grid: VoxelGrid, who: str, names: tuple[str, ...] = PREDICTED
) -> Shaped[Tensor, "X Y Z"]:
    """The class volume of one sample: the first of ``names`` in an ``.npz``; of classes, its only array will do.

    Args:
        who: of what, for errors, such as ``"prediction of TOKEN"``.
        names: :data:`PREDICTED` for classes, :data:`OBJECTS` for the objects of a panoptic volume.

    What the file claims of its grid, in a ``manifest.json`` beside it or an array ``frame``, must be true of ``grid``.

    Raises:
        DataError: the file is damaged, holds no whole numbers, or claims another grid or frame.
        ShapeError: another shape.
    """
    arrays = _arrays(path, who)
    name = next((name for name in names if name in arrays), None)
    if name is None and (len(arrays) != 1 or names == OBJECTS):
        raise DataError(
            f"{who} must hold an array {' or '.join(names)}; got {', '.join(arrays) or 'none'}. Check {path}"
        )
    volume = arrays[name or next(iter(arrays))]
    if volume.dtype.kind not in "ui":
        raise DataError(f"{who} must hold whole class numbers; got {volume.dtype}. Take the argmax. Check {path}")
    if volume.shape != grid.shape:
        turned = " Its axes look like z, y, x." if volume.shape == grid.shape[::-1] else ""
        raise ShapeError(f"{who} must have the grid's shape {grid.shape}; got {volume.shape}.{turned} Check {path}")
    _require_frame(path, grid, str(arrays["frame"]) if "frame" in arrays else None, who)
    return torch.from_numpy(volume)


def _arrays(path: Path, who: str) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{who} must be a readable .npz; got {reason}. Check {path}") from None


def _require_frame(path: Path, grid: VoxelGrid, frame: str | None, who: str) -> None:
    manifest = path.with_name("manifest.json")
    claimed = _claimed(manifest)[0] if manifest.exists() else None
    if (claimed or grid) != grid or (frame or grid.frame) != grid.frame:
        raise DataError(f"{who} must be on {grid}; got {claimed or f'frame {frame}'}. Convert it first: {path}")
