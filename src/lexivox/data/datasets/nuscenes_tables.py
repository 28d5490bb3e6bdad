"""The nuScenes tables as columns: built once from JSON, kept on disk, memory-mapped afterwards.

The tables of v1.0-trainval are 2.6 million file records, as many ego poses and 1.2 million boxes, gigabytes
of JSON. A reader of keyframes needs a few columns of them. They are written once to a cache folder
(``LEXIVOX_CACHE``, else ``~/.cache/lexivox``) under a key made of the size and time of every table, and
mapped from there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from lexivox.errors import DataError

LIDAR = "LIDAR_TOP"
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
"""The order of the published index files (POP-3D spec 1.1); learned camera embeddings depend on it."""
CHANNELS = (LIDAR, *CAMERAS)

FORMAT = 1
"""Raise when the columns change: older caches are then built anew."""
MIN_CACHED_BYTES = 4 << 20
"""Tables smaller than this are read faster than a cache is checked."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NuscenesTables:
    """Columns of the tables, samples in order of scene and time. S samples, F files, N boxes, L LiDAR sweeps.

    Texts are byte strings. Poses are rows ``x, y, z, qw, qx, qy, qz`` in float64. Times are microseconds.

    Attributes:
        keyframe: (S, 1 + 6) row of the file of each of ``CHANNELS`` at each keyframe, -1 where there is none.
        file_token: (F,) token of the record, by which labels name it.
        sweep: (L,) file rows of all LiDAR records in order of scene and time, keyframes included.
        sweep_scene: (L,) scene of each.
        sweep_of_sample: (S,) position of each keyframe in ``sweep``, -1 where there is none.
        box_start: (S + 1,) boxes of sample i are the rows ``box_start[i]:box_start[i + 1]``.
        box_velocity: (N, 2) metres per second along the global x and y, NaN where a track has one box.
    """

    scene_name: np.ndarray
    channel: np.ndarray
    sample_token: np.ndarray
    sample_scene: np.ndarray
    sample_time: np.ndarray
    keyframe: np.ndarray
    sweep: np.ndarray
    sweep_scene: np.ndarray
    sweep_of_sample: np.ndarray
    file_token: np.ndarray
    file_name: np.ndarray
    file_time: np.ndarray
    file_hw: np.ndarray
    file_pose: np.ndarray
    file_calibration: np.ndarray
    pose: np.ndarray
    calibration_pose: np.ndarray
    calibration_intrinsics: np.ndarray
    category_name: np.ndarray
    box_start: np.ndarray
    box_pose: np.ndarray
    box_size: np.ndarray
    box_velocity: np.ndarray
    box_category: np.ndarray
    box_track: np.ndarray
    box_num_points: np.ndarray


def open_tables(folder: Path) -> NuscenesTables:
    """The columns of the tables in ``folder``, from the cache when it fits them, else built (and cached).

    Raises:
        DataError: a table or column is missing, or records name others that do not exist.
    """
    from lexivox.data.datasets.nuscenes_index import build_tables

    tables = sorted(folder.glob("*.json"))
    if sum(path.stat().st_size for path in tables) < MIN_CACHED_BYTES:
        return build_tables(folder)
    place = _cache_folder(folder, tables)
    if place.is_dir():
        try:
            return _load(place)
        except (OSError, ValueError, EOFError) as error:
            _log.warning("the table cache cannot be read and is built anew: %s (%s)", error, place)
    _log.info("reading the tables for the first time, which takes a minute for v1.0-trainval: %s", folder)
    built = build_tables(folder)
    try:
        _save(built, place)
        return _load(place)
    except OSError as error:
        _log.warning("the table cache cannot be written, so every start reads the tables: %s (%s)", error, place)
        return built


def _cache_folder(folder: Path, tables: list[Path]) -> Path:
    base = Path(os.environ.get("LEXIVOX_CACHE") or Path.home() / ".cache" / "lexivox")
    facts = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in tables]
    return base / "nuscenes" / _digest(str(folder.resolve())) / _digest(json.dumps([FORMAT, facts]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _load(place: Path) -> NuscenesTables:
    columns = {}
    for field in fields(NuscenesTables):
        path = place / f"{field.name}.npy"
        # numpy cannot map a column without rows
        empty = np.load(path, allow_pickle=False, mmap_mode=None) if path.stat().st_size <= 128 else None
        columns[field.name] = np.load(path, allow_pickle=False, mmap_mode="r") if empty is None else empty
    return NuscenesTables(**columns)


def _save(tables: NuscenesTables, place: Path) -> None:
    """Write beside the final place, then rename: a reader sees all columns or none."""
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=place.parent))
    try:
        for field in fields(NuscenesTables):
            np.save(draft / f"{field.name}.npy", getattr(tables, field.name), allow_pickle=False)
        stale = [path for path in place.parent.iterdir() if path not in (draft, place) and path.name[0] != "."]
        if place.is_dir():  # another process was faster, or the folder was unreadable
            shutil.rmtree(place)
        draft.rename(place)
        for path in stale:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # gone already when all went well


def find_version(root: Path, version: str | None) -> str:
    """The folder of tables to read: the one asked for, or the only one there.

    Raises:
        DataError: none, or several and none asked for.
    """
    found = sorted(path.parent.name for path in root.glob("v1.0-*/sample.json"))
    if version is None and len(found) == 1:
        return found[0]
    if version is not None and (root / version).is_dir():
        return version
    if not found:
        raise DataError(f"root of nuscenes must hold a folder v1.0-* of tables; got none. Check the path: {root}")
    rule = "be one of the folders of tables" if version else "be given when there are several"
    raise DataError(f"version must {rule}; got {version}, found {', '.join(found)}. Choose one of them: {root}")
