"""Write synthetic drives as a nuScenes dataroot: 13 tables, lidarseg, panoptic, images, sweeps.

Truth that nuScenes has no place for goes to ``extras/<version>/``:

* ``fine/<lidar token>.npy``: uint8 concept of every LiDAR point, in the order of the sweep;
* ``fine/<camera token>.png``: 8-bit grey picture with the concept of every pixel (when asked for);
* ``occupancy/<lidar token>.npz`` (when asked for): ``label`` uint8 ``(X, Y, Z)`` (0..16, 17 free), ``flow``
  float16 ``(X, Y, Z, 2)`` in m/s along the axes of the grid: ``lower_m``, ``voxel_size_m``, ``frame``;
* ``concepts.json``: the names of the concepts, by id.

``splits.json`` beside the tables lists the scenes of ``train`` and ``val``. Writing can be interrupted: a
keyframe whose marker ``extras/<version>/done/<sample token>`` stands is not made again, and tables come last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lexivox.data.synthetic.concepts import CONCEPT_NAMES
from lexivox.data.synthetic.drive import Pictures, Sweep, SyntheticDrive
from lexivox.data.synthetic.nuscenes_tables import build_tables, lidarseg_path, panoptic_path, sensor_path
from lexivox.data.synthetic.sensors import CAMERA_NAMES
from lexivox.errors import ConfigError
from lexivox.files import write_atomically
from lexivox.geometry.grid import VoxelGrid

JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class DriveSpec:
    """One drive to write: its seed, its length at 2 Hz and the split it belongs to."""

    seed: int
    num_keyframes: int = 20
    split: str = "train"


@dataclass(frozen=True, slots=True)
class _Options:
    version: str
    grid: VoxelGrid | None
    with_pixel_labels: bool
    signature: str


def write_nuscenes(
    root: str | Path,
    drives: Sequence[DriveSpec],
    version: str = "v1.0-synthetic",
    *,
    image_hw: tuple[int, int] = (160, 288),
    num_azimuths: int = 720,
    grid: VoxelGrid | None = None,
    with_pixel_labels: bool = False,
    on_keyframe: Callable[[int, int], None] | None = None,
) -> Path:
    """Make a dataroot that the layout rules of nuScenes accept, and return it.

    Args:
        root: folder of the data set; made when missing.
        drives: what to write; seeds must differ.
        version: name of the folder of tables.
        image_hw: height and width of the images.
        num_azimuths: columns of the LiDAR.
        grid: with a grid, voxel truth is written too.
        with_pixel_labels: write the concept of every pixel too.
        on_keyframe: called as ``on_keyframe(done, total)`` after every keyframe.

    Raises:
        ConfigError: no drive, or two drives with the same seed.
    """
    root = Path(root)
    seeds = [spec.seed for spec in drives]
    if not drives or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds of the drives to write must be given and differ; got {seeds}.")
    options = _Options(version, grid, with_pixel_labels, repr((image_hw, num_azimuths, grid, with_pixel_labels)))
    total, done = sum(spec.num_keyframes for spec in drives), 0
    made = [SyntheticDrive(spec.seed, spec.num_keyframes, image_hw, num_azimuths) for spec in drives]
    for drive in made:
        for index in range(len(drive)):
            _write_keyframe(root, drive, index, options)
            done += 1
            if on_keyframe is not None:
                on_keyframe(done, total)
    _write_tables(root, version, made, drives)
    return root


# ---------------------------------------------------------------------- one keyframe


def _write_keyframe(root: Path, drive: SyntheticDrive, index: int, options: _Options) -> None:
    extras = root / "extras" / options.version
    marker = extras / "done" / drive.token("sample", index)
    signature = f"{options.signature} {drive.num_keyframes}"
    if marker.is_file() and marker.read_text() == signature:
        return
    scene = drive.scene(index)
    _write_images(root, extras, drive, index, drive.pictures(index, scene), options)
    _write_sweep(root, extras, drive, index, drive.sweep(index, scene), options)
    if options.grid is not None:
        truth = drive.voxel_labels(index, options.grid, scene)
        path = _folder_of(extras / "occupancy" / f"{drive.token('LIDAR_TOP', index)}.npz")
        np.savez_compressed(
            path,
            label=truth.label.numpy().astype(np.uint8),
            flow=truth.flow.numpy().astype(np.float16),
            lower_m=np.array(options.grid.lower_m),
            voxel_size_m=np.array(options.grid.voxel_size_m),
            frame=np.array(options.grid.frame),
        )
    _folder_of(marker).write_text(signature)


def _folder_of(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write_images(
    root: Path, extras: Path, drive: SyntheticDrive, index: int, pictures: Pictures, options: _Options
) -> None:
    from PIL import Image

    for channel, rgb, concept in zip(CAMERA_NAMES, pictures.rgb, pictures.concept, strict=True):
        path = _folder_of(root / sensor_path(drive, index, channel))
        Image.fromarray(rgb).save(path, quality=JPEG_QUALITY, subsampling=0)
        if options.with_pixel_labels:
            Image.fromarray(concept).save(_folder_of(extras / "fine" / f"{drive.token(channel, index)}.png"))


def _write_sweep(root: Path, extras: Path, drive: SyntheticDrive, index: int, sweep: Sweep, options: _Options) -> None:
    records = np.column_stack([sweep.xyz, sweep.intensity, sweep.ring]).astype("<f4")
    records.tofile(_folder_of(root / sensor_path(drive, index, "LIDAR_TOP")))
    sweep.raw.astype(np.uint8).tofile(_folder_of(root / lidarseg_path(drive, index, options.version)))
    panoptic = sweep.raw.astype(np.uint16) * 1000 + sweep.track.astype(np.uint16)
    path = _folder_of(root / panoptic_path(drive, index, options.version))
    np.savez_compressed(path, data=panoptic)
    np.save(_folder_of(extras / "fine" / f"{drive.token('LIDAR_TOP', index)}.npy"), sweep.concept)


# ---------------------------------------------------------------------- all tables


def _write_tables(root: Path, version: str, drives: Sequence[SyntheticDrive], specs: Sequence[DriveSpec]) -> None:
    from PIL import Image

    tables = build_tables(drives, version, lambda drive, index: _points_per_track(root, drive, index, version))
    for record in tables["map"]:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(_folder_of(root / record["filename"]))
    splits: dict[str, list[str]] = {"train": [], "val": []}
    for drive, spec in zip(drives, specs, strict=True):
        splits.setdefault(spec.split, []).append(drive.name)
    concepts = root / "extras" / version / "concepts.json"
    _write_json(concepts, list(CONCEPT_NAMES))
    _write_json(root / version / "splits.json", splits)
    for name, records in tables.items():
        _write_json(root / version / f"{name}.json", records)


def _points_per_track(root: Path, drive: SyntheticDrive, index: int, version: str) -> dict[int, int]:
    """Number of LiDAR points on every actor, from the panoptic file on disk."""
    with np.load(root / panoptic_path(drive, index, version), allow_pickle=False) as archive:
        tracks, counts = np.unique(archive["data"] % 1000, return_counts=True)
    return {int(t): int(n) for t, n in zip(tracks, counts, strict=True) if t > 0}


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=0).encode()
    write_atomically(path, lambda file: file.write(text))
