"""Hits on camera images: which pixels show voxels that were found, and the edges of boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from lexivox.geometry.camera import pixels_from_cam
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.view.colors import heat_ramp
from lexivox.view.hits import centers
from lexivox.view.raster import paint

NEAR_M = 0.2
OPACITY = 0.6
BOX_RGB = (46, 230, 160)
_CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
_FACES = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]])
_EDGES = [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)]


def overlay_heat(
    image: UInt8[np.ndarray, "H W 3"],
    image_from_cam: Float[np.ndarray, "3 3"],
    cam_from_grid: RigidTransform,
    grid: VoxelGrid,
    index: Int[np.ndarray, "N 3"],
    heat: Float[np.ndarray, "N"],
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the image in which hits shine through; occupied voxels in front hide those behind.

    Args:
        index: all occupied voxels.
        heat: 0..1 for hits, NaN for voxels that only hide others.
    """
    xyz = (centers(grid, index)[:, None] + (_CORNERS - 0.5) * np.array(grid.voxel_size_m)).reshape(-1, 3)
    uv, depth = _project(xyz, image_from_cam, cam_from_grid)
    uv[depth < NEAR_M] = np.nan  # the painter leaves such faces out
    far_first = np.argsort(-depth.reshape(-1, 8).mean(axis=1), kind="stable")
    faces = uv.reshape(-1, 8, 2)[far_first][:, _FACES].reshape(-1, 4, 2)
    owner = np.repeat(far_first + 1, len(_FACES))  # 0 is "nothing here"
    seen = np.zeros_like(image)
    paint(seen, faces, np.stack([owner >> 16, owner >> 8 & 255, owner & 255], axis=-1).astype(np.uint8))
    number = (seen.astype(np.int64) @ np.array([65536, 256, 1])) - 1
    value = np.where(number >= 0, np.append(heat, np.nan)[number], np.nan)
    color = heat_ramp("dark")[np.round(np.nan_to_num(np.clip(value, 0, 1)) * 255).astype(np.int64)]
    blend = np.where(np.isnan(value), 0.0, OPACITY)[..., None]
    return (image * (1 - blend) + color * blend).round().astype(np.uint8)


def draw_boxes(
    image: UInt8[np.ndarray, "H W 3"],
    image_from_cam: Float[np.ndarray, "3 3"],
    cam_from_grid: RigidTransform,
    corners: Sequence[Float[np.ndarray, "8 3"]],
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the image with the edges of boxes, given by their corners in the grid's frame (lower four first)."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for box in corners:
        xyz_cam = cam_from_grid.apply(torch.from_numpy(box)).numpy()
        for a, b in _EDGES:
            ends = _clip_near(xyz_cam[a], xyz_cam[b])
            if ends is not None:
                uv, _ = pixels_from_cam(torch.from_numpy(ends), torch.from_numpy(image_from_cam).double())
                draw.line([tuple(p) for p in np.clip(uv.numpy(), -1e5, 1e5).tolist()], fill=BOX_RGB, width=2)
    return np.array(picture)


def _project(
    xyz: Float[np.ndarray, "P 3"], image_from_cam: Float[np.ndarray, "3 3"], cam_from_grid: RigidTransform
) -> tuple[Float[np.ndarray, "P 2"], Float[np.ndarray, "P"]]:
    xyz_cam = cam_from_grid.apply(torch.from_numpy(xyz))
    uv, depth = pixels_from_cam(xyz_cam, torch.from_numpy(image_from_cam).double())
    return uv.numpy(), depth.numpy()


def _clip_near(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"]) -> Float[np.ndarray, "2 3"] | None:
    """The part of an edge in front of the camera."""
    if max(a[2], b[2]) <= NEAR_M:
        return None
    behind, front = (a, b) if a[2] < b[2] else (b, a)
    if behind[2] < NEAR_M:
        behind = behind + (front - behind) * (NEAR_M - behind[2]) / (front[2] - behind[2])
    return np.stack([behind, front])
