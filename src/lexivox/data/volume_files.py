"""Volumes of predictions, and what a manifest beside a volume claims of its grid and classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from lexivox.array_files import UnreadableError, read_npz
from lexivox.data.benchmark_classes import OCC3D
from lexivox.data.classes import ClassTable
from lexivox.errors import DataError, LexivoxError, ShapeError
from lexivox.geometry import grid as grids
from lexivox.geometry.grid import VoxelGrid


def claimed(path: Path) -> tuple[VoxelGrid, ClassTable]:
    """Grid and classes that a ``manifest.json`` claims for the volume beside it; those of Occ3D where there is none.

    Raises:
        DataError: it is damaged, or no manifest of ``lexivox labels``.
    """
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
        return read_npz(path)
    except UnreadableError as error:
        raise DataError(f"{who} must be a readable .npz; got {error}. Check {path}") from None


def _require_frame(path: Path, grid: VoxelGrid, frame: str | None, who: str) -> None:
    manifest = path.with_name("manifest.json")
    other = claimed(manifest)[0] if manifest.exists() else None
    if (other or grid) != grid or (frame or grid.frame) != grid.frame:
        raise DataError(f"{who} must be on {grid}; got {other or f'frame {frame}'}. Convert it first: {path}")
