from __future__ import annotations

import math

import pytest
import torch

from lexivox.errors import ShapeError
from lexivox.geometry.camera import pixels_from_cam
from lexivox.geometry.frustum import DepthBins, cell_pixels, frustum_points, pixel_motion, viewing_rays
from lexivox.geometry.transform import RigidTransform

INTRINSICS = torch.tensor([[30.0, 0.5, 24.3], [0.0, 31.0, 15.8], [0.0, 0.0, 1.0]], dtype=torch.float64)


def test_published_bins() -> None:
    # Spec 1.3 and 8.4: lower edges 1.0, 1.5, ..., 44.5 m; class = floor((d - 0.5) / 0.5) - 1.
    bins = DepthBins()
    assert bins.depths_m("corners").tolist() == [1.0 + 0.5 * i for i in range(88)]
    assert bins.depths_m()[[0, -1]].tolist() == [1.25, 44.75]
    depth = torch.tensor([0.5, 0.99, 1.0, 1.49, 1.5, 12.3, 44.99, 45.0, math.inf])
    assert bins.index(depth).tolist() == [-1, -1, 0, 0, 1, 22, 87, -1, -1]


@pytest.mark.parametrize("spacing", ["uniform", "log"])
def test_every_bin_finds_what_lies_between_its_edges(spacing) -> None:
    bins = DepthBins(0.7, 61.0, 37, spacing)
    assert torch.equal(bins.index(bins.depths_m()), torch.arange(37))
    edges = bins.edges_m()
    inside = edges[:-1] + 1e-6 * (edges[1:] - edges[:-1])
    assert torch.equal(bins.index(inside), torch.arange(37))
    assert bins.index(torch.tensor([0.699, 61.001])).tolist() == [-1, -1]


def test_logarithmic_bins_grow_by_one_factor() -> None:
    edges = DepthBins(1.0, 16.0, 4, "log").edges_m()
    torch.testing.assert_close(edges, torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0], dtype=torch.float64))


@pytest.mark.parametrize("wrong", [(0.0, 5.0, 3), (5.0, 5.0, 3), (1.0, 2.0, 0), (1.0, math.inf, 3)])
def test_impossible_bins_are_refused(wrong) -> None:
    with pytest.raises(ShapeError, match="depth bins must be at least one between 0 < near_m < far_m; got"):
        DepthBins(*wrong)


def test_what_cells_stand_for() -> None:
    # Image 8 wide, 4 high; cells 4 x 2 of two pixels each.
    assert cell_pixels((2, 4), (4, 8))[1].tolist() == [[1, 3], [3, 3], [5, 3], [7, 3]]
    corners = cell_pixels((2, 4), (4, 8), "corners")
    torch.testing.assert_close(corners[1, :, 0], torch.tensor([0, 7 / 3, 14 / 3, 7], dtype=torch.float64))
    assert corners[:, 0, 1].tolist() == [0, 3]


def test_points_of_the_frustum_are_seen_where_they_come_from() -> None:
    uv, depths = cell_pixels((3, 5), (32, 48)), torch.tensor([1.5, 4.0, 20.0], dtype=torch.float64)
    cam_from_grid = RigidTransform.from_yaw(0.4, (1.0, -2.0, 0.3))
    xyz = frustum_points(viewing_rays(uv, INTRINSICS), depths, cam_from_grid.inverse())
    pixels, depth = pixels_from_cam(cam_from_grid.apply(xyz.reshape(-1, 3)).double(), INTRINSICS)
    torch.testing.assert_close(depth.reshape(3, 5, 3), depths.expand(3, 5, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(pixels.reshape(3, 5, 3, 2), uv[:, :, None].expand(3, 5, 3, 2), atol=1e-3, rtol=0)


def test_motion_of_pixels() -> None:
    other_from_cam = RigidTransform.from_yaw(0.1, (0.3, 0.1, 0.5))
    other = INTRINSICS * torch.tensor([[1.1], [0.9], [1.0]])
    matrix, shift = pixel_motion(INTRINSICS, other_from_cam, other)
    xyz = torch.tensor([[0.4, -0.3, 6.0]], dtype=torch.float64)
    pixel, depth = pixels_from_cam(xyz, INTRINSICS)
    expected, other_depth = pixels_from_cam(other_from_cam.apply(xyz), other)
    found = matrix @ torch.cat([pixel[0], torch.ones(1, dtype=torch.float64)]) * depth + shift
    torch.testing.assert_close(found[:2] / found[2], expected[0])
    torch.testing.assert_close(found[2:], other_depth)
