"""Where the rays of RayIoU start: the LiDAR's places over a drive, in the ego frame of the keyframe that is scored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lexivox.errors import DataError
from lexivox.evaluate.rayiou import lidar_origins_in_ego, ray_origins
from lexivox.files import write_atomically


def read_origins(path: str | Path) -> dict[str, Float[Tensor, "N 3"]]:
    """``{"TOKEN": [[x, y, z], ...], ...}``: metres in the ego frame of keyframe TOKEN, in order of time.

    Raises:
        DataError: the file is missing or holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        origins = {str(token): torch.tensor(rows, dtype=torch.float64) for token, rows in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f'origins must be JSON like {{"TOKEN": [[x, y, z]]}}; got {error}. Check {path}') from None
    for token, rows in origins.items():
        if rows.ndim != 2 or rows.shape[1] != 3 or not len(rows) or not bool(rows.isfinite().all()):
            raise DataError(
                f"origins of {token} must be rows of three finite numbers; got {tuple(rows.shape)}. Check {path}"
            )
    return origins


def write_origins(path: str | Path, origins: Mapping[str, Float[Tensor, "N 3"]]) -> Path:
    """What :func:`read_origins` reads."""
    text = json.dumps({token: rows.tolist() for token, rows in origins.items()})
    return write_atomically(Path(path), lambda file: file.write(text.encode()))


def nuscenes_origins(
    root: str | Path, version: str | None = None, split: str | None = None
) -> dict[str, Float[Tensor, "N 3"]]:
    """Up to eight origins of every keyframe of a split, from the tables of a nuScenes dataroot alone.

    Raises:
        DataError: no tables, or no such split.
    """
    from lexivox.data.datasets.nuscenes_cloud import ego_from_sensor, global_from_ego
    from lexivox.data.datasets.nuscenes_splits import scenes_of_split
    from lexivox.data.datasets.nuscenes_tables import find_version, open_tables

    folder = Path(root) / find_version(Path(root), version)
    tables = open_tables(folder)
    chosen = scenes_of_split(split, folder, [name.decode() for name in tables.scene_name])
    origins: dict[str, Float[Tensor, "N 3"]] = {}
    for scene in chosen.nonzero()[0].tolist():
        rows = ((tables.sample_scene == scene) & (tables.keyframe[:, 0] >= 0)).nonzero()[0].tolist()
        files = [int(tables.keyframe[row, 0]) for row in rows]
        ego = [global_from_ego(tables, file).matrix() for file in files]
        lidar = [ego_from_sensor(tables, file).matrix() for file in files]
        for place, row in enumerate(rows):
            token = bytes(tables.sample_token[row]).decode()
            origins[token] = ray_origins(lidar_origins_in_ego(ego, lidar, place))
    return origins
