"""Pictures for the eye of a doctor: LiDAR points on the images, and the scene from above."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lexivox.data.types import Boxes, CameraView, Sample
from lexivox.geometry.camera import is_visible, pixels_from_cam

TILE_WIDTH = 720
DENSE_POINTS = 15_000
"""Clouds with more points in one image are drawn with smaller dots, so that the image stays visible."""
NEAR_M, FAR_M = 3.0, 50.0
BEV_EXTENT_M, BEV_SIZE = 50.0, 900
BACKGROUND, INK, RING, BOX = (16, 18, 24), (235, 238, 242), (58, 64, 76), (255, 120, 80)


def project(sample: Sample, view: CameraView) -> tuple[Float[Tensor, "P 2"], Float[Tensor, " P"], Tensor]:
    """Pixels, depth and visibility (1 m and further) of a keyframe's points in one of its cameras."""
    cam_from_lidar = view.ego_from_cam.inverse() @ sample.ego_from_lidar
    uv, depth_m = pixels_from_cam(cam_from_lidar.apply(sample.lidar.xyz), view.image_from_cam)
    return uv, depth_m, is_visible(uv, depth_m, view.image_hw, min_depth_m=1.0)


def contact_sheet(sample: Sample, path: Path) -> None:
    """All cameras of a keyframe with the points that they see, near ones red and far ones blue."""
    from PIL import Image, ImageDraw

    tiles = [_overlay(sample, view) for view in sample.views]
    height, columns = max(tile.shape[0] for tile in tiles), min(len(tiles), 3)
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * height, columns * TILE_WIDTH, 3), BACKGROUND, dtype=np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * height, i % columns * TILE_WIDTH
        sheet[top : top + tile.shape[0], left : left + TILE_WIDTH] = tile
    picture = Image.fromarray(sheet)
    draw = ImageDraw.Draw(picture)
    for i, view in enumerate(sample.views):
        corner = (i % columns * TILE_WIDTH + 8, i // columns * height + 6)
        offset_ms = (view.timestamp_ns - sample.timestamp_ns) / 1e6
        caption = f"{view.name}  {offset_ms:+.0f} ms"
        draw.text(corner, caption, INK, font_size=16, stroke_width=2, stroke_fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _overlay(sample: Sample, view: CameraView) -> UInt8[np.ndarray, "H W 3"]:
    from PIL import Image

    uv, depth_m, visible = project(sample, view)
    scale = TILE_WIDTH / view.image_hw[1]
    size = (TILE_WIDTH, max(round(view.image_hw[0] * scale), 1))
    image = Image.fromarray(view.image.permute(1, 2, 0).numpy())
    tile = (np.asarray(image.resize(size)) * 0.8).astype(np.uint8)
    far_first = depth_m[visible].argsort(descending=True)
    column_row = (uv[visible][far_first] * scale).long().numpy()
    size_px = 1 if len(column_row) > DENSE_POINTS else 2
    _stamp(tile, column_row, depth_colors(depth_m[visible][far_first]).numpy(), size_px)
    return tile


def _stamp(tile: np.ndarray, column_row: np.ndarray, colors: np.ndarray, size: int) -> None:
    for down in range(size):
        for right in range(size):
            rows = np.clip(column_row[:, 1] + down, 0, tile.shape[0] - 1)
            columns = np.clip(column_row[:, 0] + right, 0, tile.shape[1] - 1)
            tile[rows, columns] = colors


def depth_colors(depth_m: Float[Tensor, " P"]) -> UInt8[Tensor, "P 3"]:
    """Red near, through yellow and green, to blue far; logarithmic from 3 m to 50 m."""
    low, high = np.log(NEAR_M), np.log(FAR_M)
    share = ((depth_m.clamp(NEAR_M, FAR_M).log() - low) / (high - low)).float()[:, None]
    peaks = torch.tensor([0.05, 0.45, 0.95])
    widths = torch.tensor([0.45, 0.45, 0.5])
    return (255 * (1.6 - ((share - peaks) / widths).abs() * 1.6).clamp(0, 1)).byte()


def birds_eye(sample: Sample, path: Path) -> None:
    """Points from above in the ego frame: forward is up, colour is height, rings every 10 m, boxes outlined."""
    from PIL import Image, ImageDraw

    xyz = sample.ego_from_lidar.apply(sample.lidar.xyz)
    pixel = _bev_pixels(xyz[:, :2])
    inside = ((pixel >= 1) & (pixel < BEV_SIZE - 2)).all(dim=1)
    lowest_first = xyz[inside, 2].argsort()
    canvas = np.full((BEV_SIZE, BEV_SIZE, 3), BACKGROUND, dtype=np.uint8)
    height_m = xyz[inside, 2][lowest_first]
    _stamp(canvas, pixel[inside][lowest_first].numpy(), depth_colors(20.0 - 6.0 * height_m).numpy(), size=1)
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    for radius_m in range(10, int(BEV_EXTENT_M) + 1, 10):
        ends = torch.tensor([[radius_m, radius_m], [-radius_m, -radius_m]])
        (left, top), (right, bottom) = _bev_pixels(ends).tolist()
        draw.ellipse((left, top, right, bottom), outline=RING)
        draw.text((BEV_SIZE // 2 + 4, top + 2), f"{radius_m} m", RING, font_size=14)
    if sample.boxes is not None:
        _draw_boxes(draw, sample.boxes)
    _draw_axes(draw)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _bev_pixels(xy: Tensor) -> Tensor:
    """Column and row: x forward is up, y left is left."""
    return ((1.0 - xy.flip(-1) / BEV_EXTENT_M) * BEV_SIZE / 2).long()


def _draw_boxes(draw, boxes: Boxes) -> None:
    signs = torch.tensor([[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [-0.5, 0.5]])
    for center, size_m, yaw in zip(boxes.center, boxes.size_m, boxes.yaw_rad, strict=True):
        turn = torch.stack([torch.stack([yaw.cos(), -yaw.sin()]), torch.stack([yaw.sin(), yaw.cos()])])
        corners = signs * size_m[:2] @ turn.T + center[:2]
        front = (corners[0] + corners[1]) / 2
        draw.polygon([tuple(corner) for corner in _bev_pixels(corners).tolist()], outline=BOX)
        draw.line([tuple(p) for p in _bev_pixels(torch.stack([center[:2], front])).tolist()], fill=BOX)


def _draw_axes(draw) -> None:
    origin, ahead, left = (tuple(p) for p in _bev_pixels(torch.tensor([[0, 0], [4, 0], [0, 4]])).tolist())
    draw.line([origin, ahead], fill=(255, 80, 80), width=2)
    draw.line([origin, left], fill=(80, 255, 80), width=2)
