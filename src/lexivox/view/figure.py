"""Pictures put together: camera images in the order of the rig, the map, its legend, LiDAR on an image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from lexivox.geometry.camera import is_visible, pixels_from_cam
from lexivox.view.colors import BACKGROUND, INK, MUTED, Theme, heat_ramp
from lexivox.view.picture import render_scene
from lexivox.view.scene import ClassLayer, Layer, NamedImage, VoxelScene, layer_named
from lexivox.view.surround import surround_order
from lexivox.view.viewpoint import Viewpoint, ViewpointName

if TYPE_CHECKING:
    from PIL.Image import Image

GAP_PX = 8
LEGEND_PX = 48


def pixels_of(image: NamedImage) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels of a camera image, decoded when it holds the bytes of a file."""
    if not isinstance(image.data, bytes):
        return image.data
    from PIL import Image

    return np.array(Image.open(io.BytesIO(image.data)).convert("RGB"))


def contact_sheet(
    images: Sequence[NamedImage], *, width_px: int = 1200, columns: int = 3, theme: Theme = "light"
) -> UInt8[np.ndarray, "H W 3"]:
    """Camera images under their names, front row above the rear row, left on the left.

    Every image gets the same cell; one of another shape is fitted inside it.
    """
    from PIL import Image, ImageDraw, ImageOps

    ordered = [images[i] for i in surround_order([image.name for image in images])]
    pictures = [Image.fromarray(pixels_of(image)) for image in ordered]
    cell_w = (width_px - GAP_PX * (columns - 1)) // columns
    cell_h = round(cell_w * max((p.height / p.width for p in pictures), default=0.5))
    rows = -(-len(ordered) // columns)
    sheet = Image.new("RGB", (width_px, max(1, rows * (cell_h + GAP_PX) - GAP_PX)), BACKGROUND[theme])
    draw = ImageDraw.Draw(sheet, "RGBA")
    for number, (image, picture) in enumerate(zip(ordered, pictures, strict=True)):
        x, y = number % columns * (cell_w + GAP_PX), number // columns * (cell_h + GAP_PX)
        sheet.paste(ImageOps.pad(picture, (cell_w, cell_h), color=BACKGROUND[theme]), (x, y))
        tag = draw.textbbox((x + 8, y + 6), image.name, font=text_font(13))
        draw.rounded_rectangle((tag[0] - 5, tag[1] - 4, tag[2] + 5, tag[3] + 4), 4, fill=(0, 0, 0, 160))
        draw.text((x + 8, y + 6), image.name, font=text_font(13), fill=(255, 255, 255))
    return np.array(sheet)


def figure(
    scene: VoxelScene,
    layer: str | None = None,
    *,
    width_px: int = 1200,
    view: ViewpointName | Viewpoint = "chase",
    truth: bool = False,
    theme: Theme = "light",
) -> UInt8[np.ndarray, "H W 3"]:
    """One picture of a keyframe: title, camera images, the map in 3D and the legend of its colours.

    Raises:
        ConfigError: no such layer, or no truth.
    """
    from PIL import Image, ImageDraw

    voxels = scene.voxels(truth)
    shown = layer_named(voxels, layer)
    parts = [contact_sheet(scene.images, width_px=width_px, theme=theme)] if scene.images else []
    size = (width_px, width_px * 9 // 16)
    parts.append(render_scene(scene, layer, size_wh=size, view=view, truth=truth, theme=theme))
    top = 34 if scene.title else 0
    height = top + sum(len(part) + GAP_PX for part in parts) + LEGEND_PX
    page = Image.new("RGB", (width_px, height), BACKGROUND[theme])
    draw = ImageDraw.Draw(page)
    draw.text((10, 8), scene.title, font=text_font(18), fill=INK[theme])
    y = top
    for part in parts:
        page.paste(Image.fromarray(part), (0, y))
        y += len(part) + GAP_PX
    draw_legend(page, y, shown, theme)
    return np.array(page)


def overlay_lidar(
    image: UInt8[np.ndarray, "H W 3"],
    xyz_cam: Float[np.ndarray, "P 3"],
    image_from_cam: Float[np.ndarray, "3 3"],
    *,
    max_depth_m: float = 50.0,
    radius_px: int = 1,
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of ``image`` with the points that fall into it, near ones warm, far ones grey.

    The quickest test of a calibration: points must lie on the things that they were measured on.
    """
    uv, depth = pixels_from_cam(torch.from_numpy(xyz_cam), torch.from_numpy(image_from_cam))
    height, width = image.shape[:2]
    seen = is_visible(uv, depth, (height, width)).numpy()
    column, row = np.floor(uv.numpy()[seen]).astype(np.int64).T
    near = depth.numpy()[seen]
    far_first = np.argsort(-near, kind="stable")
    ramp = heat_ramp("dark")[(255 * (1 - np.clip(near / max_depth_m, 0, 1))).astype(np.int64)]
    out = image.copy()
    for dy in range(-radius_px, radius_px + 1):
        for dx in range(-radius_px, radius_px + 1):
            y, x = np.clip(row + dy, 0, height - 1), np.clip(column + dx, 0, width - 1)
            out[y[far_first], x[far_first]] = ramp[far_first]
    return out


def draw_legend(page: Image, y: int, layer: Layer | None, theme: Theme) -> None:
    """One row: the classes that occur, most frequent first, or the ramp of a score between its two ends."""
    from PIL import Image, ImageDraw

    draw = ImageDraw.Draw(page)
    if isinstance(layer, ClassLayer):
        counts = np.bincount(layer.label.astype(np.int64), minlength=len(layer.classes))
        x = 12
        for k in np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]:
            wide = int(draw.textlength(layer.classes[k], font=text_font(14)))
            if x + wide + 24 > page.width:
                break
            draw.rounded_rectangle((x, y + 14, x + 14, y + 28), 3, fill=tuple(layer.palette[k].tolist()))
            draw.text((x + 20, y + 12), layer.classes[k], font=text_font(14), fill=INK[theme])
            x += wide + 44
    elif layer is not None:
        ramp = np.broadcast_to(heat_ramp(theme)[None], (12, 256, 3))
        page.paste(Image.fromarray(np.ascontiguousarray(ramp)), (12, y + 15))
        finite = layer.score[np.isfinite(layer.score)]
        ends = f"{finite.min():.3f} to {finite.max():.3f}" if finite.size else "no scores"
        draw.text((284, y + 12), layer.name, font=text_font(14), fill=INK[theme])
        wide = int(draw.textlength(layer.name, font=text_font(14)))
        draw.text((284 + wide + 14, y + 12), ends, font=text_font(14), fill=MUTED[theme])


def text_font(size: int) -> Any:
    """The font of all words in pictures."""
    from PIL import ImageFont

    return ImageFont.load_default(size)
