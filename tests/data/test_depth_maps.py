"""Sparse depth maps: the nearest point of a pixel, as published and in our own pixels."""

from __future__ import annotations

import pytest
import torch
from golden_rays import GRID, golden_clip, read_case
from rig import batch_of, ring
from rig import points as somewhere

from lexivox.data.collate import collate
from lexivox.data.depth_maps import depth_maps
from lexivox.errors import ShapeError
from lexivox.geometry.camera import pixels_from_cam

IMAGE_HW = (32, 64)


def slow_maps(cameras, xyz, owner, cell_px, near_m, far_m):
    """Point by point, view by view."""
    height, width = cameras.image_hw
    batch_size, views = cameras.image_from_cam.shape[:2]
    maps = torch.zeros(batch_size, views, -(-height // cell_px), -(-width // cell_px))
    for point, item in zip(xyz, owner.tolist(), strict=True):
        for view in range(views):
            xyz_cam = cameras.cam_from_grid[item, view].apply(point[None].double())
            uv, depth_m = pixels_from_cam(xyz_cam, cameras.image_from_cam[item, view].double())
            (u, v), depth = uv[0].tolist(), float(depth_m[0])
            if not (near_m <= depth < far_m and 0 <= u < width and 0 <= v < height):
                continue
            row, column = int(v) // cell_px, int(u) // cell_px
            known = float(maps[item, view, row, column])
            maps[item, view, row, column] = depth if known == 0 else min(known, depth)
    return maps


@pytest.mark.parametrize("cell_px", [1, 5, 16])
def test_the_nearest_point_of_a_cell_counts(cell_px):
    cameras = ring(2, 3, IMAGE_HW)
    xyz, owner = somewhere(300), torch.arange(300) % 2
    found = depth_maps(cameras, xyz, owner, near_m=1.0, far_m=7.0, cell_px=cell_px)
    expected = slow_maps(cameras, xyz, owner, cell_px, 1.0, 7.0)
    assert (expected > 0).sum() > 20
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_no_point_gives_empty_maps():
    cameras = batch_of(ring(1, 2, IMAGE_HW)).cameras
    none = torch.zeros(0, dtype=torch.int64)
    assert depth_maps(cameras, torch.zeros(0, 3), none, cell_px=16).tolist() == torch.zeros(1, 2, 2, 4).tolist()


def test_published_maps_are_reproduced(golden):
    """Case occflownet_rays, key frame. The official chain is float32 through coordinates of a kilometre: a hundredth of
    the points, all within 0.01 px of a border, fall into the pixel beside; nothing else may differ."""
    case = read_case(golden)
    batch = collate([golden_clip(case)], GRID)
    maps = depth_maps(batch.cameras, batch.lidar.xyz, batch.lidar.batch, pixel="round")[0]
    camera, row, column = torch.from_numpy(case["depth_map/cam_row_col"]).long().unbind(-1)
    depth_m = torch.from_numpy(case["depth_map/depth"])
    assert int((maps > 0).sum()) == len(depth_m) == 1586
    equal = (maps[camera, row, column] - depth_m).abs() <= 2e-3
    assert equal.double().mean() > 0.99
    beside = torch.nn.functional.pad(maps, (1, 1, 1, 1)).unfold(1, 3, 1).unfold(2, 3, 1)[camera, row, column]
    assert ((beside.flatten(1) - depth_m[:, None]).abs() <= 2e-3).any(1).all()


def test_wrong_options_are_named():
    cameras = ring(1, 1, IMAGE_HW)
    nowhere = torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ShapeError, match="cell_px of depth maps must be above 0; got 0"):
        depth_maps(cameras, *nowhere, cell_px=0)
