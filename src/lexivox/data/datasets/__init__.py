"""Readers of recordings on disk: one file for each format, each yields :class:`lexivox.data.types.Sample`."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from lexivox.data.types import SampleDataset
from lexivox.errors import ConfigError, DataError

KINDS = ("nuscenes", "pandaset", "semantickitti")


def open_dataset(
    kind: str, root: str | PathLike[str], split: str | Sequence[str] | None = None, **options: Any
) -> SampleDataset:
    """Open a recording as a sequence of keyframes; files are read when a sample is asked for.

    Args:
        kind: ``"nuscenes"``, ``"pandaset"`` or ``"semantickitti"``.
        root: folder of the data set.
        split: a split's name, a file that lists drives, or a list of drives; ``None`` takes everything.
        **options: those of :class:`~lexivox.data.datasets.nuscenes.NuscenesDataset`,
            :class:`~lexivox.data.datasets.pandaset.PandasetDataset` and
            :class:`~lexivox.data.datasets.semantickitti.SemanticKittiDataset`.

    Raises:
        ConfigError: an unknown kind or option.
        DataError: the folder does not hold such a data set.
    """
    if kind == "nuscenes":
        from lexivox.data.datasets.nuscenes import NuscenesDataset as Reader
    elif kind == "pandaset":
        from lexivox.data.datasets.pandaset import PandasetDataset as Reader
    elif kind == "semantickitti":
        from lexivox.data.datasets.semantickitti import SemanticKittiDataset as Reader
    else:
        raise ConfigError(f"kind of a data set must be one of {', '.join(KINDS)}; got {kind!r}.")
    try:
        return Reader(root, split, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        option = str(error).rsplit("argument ", 1)[-1]
        raise ConfigError(f"options of {kind} must be ones that the reader knows; got {option}.") from error


def kind_of(root: str | PathLike[str]) -> str:
    """The kind of the recording in a folder, by the layout of its folders.

    Raises:
        DataError: it looks like none that is known.
    """
    root = Path(root)
    if any(root.glob("v1.0-*/sample.json")):
        return "nuscenes"
    if (root / "lidar").is_dir() or any(root.glob("*/lidar")):
        return "pandaset"
    if any(root.glob("sequences/*/velodyne")) or any(root.glob("*/velodyne")):
        return "semantickitti"
    raise DataError(f"folder of a recording must look like one of {', '.join(KINDS)}; got another. Check {root}")
