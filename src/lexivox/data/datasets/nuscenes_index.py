"""Builds the columns of :class:`NuscenesTables` from the JSON tables, reading each table once as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lexivox.data.datasets.json_stream import stream_table
from lexivox.data.datasets.nuscenes_tables import CHANNELS, LIDAR, NuscenesTables
from lexivox.errors import DataError

FLUSH_ROWS = 50_000
MAX_VELOCITY_GAP_S = 1.5
"""Neighbours of a track further apart than this tell no velocity (twice this between two neighbours)."""


class _Columns:
    """Grows named columns row by row; Python objects live only until the next flush."""

    def __init__(self, **dtypes: str) -> None:
        self._dtypes = dtypes
        self._rows: list[tuple] = []
        self._parts: list[list[np.ndarray]] = [[] for _ in dtypes]

    def add(self, *row: Any) -> None:
        self._rows.append(row)
        if len(self._rows) == FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [[] for _ in self._dtypes]
        for part, column, dtype in zip(self._parts, columns, self._dtypes.values(), strict=True):
            values = [text.encode() for text in column] if dtype == "S" else column
            part.append(np.array(values, dtype=dtype))
        self._rows = []

    def finish(self) -> dict[str, np.ndarray]:
        if self._rows or not self._parts[0]:
            self._flush()
        return {name: np.concatenate(part) for name, part in zip(self._dtypes, self._parts, strict=True)}


class _Table:
    """The records of one table, reduced to the named columns; says which column or record is missing."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._path = folder / f"{name}.json"

    def rows(self, *columns: str) -> Iterator[tuple]:
        for record in stream_table(self._path):
            try:
                yield tuple([record[column] for column in columns])
            except KeyError as error:
                raise DataError(
                    f"table {self.name} must have the column {error.args[0]}; got {', '.join(record)}. "
                    f"Complete the tables: {self._path}"
                ) from None


def _texts(values: Iterable[str]) -> np.ndarray:
    return np.array([value.encode() for value in values], dtype="S")


def _find(known: Mapping[str, int], token: str, table: str, wanted: str) -> int:
    try:
        return known[token]
    except KeyError:
        raise DataError(
            f"records of table {table} must name an existing {wanted}; got token {token!r}. "
            "Take all tables from one release."
        ) from None


def build_tables(folder: Path) -> NuscenesTables:
    """Read all tables once. Memory: the kept columns, plus a dictionary of the kept ego poses.

    Raises:
        DataError: a table or column is missing, records name others that do not exist, or hold no numbers where
            numbers belong.
    """
    try:
        return _build(folder)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"tables must hold numbers and names where they belong; got {error}. Fetch them again: {folder}"
        ) from None


def _build(folder: Path) -> NuscenesTables:
    scene_name, scene_of = _scenes(folder)
    samples = _samples(folder, scene_of)
    sample_of = {token.decode(): i for i, token in enumerate(samples["sample_token"])}
    channel, calibrations, channel_of_calibration, calibration_of = _calibrations(folder)
    files, pose_of = _files(folder, sample_of, calibration_of, channel_of_calibration)
    pose = _poses(folder, pose_of)
    keyframe = _keyframes(files, len(sample_of))
    sweeps = _sweeps(files, samples["sample_scene"], keyframe[:, 0])
    kept = ("file_token", "file_name", "file_time", "file_hw", "file_pose", "file_calibration")
    columns = {name: files[name] for name in kept}
    return NuscenesTables(
        scene_name=scene_name, channel=channel, pose=pose,
        keyframe=keyframe, **samples, **calibrations, **sweeps, **columns,
        **_boxes(folder, sample_of, samples["sample_time"]),
    )  # fmt: skip


def _scenes(folder: Path) -> tuple[np.ndarray, dict[str, int]]:
    rows = list(_Table(folder, "scene").rows("token", "name"))
    return _texts(name for _, name in rows), {token: i for i, (token, _) in enumerate(rows)}


