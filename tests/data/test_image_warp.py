"""Scaled, cropped, flipped, rotated images: content and calibration move together."""

import math

import pytest
import torch

from lexivox.data.image_warp import ImageJitter, ImageWarp, bottom_crop, warp_views
from lexivox.data.sample import CameraView
from lexivox.data.synthetic import SyntheticDrive
from lexivox.geometry.camera import pixels_from_cam
from lexivox.geometry.transform import RigidTransform

INTRINSICS = torch.tensor([[50.0, 0.0, 40.0], [0.0, 50.0, 30.0], [0.0, 0.0, 1.0]])


def view_with_dot(u: float, v: float, hw=(60, 80)) -> CameraView:
    """A black picture with one white spot, three pixels wide, around (u, v)."""
    image = torch.zeros(3, *hw, dtype=torch.uint8)
    row, column = int(v), int(u)
    image[:, row - 1 : row + 2, column - 1 : column + 2] = 255
    return CameraView("CAM", image, INTRINSICS, RigidTransform.identity(), 0)


def brightest(view: CameraView) -> torch.Tensor:
    """Centre of mass of the white, in pixels with the first centre at 0.5."""
    weight = view.image[0].float()
    v, u = torch.meshgrid(*(torch.arange(n) + 0.5 for n in weight.shape), indexing="ij")
    return torch.stack([(u * weight).sum(), (v * weight).sum()]) / weight.sum()


WARPS = {
    "scaled": ImageWarp(0.5, 0, 0, (30, 40)),
    "cropped": ImageWarp(1.0, 10, 20, (40, 70)),
    "flipped": ImageWarp(1.0, 0, 0, (60, 80), is_flipped=True),
    "rotated": ImageWarp(1.0, 0, 0, (60, 80), rotation_rad=math.radians(20)),
    "all": ImageWarp(1.5, 20, 15, (60, 90), True, math.radians(-9)),
}


@pytest.mark.parametrize("warp", WARPS.values(), ids=WARPS)
def test_a_point_falls_on_the_same_content_before_and_after(warp):
    xyz = torch.tensor([[0.11, 0.21, 1.0]])  # projects to (45.5, 40.5), the centre of a pixel
    before, _ = pixels_from_cam(xyz, INTRINSICS)
    torch.testing.assert_close(before, torch.tensor([[45.5, 40.5]]))
    view = warp(view_with_dot(45, 40))
    after, depth_m = pixels_from_cam(xyz, view.image_from_cam)
    assert view.image_hw == warp.image_hw
    torch.testing.assert_close(depth_m, torch.ones(1))
    torch.testing.assert_close(brightest(view), after[0], atol=0.15, rtol=0)


def test_the_matrix_by_hand():
    # (45.5, 40.5) * 0.5 = (22.75, 20.25); cut 2, 3: (20.75, 17.25); flipped in a width of 30: (9.25, 17.25)
    warp = ImageWarp(0.5, 2, 3, (20, 30), is_flipped=True)
    torch.testing.assert_close(
        warp.new_from_old @ torch.tensor([45.5, 40.5, 1.0]).double(), torch.tensor([9.25, 17.25, 1.0]).double()
    )
    # A quarter turn counter-clockwise about (15, 10): what lies to the right (20, 10) comes to the top (15, 5)
    turned = ImageWarp(1.0, 0, 0, (20, 30), rotation_rad=math.pi / 2).new_from_old
    torch.testing.assert_close(
        turned @ torch.tensor([20.0, 10.0, 1.0]).double(), torch.tensor([15.0, 5.0, 1.0]).double()
    )


def published(warp: ImageWarp) -> torch.Tensor:
    """Post-rotation and post-translation, step by step as the released loader makes them (spec occflownet 5)."""

    def exact(rows):
        return torch.tensor(rows, dtype=torch.float64)

    height, width = warp.image_hw
    rotation, shift = exact([[warp.scale, 0], [0, warp.scale]]), -exact([warp.left_px, warp.top_px])
    if warp.is_flipped:
        flip = exact([[-1, 0], [0, 1]])
        rotation, shift = flip @ rotation, flip @ shift + exact([width, 0])
    cos, sin = math.cos(warp.rotation_rad), math.sin(warp.rotation_rad)
    turn, middle = exact([[cos, sin], [-sin, cos]]), exact([width / 2, height / 2])
    return torch.cat([turn @ rotation, (turn @ shift - turn @ middle + middle)[:, None]], dim=1)


@pytest.mark.parametrize("warp", WARPS.values(), ids=WARPS)
def test_the_matrix_is_the_published_one(warp):
    torch.testing.assert_close(warp.new_from_old[:2], published(warp))


def test_the_sky_is_cut_off():
    warp = bottom_crop((900, 1600), (256, 704))  # 0.44: 396 x 704, of which the lowest 256 rows
    assert warp == ImageWarp(0.44, 0, 140, (256, 704))


def test_beyond_the_image_is_black():
    view = ImageWarp(1.0, -10, 0, (60, 80))(
        CameraView("C", torch.full((3, 60, 80), 200, dtype=torch.uint8), INTRINSICS, RigidTransform.identity(), 0)
    )
    assert int(view.image[:, :, :9].max()) == 0
    assert int(view.image[:, :, 11:].min()) == 200


def test_the_jitter_is_drawn_within_its_bounds_and_for_each_camera():
    sample = SyntheticDrive(3, 1, (90, 160), num_azimuths=20)[0]
    jitter, generator = ImageJitter(), torch.Generator().manual_seed(0)
    scales = []
    for _ in range(20):
        warps = jitter.of_rig(sample, (40, 120), generator)
        assert len({warp.rotation_rad for warp in warps.values()}) == 6
        for warp in warps.values():
            scales.append(warp.scale / 0.75 - 1.0)
            assert abs(warp.rotation_rad) <= math.radians(5.4)
            assert 0 <= warp.left_px <= max(round(160 * warp.scale) - 120, 0)
    assert -0.136 <= min(scales) < -0.12
    assert 0.23 < max(scales) <= 0.25
    warped = warp_views(sample, warps)
    assert all(view.image_hw == (40, 120) for view in warped.views)


def test_a_view_without_pixels_keeps_its_calibration():
    view = view_with_dot(40, 30)
    empty = CameraView("C", view.image[:0], INTRINSICS, RigidTransform.identity(), 0)
    warp = WARPS["all"]
    assert warp(empty).image.shape == (0, 60, 90)
    assert torch.equal(warp(empty).image_from_cam, warp(view).image_from_cam)
