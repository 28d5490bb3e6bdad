"""What the cameras would see of a map: depth, and the colours of any layer, beside the images themselves.

A ray through every pixel's centre ends at the first voxel it meets; that voxel's colour, lit as in the 3D pictures, is
the pixel's. So a map can be held against what it was made from, pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8

from lexivox.data.doctor.pictures import depth_colors
from lexivox.errors import ConfigError
from lexivox.geometry.camera import cam_from_pixels
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.first_hit import cast
from lexivox.view.colors import BACKGROUND, Theme
from lexivox.view.figure import contact_sheet, pixels_of
from lexivox.view.picture import FACES, layer_colors
from lexivox.view.scene import NamedImage, VoxelScene, VoxelSet, layer_named

DEPTH = "depth"
"""The layer that every scene has: how far each pixel's ray goes."""

SKY = {"light": (214, 222, 232), "dark": (34, 38, 48)}
"""Where a ray meets nothing."""


@dataclass(frozen=True, slots=True)
class SeenPixels:
    """What lies behind each pixel.

    Attributes:
        row: of the voxel in the list of those given, -1 where the ray meets none.
        depth_m: along the optical axis, up to where the ray enters the voxel; NaN where it meets none.
        light: brightness of the face that it enters through.
    """

    row: Int64[np.ndarray, "H W"]
    depth_m: Float[np.ndarray, "H W"]
    light: Float[np.ndarray, "H W"]


def see(grid: VoxelGrid, index: Int[np.ndarray, "N 3"], image: NamedImage) -> SeenPixels:
    """The voxels that a camera sees; never the one it stands in, though the own car may fill it.

    Args:
        index: occupied voxels.
        image: whose pinhole looks at the grid.

    Raises:
        ConfigError: the image has no pinhole.
    """
    if image.pinhole is None:
        raise ConfigError(f"image {image.name} must have a pinhole to be looked through; got none.")
    height, width = pixels_of(image).shape[:2]
    uv = _centers(height, width)
    intrinsics = torch.from_numpy(image.pinhole.image_from_cam).double()
    grid_from_cam = image.pinhole.cam_from_grid.inverse()
    in_cam = cam_from_pixels(uv, torch.ones(len(uv), dtype=torch.float64), intrinsics)  # 1 m deep
    directions = in_cam @ grid_from_cam.rotation.double().T
    number = torch.full((grid.num_voxels,), -1)
    flat = grid.flat_from_index(torch.from_numpy(np.asarray(index, dtype=np.int64)))
    number[flat] = torch.arange(len(flat))
    place = grid_from_cam.translation.double()
    if bool(grid.contains(place[None])):
        number[grid.flat_from_index(grid.index_from_xyz(place[None]))] = -1
    hits = cast(grid, (number >= 0).view(grid.shape), place, directions)
    row = torch.where(hits.is_hit, number[hits.voxel.clamp_min(0)], -1)
    depth_m = torch.where(hits.is_hit, hits.enter_m / in_cam.norm(dim=-1), torch.nan)
    entry = place + hits.enter_m[:, None] * torch.nn.functional.normalize(directions)
    light = _light(grid, hits.voxel.clamp_min(0), entry)
    return SeenPixels(*(part.view(height, width).numpy() for part in (row, depth_m, light)))


def rendered_view(
    scene: VoxelScene, image: NamedImage, layer: str | None = None, *, truth: bool = False, theme: Theme = "light"
) -> UInt8[np.ndarray, "H W 3"]:
    """The map through one camera, in the size of its image.

    Args:
        layer: name of the layer that colours voxels, by default the first; ``"depth"`` for distances: red near, through
            yellow and green, to blue far.
        truth: look at the truth instead of the prediction.

    Raises:
        ConfigError: no such layer, no truth, or an image without a pinhole.
    """
    voxels = scene.voxels(truth)
    return _colored(see(scene.grid, voxels.index, image), voxels, layer, theme)


def rendered_images(
    scene: VoxelScene, layers: Sequence[str | None] = (DEPTH, None), *, truth: bool = False, theme: Theme = "light"
) -> tuple[NamedImage, ...]:
    """A strip for every camera: its image, and below it the map through its eyes, once for each layer."""
    voxels = scene.voxels(truth)
    strips = []
    for image in scene.images:
        if image.pinhole is not None:
            seen = see(scene.grid, voxels.index, image)
            parts = [pixels_of(image), *(_colored(seen, voxels, layer, theme) for layer in layers)]
            strips.append(NamedImage(image.name, _stacked(parts, theme)))
    return tuple(strips)


def rendered_sheet(
    scene: VoxelScene,
    layers: Sequence[str | None] = (DEPTH, None),
    *,
    truth: bool = False,
    width_px: int = 1200,
    theme: Theme = "light",
) -> UInt8[np.ndarray, "H W 3"]:
    """The strips of all cameras on one sheet, front row above the rear row, left on the left."""
    return contact_sheet(rendered_images(scene, layers, truth=truth, theme=theme), width_px=width_px, theme=theme)


def _colored(seen: SeenPixels, voxels: VoxelSet, layer: str | None, theme: Theme) -> UInt8[np.ndarray, "H W 3"]:
    nothing = np.array(SKY[theme], dtype=np.uint8)
    if layer == DEPTH:
        depth = torch.from_numpy(seen.depth_m).nan_to_num(0.0).reshape(-1)
        colors: Any = depth_colors(depth).numpy().reshape(*seen.row.shape, 3)
    else:
        table = np.append(layer_colors(layer_named(voxels, layer), len(voxels.index), theme), nothing[None], axis=0)
        colors = table[seen.row] * seen.light[..., None]  # -1 reads the last
    return np.where((seen.row >= 0)[..., None], colors, nothing).astype(np.uint8)


def _stacked(parts: Sequence[UInt8[np.ndarray, "H W 3"]], theme: Theme, gap_px: int = 3) -> UInt8[np.ndarray, "H2 W 3"]:
    gap = np.empty((gap_px, parts[0].shape[1], 3), dtype=np.uint8)
    gap[:] = BACKGROUND[theme]
    return np.concatenate([piece for part in parts for piece in (part, gap)][:-1])


def _centers(height: int, width: int) -> Float[torch.Tensor, "P 2"]:
    """Pixel centres in reading order; the first is (0.5, 0.5)."""
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([u, v], dim=-1).reshape(-1, 2).double()


def _light(
    grid: VoxelGrid, voxel: Int64[torch.Tensor, "R"], entry: Float[torch.Tensor, "R 3"]
) -> Float[torch.Tensor, "R"]:
    """Brightness of the face of its voxel that a point lies on: the one whose plane is nearest."""
    _, y, z = grid.shape
    lower = torch.stack([voxel // (y * z), voxel // z % y, voxel % z], dim=-1)
    inside = grid.coordinate_from_xyz(entry) - lower  # 0..1 along each axis
    normals = torch.tensor([normal for normal, _, _ in FACES])
    axis = normals.abs().argmax(dim=-1)
    planes = (normals.sum(dim=-1) > 0).double()
    away = (inside[:, axis] - planes).abs()
    return torch.tensor([light for _, _, light in FACES], dtype=torch.float64)[away.argmin(dim=-1)]