def _samples(folder: Path, scene_of: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Samples in order of scene and time."""
    kept = _Columns(sample_token="S", sample_scene="i4", sample_time="i8")
    for token, scene, time in _Table(folder, "sample").rows("token", "scene_token", "timestamp"):
        kept.add(token, _find(scene_of, scene, "sample", "scene"), time)
    columns = kept.finish()
    order = np.lexsort((columns["sample_time"], columns["sample_scene"]))
    return {name: column[order] for name, column in columns.items()}


def _calibrations(folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray], list[int], dict[str, int]]:
    """Sensor poses and intrinsics; the channel's number in ``CHANNELS`` of each, -1 for a radar."""
    channel_of = dict(_Table(folder, "sensor").rows("token", "channel"))
    pose, intrinsics, numbers, rows = [], [], [], {}
    table = _Table(folder, "calibrated_sensor").rows(
        "token", "sensor_token", "translation", "rotation", "camera_intrinsic"
    )
    for row, (token, sensor, translation, rotation, matrix) in enumerate(table):
        channel = channel_of.get(sensor)
        if channel is None:
            raise DataError(f"records of table calibrated_sensor must name an existing sensor; got {sensor!r}.")
        numbers.append(CHANNELS.index(channel) if channel in CHANNELS else -1)
        pose.append([*translation, *rotation])
        intrinsics.append(matrix if matrix else np.zeros((3, 3)))
        rows[token] = row
    columns = {
        "calibration_pose": np.array(pose, dtype="f8").reshape(-1, 7),
        "calibration_intrinsics": np.array(intrinsics, dtype="f8").reshape(-1, 3, 3),
    }
    return _texts(sorted(set(channel_of.values()))), columns, numbers, rows


def _files(
    folder: Path, sample_of: Mapping[str, int], calibration_of: Mapping[str, int], channel_of: Sequence[int]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Keyframe images and all LiDAR sweeps; radar and the images between keyframes are left out."""
    kept = _Columns(
        file_token="S", file_name="S", file_sample="i4", file_channel="i1", file_key="?",
        file_time="i8", file_hw="i4", file_pose="i4", file_calibration="i4",
    )  # fmt: skip
    pose_of: dict[str, int] = {}
    table = _Table(folder, "sample_data").rows(
        "token", "sample_token", "ego_pose_token", "calibrated_sensor_token", "timestamp", "is_key_frame",
        "height", "width", "filename",
    )  # fmt: skip
    for token, sample, pose, calibration, time, is_key, height, width, name in table:
        row = _find(calibration_of, calibration, "sample_data", "calibrated_sensor")
        channel = channel_of[row]
        if channel < 0 or (channel > 0 and not is_key):
            continue
        number = _find(sample_of, sample, "sample_data", "sample")
        pose_row = pose_of.setdefault(pose, len(pose_of))
        kept.add(token, name, number, channel, is_key, time, (height or 0, width or 0), pose_row, row)
    columns = kept.finish()
    columns["file_hw"] = columns["file_hw"].reshape(-1, 2)
    return columns, pose_of


def _poses(folder: Path, row_of: Mapping[str, int]) -> np.ndarray:
    pose = np.full((len(row_of), 7), np.nan)
    for token, translation, rotation in _Table(folder, "ego_pose").rows("token", "translation", "rotation"):
        row = row_of.get(token)
        if row is not None:
            pose[row] = (*translation, *rotation)
    if np.isnan(pose).any():
        missing = int(np.isnan(pose).any(axis=1).sum())
        raise DataError(f"table ego_pose must hold the pose of every file; got {missing} without one in {folder}")
    return pose


def _keyframes(files: Mapping[str, np.ndarray], num_samples: int) -> np.ndarray:
    keyframe = np.full((num_samples, len(CHANNELS)), -1, dtype="i4")
    rows = np.flatnonzero(files["file_key"])
    keyframe[files["file_sample"][rows], files["file_channel"][rows]] = rows
    return keyframe


def _sweeps(files: Mapping[str, np.ndarray], sample_scene: np.ndarray, lidar_row: np.ndarray) -> dict[str, np.ndarray]:
    rows = np.flatnonzero(files["file_channel"] == CHANNELS.index(LIDAR))
    scene = sample_scene[files["file_sample"][rows]]
    order = np.lexsort((files["file_time"][rows], scene))
    rows, scene = rows[order], scene[order]
    position = np.full(len(files["file_sample"]) + 1, -1, dtype="i4")  # the last entry answers row -1
    position[rows] = np.arange(len(rows))
    return {"sweep": rows.astype("i4"), "sweep_scene": scene, "sweep_of_sample": position[lidar_row]}


def _boxes(folder: Path, sample_of: Mapping[str, int], sample_time: np.ndarray) -> dict[str, np.ndarray]:
    """Boxes in order of sample; a release without annotations (v1.0-test) has none."""
    category, categories = _names(folder, "category")
    category_of_track, track_of = _tracks(folder, categories)
    kept = _Columns(sample="i4", box_track="i4", box_num_points="i4", box_pose="f8", box_size="f8")
    if (folder / "sample_annotation.json").exists():
        table = _Table(folder, "sample_annotation").rows(
            "sample_token", "instance_token", "translation", "rotation", "size", "num_lidar_pts"
        )
        for sample, instance, translation, rotation, size, count in table:
            number = _find(sample_of, sample, "sample_annotation", "sample")
            track = _find(track_of, instance, "sample_annotation", "instance")
            kept.add(number, track, count, (*translation, *rotation), size)
    columns = kept.finish()
    sample = columns.pop("sample")
    columns = {name: column[np.argsort(sample, kind="stable")] for name, column in columns.items()}
    columns["box_pose"] = columns["box_pose"].reshape(-1, 7)
    columns["box_size"] = columns["box_size"].reshape(-1, 3)
    columns["box_category"] = category_of_track[columns["box_track"]]
    time_s = sample_time[np.sort(sample)] * 1e-6
    columns["box_velocity"] = _velocity(columns["box_track"], time_s, columns["box_pose"][:, :2])
    columns["box_start"] = np.searchsorted(np.sort(sample), np.arange(len(sample_of) + 1))
    return {"category_name": category, **columns}


def _names(folder: Path, table: str) -> tuple[np.ndarray, dict[str, int]]:
    if not (folder / f"{table}.json").exists():
        return np.zeros(0, dtype="S1"), {}
    rows = list(_Table(folder, table).rows("token", "name"))
    return _texts(name for _, name in rows), {token: i for i, (token, _) in enumerate(rows)}


def _tracks(folder: Path, categories: Mapping[str, int]) -> tuple[np.ndarray, dict[str, int]]:
    if not (folder / "instance.json").exists():
        return np.zeros(0, dtype="i4"), {}
    rows = list(_Table(folder, "instance").rows("token", "category_token"))
    category = [_find(categories, name, "instance", "category") for _, name in rows]
    return np.array(category, dtype="i4"), {token: i for i, (token, _) in enumerate(rows)}


def _velocity(track: np.ndarray, time_s: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Centred difference of each track in global x, y; one-sided at its ends."""
    order = np.lexsort((time_s, track))
    track, time_s, xy = track[order], time_s[order], xy[order]
    same = track[1:] == track[:-1]
    before = np.arange(len(track)) - np.concatenate([[False], same])[: len(track)]
    after = np.arange(len(track)) + np.concatenate([same, [False]])[: len(track)]
    gap_s = time_s[after] - time_s[before]
    is_known = (gap_s > 0) & (gap_s <= MAX_VELOCITY_GAP_S * np.maximum(after - before, 1))
    velocity = np.full(xy.shape, np.nan)
    velocity[order] = np.where(
        is_known[:, None], (xy[after] - xy[before]) / np.where(is_known, gap_s, 1.0)[:, None], np.nan
    )
    return velocity
