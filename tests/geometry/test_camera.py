"""Projection and its inverse; intrinsics that follow the pixels of a resized, cropped or mirrored image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate

from lexivox.geometry.camera import (
    cam_from_pixels,
    crop_intrinsics,
    is_visible,
    mirror_intrinsics,
    pixels_from_cam,
    resize_intrinsics,
)
from lexivox.geometry.transform import RigidTransform

laws = settings(max_examples=60, deadline=None)
HEIGHT, WIDTH = 48, 64
intrinsics = st.builds(
    lambda fu, fv, cu, cv, skew: torch.tensor([[fu, skew, cu], [0, fv, cv], [0, 0, 1]], dtype=torch.float64),
    st.floats(20, 2000), st.floats(20, 2000), st.floats(0, 900), st.floats(0, 900), st.floats(-2, 2),
)  # fmt: skip
points = st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.5, 80))
CAMERA = torch.tensor([[60.0, 0.0, 32.0], [0.0, 55.0, 24.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
XYZ = torch.tensor([[0.8, -0.6, 4.0]], dtype=torch.float64)  # -> u = 44, v = 15.75


@laws
@given(intrinsics, points)
def test_unprojecting_undoes_projecting(image_from_cam, xyz):
    xyz = torch.tensor([xyz], dtype=torch.float64)
    uv, depth_m = pixels_from_cam(xyz, image_from_cam)
    torch.testing.assert_close(depth_m, xyz[:, 2])
    torch.testing.assert_close(cam_from_pixels(uv, depth_m, image_from_cam), xyz, atol=1e-8, rtol=1e-8)


def test_known_projection():
    # The spec's front camera (pop3d 11): pixel (947.533, 537.432) at 19.3 m
    rotation = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    lidar_from_cam = RigidTransform(rotation.T, torch.tensor([0.0, 0.7, -0.3], dtype=torch.float64))
    image_from_cam = torch.tensor([[1266.4, 0, 816.3], [0, 1266.4, 491.5], [0, 0, 1]], dtype=torch.float64)
    xyz_cam = lidar_from_cam.inverse().apply(torch.tensor([[2.0, 20.0, -1.0]], dtype=torch.float64))
    uv, depth_m = pixels_from_cam(xyz_cam, image_from_cam)
    assert depth_m.item() == pytest.approx(19.3)
    assert uv[0].tolist() == pytest.approx([947.533, 537.432], abs=1e-3)
    half, _ = pixels_from_cam(xyz_cam, resize_intrinsics(image_from_cam, 0.5, 0.5))
    assert half[0].tolist() == pytest.approx([473.767, 268.716], abs=1e-3)


def test_visibility_wants_the_inside_of_the_image_before_the_camera():
    uv = torch.tensor([[0.5, 0.5], [0.0, 3.0], [63.9, 47.9], [64.0, 5.0], [5.0, 5.0], [1.0, 5.0]])
    depth_m = torch.tensor([1.0, 1.0, 1.0, 1.0, -2.0, 0.9])
    assert is_visible(uv, depth_m, (HEIGHT, WIDTH)).tolist() == [True, False, True, False, False, True]
    strict = is_visible(uv, depth_m, (HEIGHT, WIDTH), min_depth_m=1.0 - 1e-6, margin_px=1.0)
    assert not strict.any()


def blob(uv: Tensor) -> Tensor:
    """An image with a smooth spot at ``uv``; the first pixel's centre is at 0.5."""
    v, u = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    return torch.exp(-((u - uv[0, 0]) ** 2 + (v - uv[0, 1]) ** 2) / 18.0)


def center_of(image: Tensor) -> Tensor:
    """Where the spot lies: the mean pixel position, weighted by brightness."""
    height, width = image.shape
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([(image * u).sum(), (image * v).sum()]).to(torch.float64) / image.sum()


def seen_at(image_from_cam: Tensor, xyz: Tensor = XYZ) -> Tensor:
    return pixels_from_cam(xyz, image_from_cam)[0][0]


@pytest.mark.parametrize("scale", [(0.5, 0.5), (1.5, 2.0), (2.0, 0.75)])
def test_resized_pixels(scale):
    scale_u, scale_v = scale
    size = (int(HEIGHT * scale_v), int(WIDTH * scale_u))
    image = blob(seen_at(CAMERA)[None])[None, None]
    image = interpolate(image, size=size, mode="bilinear", antialias=True)[0, 0]
    expected = seen_at(resize_intrinsics(CAMERA, scale_u, scale_v))
    torch.testing.assert_close(center_of(image), expected, atol=0.02, rtol=0)


def test_cropped_pixels():
    image = blob(seen_at(CAMERA)[None])[3:, 20:]
    expected = seen_at(crop_intrinsics(CAMERA, 20.0, 3.0))
    torch.testing.assert_close(center_of(image), expected, atol=0.02, rtol=0)


def test_mirrored_pixels_show_the_mirrored_world():
    image = blob(seen_at(CAMERA)[None]).flip(1)
    mirrored_xyz = XYZ * torch.tensor([-1.0, 1.0, 1.0])
    expected = seen_at(mirror_intrinsics(CAMERA, WIDTH), mirrored_xyz)
    torch.testing.assert_close(center_of(image), expected, atol=0.02, rtol=0)


@laws
@given(intrinsics, points)
def test_mirroring_twice_changes_nothing_and_skew_follows(image_from_cam, xyz):
    xyz = torch.tensor([xyz], dtype=torch.float64)
    mirrored = mirror_intrinsics(image_from_cam, WIDTH)
    torch.testing.assert_close(mirror_intrinsics(mirrored, WIDTH), image_from_cam)
    u, v = seen_at(image_from_cam, xyz)
    expected = torch.stack([WIDTH - u, v])
    flipped = xyz * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(seen_at(mirrored, flipped), expected, atol=1e-7, rtol=1e-9)
