from __future__ import annotations

import pytest
import torch

from lexivox.geometry.frustum import pixel_motion
from lexivox.geometry.transform import RigidTransform
from lexivox.ops.cost_volume import cost_volume
from tests.reference import lifting

INTRINSICS = torch.tensor([[16.0, 0.0, 16.0], [0.0, 16.0, 8.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
IMAGE_HW, CELLS_HW = (16, 32), (4, 8)
DEPTHS = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)


def motion(*poses: RigidTransform):
    intrinsics = INTRINSICS.expand(len(poses), 3, 3)
    return pixel_motion(intrinsics, RigidTransform.stack(poses), intrinsics)


def test_equals_the_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    current, other = torch.randn(2, 2, 3, *CELLS_HW, generator=generator).unbind()
    poses = [RigidTransform.from_yaw(0.05, (0.4, 0.1, -1.6)), RigidTransform.from_yaw(0.0, (0.0, 0.0, 2.0))]
    found = cost_volume(current, other, motion(*poses), DEPTHS, IMAGE_HW)
    for view, pose in enumerate(poses):
        expected = lifting.cost_volume(
            current[view].double().numpy(), other[view].double().numpy(), INTRINSICS.numpy(), pose.matrix().numpy(),
            DEPTHS.tolist(), IMAGE_HW,
        )  # fmt: skip
        torch.testing.assert_close(found[view].double(), torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_a_camera_that_moved_sideways_finds_the_depth() -> None:
    # At 4 m a shift of 2 m is 16 * 2 / 4 = 8 px = 2 cells: the other image is the same picture, two cells aside.
    generator = torch.Generator().manual_seed(1)
    wide = 3.0 * torch.randn(1, 6, CELLS_HW[0], CELLS_HW[1] + 2, generator=generator)
    current, other = wide[..., 2:], wide[..., :-2]
    found = cost_volume(current, other, motion(RigidTransform.from_yaw(0.0, (2.0, 0.0, 0.0))), DEPTHS, IMAGE_HW)
    assert bool((found.argmax(dim=1)[..., :-2] == 2).all())
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, *CELLS_HW))


def test_a_camera_that_stood_still_says_nothing() -> None:
    feature = torch.randn(1, 6, *CELLS_HW)
    found = cost_volume(feature, feature, motion(RigidTransform.identity()), DEPTHS, IMAGE_HW)
    torch.testing.assert_close(found, torch.full_like(found, 0.25), atol=1e-4, rtol=0)


def test_what_the_other_image_does_not_show_costs_more() -> None:
    # The other camera stands 4.5 m ahead: what is nearer than that lies behind it. The middle of the image is in both.
    # Features are equal everywhere.
    feature = torch.zeros(1, 2, *CELLS_HW)
    found = cost_volume(feature, feature, motion(RigidTransform.from_yaw(0.0, (0.0, 0.0, -4.5))), DEPTHS, IMAGE_HW)
    middle = found[..., 1:3, 2:6]
    assert bool((middle[:, :3] < middle[:, 3:]).all())
    # Unseen at three depths: softmax over (-5, -5, -5, 0).
    torch.testing.assert_close(found[0, 3, 1, 3], (1 / (1 + 3 * torch.exp(torch.tensor(-5.0)))), atol=1e-5, rtol=0)


def test_no_gradient_and_no_views() -> None:
    feature = torch.randn(1, 6, *CELLS_HW, requires_grad=True)
    assert not cost_volume(feature, feature, motion(RigidTransform.identity()), DEPTHS, IMAGE_HW).requires_grad
    none = torch.zeros(0, 3, 3, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.float64)
    assert cost_volume(feature[:0], feature[:0], none, DEPTHS, IMAGE_HW).shape == (0, 4, *CELLS_HW)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_are_float32(dtype) -> None:
    feature = torch.randn(1, 6, *CELLS_HW).to(dtype)
    pose = RigidTransform.from_yaw(0.1, (0.5, 0.0, 0.0))
    assert cost_volume(feature, feature, motion(pose), DEPTHS, IMAGE_HW).dtype == torch.float32
