"""Point clouds and point labels, read and written: lidarseg, panoptic, and the folders that nuScenes' server accepts.

Labels of SemanticKITTI in its nineteen classes stand beside its volumes in :mod:`lexivox.data.formats`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.array_files import UnreadableError, read_npz, read_records
from lexivox.data.benchmark_classes import NUSCENES16_POINTS, SEMANTICKITTI_CODES
from lexivox.data.classes import ClassTable
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.files import write_atomically

PANOPTIC_BASE = 1000
"""A panoptic number is class * 1000 + instance; the instance of stuff is 0."""

SUBMISSION_SPLITS = ("train", "val", "test", "mini_train", "mini_val")


CLOUD_COLUMNS = {"semantickitti": 4, "nuscenes": 5}
"""Numbers of a point on disk: x, y, z, intensity, and the ring of nuScenes."""


def read_cloud(path: str | Path, columns: int) -> Float[Tensor, "P C"]:
    """A ``.bin`` of float32 records without header; see :data:`CLOUD_COLUMNS`.

    Raises:
        DataError: the file is missing or no whole number of records.
    """
    try:
        values = read_records(path, "<f4")
    except UnreadableError as error:
        raise DataError(f"a cloud must be readable; got {error}. Check {path}") from None
    if len(values) % columns:
        raise DataError(f"a cloud must be records of {columns} numbers; got {len(values)} numbers. Check {path}")
    return torch.from_numpy(values.astype(np.float32)).reshape(-1, columns)


def write_cloud(path: str | Path, cloud: Float[Tensor, "P C"]) -> Path:
    """What :func:`read_cloud` reads."""
    data = cloud.numpy().astype("<f4").tobytes()
    return write_atomically(Path(path), lambda file: file.write(data))


def read_semantickitti_raw(path: str | Path) -> tuple[Int64[Tensor, "P"], Int64[Tensor, "P"]]:
    """Class of every point of a ``.label`` file in the table ``SEMANTICKITTI_RAW``, and its instance.

    Raises:
        DataError: the file is missing or holds unknown codes.
    """
    packed = _labels(path, "<u4")
    return SEMANTICKITTI_CODES.decode(packed & 0xFFFF, path), packed >> 16


def write_semantickitti_raw(path: str | Path, label: Int64[Tensor, "P"], instance: Int64[Tensor, "_"]) -> Path:
    """What :func:`read_semantickitti_raw` reads.

    Raises:
        ShapeError: not one instance for each point.
        DataError: a number that does not fit.
    """
    return write_packed(path, SEMANTICKITTI_CODES.encode(label), instance)


def write_packed(path: str | Path, code: Int64[Tensor, "P"], instance: Int64[Tensor, "_"]) -> Path:
    """uint32 of SemanticKITTI: the instance in the upper half, the code in the lower.

    Raises:
        ShapeError: not one instance for each point.
        DataError: an instance that 16 bits cannot hold.
    """
    if code.shape != instance.shape:
        raise ShapeError(f"points must have a class and an instance each; got {len(code)} and {len(instance)}.")
    if len(instance) and not 0 <= int(instance.min()) <= int(instance.max()) < 1 << 16:
        raise DataError(
            f"instances to write must be 0 to 65,535; got {int(instance.min())} to {int(instance.max())}. "
            f"Number the instances of each scan from 1. File: {path}"
        )
    data = (code | (instance << 16)).numpy().astype("<u4").tobytes()
    return write_atomically(Path(path), lambda file: file.write(data))


def read_nuscenes_lidarseg(path: str | Path, classes: ClassTable) -> Int64[Tensor, "P"]:
    """Class of every point of a ``_lidarseg.bin``: raw classes in label files, the challenge's sixteen in predictions.

    Raises:
        DataError: the file is missing, or holds other classes.
    """
    label = _labels(path, "u1")
    _require_classes(path, label, classes)
    return label


def write_nuscenes_lidarseg(path: str | Path, label: Int64[Tensor, "P"]) -> Path:
    """One byte for each point.

    Raises:
        DataError: a class that no byte holds.
    """
    if len(label) and not 0 <= int(label.min()) <= int(label.max()) < 256:
        raise DataError(f"classes to write must be 0 to 255; got {int(label.min())} to {int(label.max())}.")
    return write_atomically(Path(path), lambda file: file.write(label.to(torch.uint8).numpy().tobytes()))


def read_nuscenes_panoptic(path: str | Path, classes: ClassTable) -> tuple[Int64[Tensor, "P"], Int64[Tensor, "P"]]:
    """Class of every point of a ``_panoptic.npz`` and its whole number, class * 1000 + instance, as segment id.

    Raises:
        DataError: the file is missing or damaged, or holds other classes.
    """
    try:
        stored = read_npz(path, ("data",))["data"]
    except UnreadableError as error:
        raise DataError(f"panoptic labels must be an .npz with 'data'; got {error}. Check {path}") from None
    if stored.ndim != 1 or stored.dtype.kind not in "ui":
        raise DataError(
            f"panoptic labels must be one whole number for each point; got {stored.dtype} {stored.shape}. Check {path}"
        )
    number = torch.from_numpy(stored.astype(np.int64))
    label = number // PANOPTIC_BASE
    _require_classes(path, label, classes)
    return label, number


def write_nuscenes_panoptic(path: str | Path, label: Int64[Tensor, "P"], instance: Int64[Tensor, "_"]) -> Path:
    """``data``, uint16: class * 1000 + instance, the instance 0 for stuff and 1 to 999 within a class of things.

    Raises:
        ShapeError: not one instance for each point.
        DataError: numbers that do not fit.
    """
    if label.shape != instance.shape:
        raise ShapeError(f"points must have a class and an instance each; got {len(label)} and {len(instance)}.")
    number = label * PANOPTIC_BASE + instance
    if len(label) and (
        int(instance.min()) < 0 or int(instance.max()) >= PANOPTIC_BASE or int(number.max()) >= 1 << 16
        or int(label.min()) < 0
    ):  # fmt: skip
        raise DataError(
            f"instances to write must be 0 to {PANOPTIC_BASE - 1} and classes 0 to 64; got instances "
            f"{int(instance.min())} to {int(instance.max())}, classes {int(label.min())} to {int(label.max())}. "
            "Number the instances of each class from 1."
        )
    data = number.numpy().astype(np.uint16)
    return write_atomically(Path(path), lambda file: np.savez_compressed(file, data=data))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Modalities:
    """What a method looked at, as ``submission.json`` asks."""

    use_camera: bool
    use_lidar: bool
    use_radar: bool = False
    use_map: bool = False
    use_external: bool = False


def write_nuscenes_submission(
    folder: str | Path,
    split: str,
    modalities: Modalities,
    predictions: Iterable[tuple[str, Int64[Tensor, "P"], Int64[Tensor, "P"] | None]],
) -> Path:
    """The folder that nuScenes' server and devkit accept: ``submission.json`` and a file for each LiDAR record.

    Args:
        predictions: token of the LIDAR_TOP record, class of every point in the table ``NUSCENES16_POINTS``, and its
            instance for the panoptic task or ``None`` for lidarseg: the same throughout.

    Raises:
        ConfigError: no such split.
        DataError: a point without a class, no prediction, or both tasks in one folder.
    """
    if split not in SUBMISSION_SPLITS:
        raise ConfigError(f"split of a submission must be one of {', '.join(SUBMISSION_SPLITS)}; got {split!r}.")
    folder, tasks, known = Path(folder), set(), NUSCENES16_POINTS.evaluated
    for token, label, instance in predictions:
        if len(label) and not known[0] <= int(label.min()) <= int(label.max()) <= known[-1]:
            raise DataError(
                f"classes of a submission must be {known[0]} to {known[-1]}; got {int(label.min())} to "
                f"{int(label.max())} in {token}. "
                "Every point must get a class."
            )
        task = "lidarseg" if instance is None else "panoptic"
        tasks.add(task)
        path = folder / task / split / f"{token}_{task}"
        if instance is None:
            write_nuscenes_lidarseg(path.with_name(f"{path.name}.bin"), label)
        else:
            write_nuscenes_panoptic(path.with_name(f"{path.name}.npz"), label, instance)
    if len(tasks) != 1:
        raise DataError(f"a submission must hold predictions of one task; got {', '.join(sorted(tasks)) or 'none'}.")
    meta = ({"task": "segmentation"} if tasks == {"panoptic"} else {}) | asdict(modalities)
    text = json.dumps({"meta": meta}, indent=1) + "\n"
    return write_atomically(folder / split / "submission.json", lambda file: file.write(text.encode()))


def _labels(path: str | Path, dtype: str) -> Int64[Tensor, "P"]:
    try:
        return torch.from_numpy(read_records(path, dtype).astype(np.int64))
    except UnreadableError as error:
        raise DataError(f"point labels must be readable; got {error}. Check {path}") from None


def _require_classes(path: str | Path, label: Tensor, classes: ClassTable) -> None:
    if len(label) and not 0 <= int(label.min()) <= int(label.max()) < classes.num_classes:
        strange = int(label.min()) if int(label.min()) < 0 else int(label.max())
        raise DataError(
            f"classes must be 0 to {classes.num_classes - 1}, those of {classes.name}; got {strange}. "
            f"Check that the file belongs here: {path}"
        )
