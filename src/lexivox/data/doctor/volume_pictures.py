"""A volume from above and from the side, with the sweep on it: as it is, and as it would be once mended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.data.collate import grid_from_lidar
from lexivox.data.doctor.pictures import BACKGROUND, INK, depth_colors
from lexivox.data.doctor.readings import Reading
from lexivox.data.doctor.volume_reader import VolumeFile
from lexivox.data.types import Sample
from lexivox.geometry.grid import VoxelGrid

WIDTH, SIDE, TITLE, MAX_POINTS = 640, 200, 28, 8000


def before_and_after(file: VolumeFile, reading: Reading | None, sample: Sample | None, path: Path) -> None:
    """Two panels, or one where nothing needs a mend; voxels coloured by height, returns of the sweep white."""
    from PIL import Image, ImageDraw

    given = Reading(frame=file.grid.frame)
    panels = [("as the file says", given)]
    if reading is not None and reading != given:
        panels.append((f"once mended: {reading.mend(given)}", reading))
    fitting = [p for p in panels if _fits(file, p[1])] or [(panels[0][0], Reading())]
    sheet = np.full((TITLE + WIDTH + SIDE, len(fitting) * (WIDTH + 8), 3), BACKGROUND, dtype=np.uint8)
    for k, (_, way) in enumerate(fitting):
        left = k * (WIDTH + 8)
        sheet[TITLE : TITLE + WIDTH, left : left + WIDTH] = _panel(file, way, sample, (0, 1), WIDTH)
        sheet[TITLE + WIDTH :, left : left + WIDTH] = _panel(file, way, sample, (0, 2), SIDE)
    picture = Image.fromarray(sheet)
    draw = ImageDraw.Draw(picture)
    for k, (title, _) in enumerate(fitting):
        draw.text((k * (WIDTH + 8) + 6, 5), title[:90], INK, font_size=14)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _fits(file: VolumeFile, reading: Reading) -> bool:
    return tuple(reading.apply(file.label).shape) == file.grid.shape


def _panel(file: VolumeFile, reading: Reading, sample: Sample | None, axes: tuple[int, int], height: int) -> np.ndarray:
    """The grid seen along the third axis: x to the right, y or z up.

    From above the highest voxel is seen; from the side the more voxels lie behind each other the brighter they are.
    """
    volume = reading.apply(file.label)
    grid = replace(reading.of(file.grid), shape=tuple(volume.shape))
    index = ((volume != file.classes.free) & (volume != file.classes.ignore)).nonzero()
    index = index[index[:, 2].argsort()]
    xyz = grid.xyz_from_index(index)
    canvas = np.full((height, WIDTH, 3), BACKGROUND, dtype=np.uint8)
    size = -(-WIDTH // grid.shape[axes[0]]), -(-height // grid.shape[axes[1]])
    colors = depth_colors(18.0 - 6.0 * (xyz[:, 2] - _ground_m(xyz)))
    _paint(canvas, grid, xyz, axes, (colors * (0.8 * _density(index, grid, axes))).byte().numpy(), size)
    if sample is not None:
        points = grid_from_lidar(sample, grid).apply(sample.lidar.xyz)
        points = points[grid.contains(points)]
        points = points[:: max(len(points) // MAX_POINTS, 1)]
        _paint(canvas, grid, points, axes, np.full((len(points), 3), 255, dtype=np.uint8), (1, 1))
    return canvas


def _density(index: Int64[Tensor, "N 3"], grid: VoxelGrid, axes: tuple[int, int]) -> Float[Tensor, "N 1"]:
    """1 from above; from the side the root of the share of voxels in its line of sight, of those in the fullest."""
    if axes == (0, 1) or len(index) == 0:
        return torch.ones(len(index), 1)
    line = index[:, axes[0]] * grid.shape[axes[1]] + index[:, axes[1]]
    count = torch.bincount(line)
    return (count / count.max()).sqrt()[line, None]


def _ground_m(xyz: Tensor) -> float:
    return float(xyz[:, 2].median()) if len(xyz) else 0.0


def _paint(
    canvas: np.ndarray,
    grid: VoxelGrid,
    xyz: Tensor,
    axes: tuple[int, int],
    colors: np.ndarray,
    size: tuple[int, int],
) -> None:
    height, width = canvas.shape[:2]
    share = (grid.normalized_from_xyz(xyz)[:, list(axes)] + 1) / 2
    column = (share[:, 0] * width).long().numpy() - size[0] // 2
    row = height - 1 - (share[:, 1] * height).long().numpy() - size[1] // 2
    for down in range(size[1]):
        for right in range(size[0]):
            canvas[np.clip(row + down, 0, height - 1), np.clip(column + right, 0, width - 1)] = colors
