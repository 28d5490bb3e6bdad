"""Label files of the benchmarks, read and written: each reader gives labels that know their grid and classes.

Axis order, frame and the number of the free class differ between them; that difference ends here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lexivox.array_files import UnreadableError, read_npy, read_npz, read_records
from lexivox.data.benchmark_classes import (
    OCC3D,
    OPENOCCUPANCY,
    SEMANTICKITTI,
    SEMANTICKITTI_CODES,
    SEMANTICKITTI_FROM_RAW,
    SEMANTICKITTI_TO_RAW,
    SEMANTICKITTI_VOXELS,
    SURROUNDOCC,
)
from lexivox.data.classes import ClassTable
from lexivox.data.dense_labels import DenseLabels
from lexivox.data.point_formats import write_packed
from lexivox.errors import DataError
from lexivox.files import write_atomically
from lexivox.geometry import grid as grids
from lexivox.geometry.grid import VoxelGrid


def read_occ3d(path: str | Path) -> DenseLabels:
    """``labels.npz`` of Occ3D-nuScenes: [x, y, z] in the ego frame, 17 is free, both masks.

    Raises:
        DataError: the file is missing, damaged or of another format.
    """
    arrays = _load_npz(path, ("semantics", "mask_lidar", "mask_camera"), grids.OCC3D.shape)
    for name in ("mask_lidar", "mask_camera"):
        if arrays[name].max() > 1 or arrays[name].min() < 0:
            raise DataError(
                f"'{name}' must hold 0 and 1; got {arrays[name].min()} to {arrays[name].max()}. Check {path}"
            )
    seen = [torch.from_numpy(arrays[name] != 0) for name in ("mask_lidar", "mask_camera")]
    return _labels(path, grids.OCC3D, OCC3D, arrays["semantics"], *seen)


def write_occ3d(path: str | Path, labels: DenseLabels) -> Path:
    """Masks that are not known are written as "seen everywhere"."""
    _require_grid(labels, grids.OCC3D, OCC3D)
    everywhere = torch.ones(labels.grid.shape, dtype=torch.bool)
    masks = (labels.seen_by_lidar, labels.seen_by_camera)
    lidar, camera = (everywhere if mask is None else mask for mask in masks)
    arrays = {
        "semantics": labels.label.numpy(),
        "mask_lidar": lidar.to(torch.uint8).numpy(),
        "mask_camera": camera.to(torch.uint8).numpy(),
    }
    return write_atomically(Path(path), lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def read_openoccupancy(path: str | Path) -> DenseLabels:
    """``.npy`` rows (z, y, x, class) of OpenOccupancy, LIDAR_TOP frame. Class 0 in a file is noise: ignored.

    Where several rows name a voxel their majority wins, ties the smaller class; noise only unopposed.

    Raises:
        DataError: the file is missing, damaged, or has rows outside the grid or other classes.
    """
    rows = _load_rows(path, 4)
    return _from_rows(path, rows[:, [2, 1, 0]], rows[:, 3], grids.OPENOCCUPANCY, OPENOCCUPANCY, _majority)


def write_openoccupancy(path: str | Path, labels: DenseLabels) -> Path:
    _require_grid(labels, grids.OPENOCCUPANCY, OPENOCCUPANCY)
    index, label = _rows_of(labels)
    rows = torch.cat([index[:, [2, 1, 0]], torch.where(label == OPENOCCUPANCY.ignore, 0, label)[:, None]], 1)
    return _save_npy(path, rows)


def read_surroundocc(path: str | Path) -> DenseLabels:
    """``.npy`` rows (x, y, z, class) of SurroundOcc, LIDAR_TOP frame. Class 0 in a file is noise: ignored.

    Where several rows name a voxel the last one counts, as in its tool.

    Raises:
        DataError: as :func:`read_openoccupancy`.
    """
    rows = _load_rows(path, 4)
    return _from_rows(path, rows[:, :3], rows[:, 3], grids.SURROUNDOCC, SURROUNDOCC, _last)


def write_surroundocc(path: str | Path, labels: DenseLabels) -> Path:
    _require_grid(labels, grids.SURROUNDOCC, SURROUNDOCC)
    index, label = _rows_of(labels)
    return _save_npy(path, torch.cat([index, torch.where(label == SURROUNDOCC.ignore, 0, label)[:, None]], 1))


def read_semantickitti_voxels(folder: str | Path, name: str) -> DenseLabels:
    """``name.label`` with ``name.invalid`` and ``name.occluded`` beside it, where they are.

    Voxels that were never observed (invalid) and classes that are not scored are ignored; ``seen_by_lidar`` is
    what is neither invalid nor occluded.

    Raises:
        DataError: the label is missing or of another size.
    """
    folder, shape = Path(folder), grids.SEMANTICKITTI.shape
    raw = _load_binary(folder / f"{name}.label", "<u2", grids.SEMANTICKITTI.num_voxels)
    code = torch.from_numpy(raw.astype(np.int64)).reshape(shape)
    label = SEMANTICKITTI_FROM_RAW.apply(SEMANTICKITTI_CODES.decode(code, folder / f"{name}.label"))
    label[(label == SEMANTICKITTI.ignore) & (code != 0)] = SEMANTICKITTI_VOXELS.ignore
    invalid, occluded = (_bits(folder / f"{name}.{part}") for part in ("invalid", "occluded"))
    if invalid is not None:
        label[invalid] = SEMANTICKITTI_VOXELS.ignore
    seen = None if invalid is None or occluded is None else ~(invalid | occluded)
    return DenseLabels(grids.SEMANTICKITTI, SEMANTICKITTI_VOXELS, label.to(torch.uint8), seen)


def read_semantickitti_raw_voxels(path: str | Path) -> Int64[Tensor, "X Y Z"]:
    """Class of every voxel in the table ``SEMANTICKITTI_RAW``, as labelled: unlabelled ones are free.

    Raises:
        DataError: the file is missing, of another size or holds unknown codes.
    """
    raw = _load_binary(path, "<u2", grids.SEMANTICKITTI.num_voxels)
    return SEMANTICKITTI_CODES.decode(torch.from_numpy(raw.astype(np.int64)).reshape(grids.SEMANTICKITTI.shape), path)


def write_semantickitti_raw_voxels(path: str | Path, label: Int64[Tensor, "X Y Z"]) -> Path:
    """What :func:`read_semantickitti_raw_voxels` reads.

    Raises:
        DataError: another shape than the benchmark's grid.
    """
    if tuple(label.shape) != grids.SEMANTICKITTI.shape:
        raise DataError(f"volume to write must be {grids.SEMANTICKITTI.shape}; got {tuple(label.shape)}.")
    data = SEMANTICKITTI_CODES.encode(label).numpy().astype("<u2").tobytes()
    return write_atomically(Path(path), lambda file: file.write(data))


def read_semantickitti_occupancy(path: str | Path) -> Bool[Tensor, "X Y Z"]:
    """``.bin``, ``.invalid`` or ``.occluded``: a volume of bits; ``.bin`` holds the voxels that one scan hit.

    Raises:
        DataError: the file is missing or of another size.
    """
    packed = _load_binary(path, "u1", grids.SEMANTICKITTI.num_voxels // 8)
    return torch.from_numpy(np.unpackbits(packed)).reshape(grids.SEMANTICKITTI.shape).bool()


def write_semantickitti_occupancy(path: str | Path, volume: Bool[Tensor, "X Y Z"]) -> Path:
    """What :func:`read_semantickitti_occupancy` reads.

    Raises:
        DataError: another shape than the benchmark's grid.
    """
    if tuple(volume.shape) != grids.SEMANTICKITTI.shape:
        raise DataError(f"volume to write must be {grids.SEMANTICKITTI.shape}; got {tuple(volume.shape)}.")
    return write_atomically(Path(path), lambda file: file.write(np.packbits(volume.numpy()).tobytes()))


def write_semantickitti_voxels(folder: str | Path, name: str, labels: DenseLabels) -> Path:
    """A submission: ``name.label`` in raw codes, 0 where free or ignored."""
    _require_grid(labels, grids.SEMANTICKITTI, SEMANTICKITTI_VOXELS)
    label = labels.label.long()
    label[label == SEMANTICKITTI_VOXELS.ignore] = SEMANTICKITTI.ignore
    raw = SEMANTICKITTI_CODES.encode(SEMANTICKITTI_TO_RAW.apply(label)).numpy().astype("<u2")
    return write_atomically(Path(folder) / f"{name}.label", lambda file: file.write(raw.tobytes()))


def read_semantickitti_points(path: str | Path, ids: str = "official") -> tuple[Int64[Tensor, "P"], Int64[Tensor, "P"]]:
    """Class (of :data:`SEMANTICKITTI`) and segment id of every point of a ``.label`` file.

    Args:
        ids: ``"official"`` takes the whole 32-bit label as the id, as the official tool does: raw classes that
            become one class, such as road and lane marking, are then different segments, and a perfect
            prediction of both scores 0.533. ``"merged"`` counts ids within the nineteen classes.

    Raises:
        DataError: the file is missing, damaged or holds unknown codes.
    """
    packed = torch.from_numpy(_load_binary(path, "<u4").astype(np.int64))
    label = SEMANTICKITTI_FROM_RAW.apply(SEMANTICKITTI_CODES.decode(packed & 0xFFFF, path))
    return label, packed if ids == "official" else packed >> 16


def write_semantickitti_points(path: str | Path, label: Int64[Tensor, "P"], instance: Int64[Tensor, "_"]) -> Path:
    """A submission: raw codes below, instances (1 to 65,535, 0 for stuff) above.

    Raises:
        ShapeError, DataError: see :func:`~lexivox.data.point_formats.write_packed`; a class that is none.
    """
    return write_packed(path, SEMANTICKITTI_CODES.encode(SEMANTICKITTI_TO_RAW.apply(label)), instance)


# ------------------------------------------------------------------------------------------------- helpers


def _labels(path: str | Path, grid: VoxelGrid, classes: ClassTable, label: np.ndarray, *seen: Tensor) -> DenseLabels:
    low, high = int(label.min()), int(label.max())
    if low < 0 or high > 255:
        raise DataError(
            f"classes must be 0 to {classes.num_classes - 1}, those of {classes.name}; got {low} to {high}. "
            f"Check {path}"
        )
    try:
        return DenseLabels(grid, classes, torch.from_numpy(label.astype(np.uint8)), *seen)
    except DataError as error:
        raise DataError(f"{error} File: {path}") from None


def _from_rows(
    path: str | Path,
    index: Int64[Tensor, "N 3"],
    label: Int64[Tensor, "N"],
    grid: VoxelGrid,
    classes: ClassTable,
    choose: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]],
) -> DenseLabels:
    outside = ~grid.contains_index(index)
    if bool(outside.any()):
        raise DataError(
            f"voxel indices must lie in a grid of {grid.shape}; got {index[outside][0].tolist()} and "
            f"{int(outside.sum())} such rows. Check the order of the columns: {path}"
        )
    if bool(((label < 0) | (label >= classes.num_classes)).any()):
        raise DataError(
            f"classes must be 0 to {classes.num_classes - 1}, those of {classes.name}; got {int(label.min())} to "
            f"{int(label.max())}. Check that the last column is the class: {path}"
        )
    assert classes.free is not None  # every table of a volume has one
    volume = torch.full((grid.num_voxels,), classes.free, dtype=torch.uint8)
    flat, best = choose(grid.flat_from_index(index), label, classes.num_classes)
    volume[flat] = torch.where(best == 0, classes.ignore, best).to(torch.uint8)
    return DenseLabels(grid, classes, volume.reshape(grid.shape))


def _majority(
    flat: Int64[Tensor, "N"], label: Int64[Tensor, "N"], num_classes: int
) -> tuple[Int64[Tensor, "M"], Int64[Tensor, "M"]]:
    """Distinct voxels and the label most rows give each; ties the smaller, 0 (noise) only unopposed."""
    pairs, votes = torch.unique(flat * num_classes + label, return_counts=True)
    voxel, row = torch.unique_consecutive(pairs // num_classes, return_inverse=True)
    number = pairs % num_classes
    rank = torch.where(number == 0, 0, votes) * num_classes + (num_classes - 1 - number)
    best = torch.full((len(voxel),), -1).scatter_reduce_(0, row, rank, "amax")
    return voxel, num_classes - 1 - best % num_classes


def _last(
    flat: Int64[Tensor, "N"], label: Int64[Tensor, "N"], num_classes: int
) -> tuple[Int64[Tensor, "M"], Int64[Tensor, "M"]]:
    """Distinct voxels and the label that the last row of each gives."""
    voxel, row = torch.unique(flat, return_inverse=True)
    last = torch.full((len(voxel),), -1).scatter_reduce_(0, row, torch.arange(len(flat)), "amax")
    return voxel, label[last]


def _rows_of(labels: DenseLabels) -> tuple[Int64[Tensor, "N 3"], Int64[Tensor, "N"]]:
    index = (labels.label != labels.classes.free).nonzero()
    return index, labels.label[index[:, 0], index[:, 1], index[:, 2]].long()


def _require_grid(labels: DenseLabels, grid: VoxelGrid, classes: ClassTable) -> None:
    if labels.grid != grid or labels.classes != classes:
        raise DataError(
            f"labels to write must be on {grid} in {classes.name}; got {labels.grid} in {labels.classes.name}. "
            "Use convert() and mapped() first."
        )


def _load_npz(path: str | Path, names: tuple[str, ...], shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    try:
        arrays = read_npz(path, names)
    except UnreadableError as error:
        raise DataError(f"labels must be an .npz with {', '.join(names)}; got {error}. Check {path}") from None
    for name, array in arrays.items():
        if array.shape != shape:
            raise DataError(f"'{name}' must have the shape {shape}; got {array.shape}. Check {path}")
        if array.dtype.kind not in "uib":
            raise DataError(f"'{name}' must hold whole numbers; got {array.dtype}. Check {path}")
    return arrays


def _load_rows(path: str | Path, columns: int) -> Int64[Tensor, "N C"]:
    try:
        rows = read_npy(path)
    except UnreadableError as error:
        raise DataError(f"labels must be a readable .npy; got {error}. Check {path}") from None
    is_number = rows.dtype.kind in "uif"
    if rows.ndim != 2 or rows.shape[1] != columns or not is_number or not (np.abs(rows.astype(float)) < 2.0**31).all():
        raise DataError(f"labels must be finite rows of {columns} numbers; got {rows.dtype} {rows.shape}. Check {path}")
    return torch.from_numpy(np.rint(rows).astype(np.int64))


def _save_npy(path: str | Path, rows: Tensor) -> Path:
    return write_atomically(Path(path), lambda file: np.save(file, rows.numpy().astype(np.uint16)))


def _load_binary(path: str | Path, dtype: str, count: int | None = None) -> np.ndarray:
    try:
        data = read_records(path, dtype)
    except UnreadableError as error:
        raise DataError(f"labels must be readable; got {error}. Check {path}") from None
    if count is not None and len(data) != count:
        raise DataError(f"labels must be {count:,} numbers of {np.dtype(dtype).name}; got {len(data):,}. Check {path}")
    return data


def _bits(path: Path) -> Tensor | None:
    return read_semantickitti_occupancy(path) if path.exists() else None
