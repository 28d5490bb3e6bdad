from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lexivox.encoders.triplane import TriplaneEncoder, pillar_points
from lexivox.errors import ShapeError
from lexivox.geometry.grid import POP3D
from lexivox.geometry.transform import RigidTransform
from tests.rig import GRID, ring, take

SIZES = [(8, 16), (4, 8)]


def pyramid(batch: int, views: int, channels: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, views, channels, h, w, generator=generator) for h, w in SIZES]


def encoder(**options) -> TriplaneEncoder:
    torch.manual_seed(0)
    made = TriplaneEncoder(GRID, channels=8, num_heads=2, num_layers=2, anchors=(2, 3, 3), **options).eval()
    for parameter in made.parameters():  # the zeros of the start would hide mistakes
        parameter.data += 0.2 * torch.randn_like(parameter)
    return made


def dense(made: TriplaneEncoder, features: list[Tensor], cameras) -> Tensor:
    with torch.no_grad():
        return made(features, cameras).dense()


def test_batch_of_two_equals_two_of_one() -> None:
    made, cameras, features = encoder(), ring(2), pyramid(2, 3)
    together = dense(made, features, cameras)
    for b in range(2):
        alone = dense(made, [f[b : b + 1] for f in features], take(cameras, slice(b, b + 1)))
        torch.testing.assert_close(together[b : b + 1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_cameras", [None, 3])
def test_order_of_cameras_changes_nothing(num_cameras: int | None) -> None:
    made, cameras, features, order = encoder(num_cameras=num_cameras), ring(1), pyramid(1, 3), [2, 0, 1]
    expected = dense(made, features, cameras)
    if made.camera_embedding is not None:
        made.camera_embedding.data = made.camera_embedding.data[order]
    turned = dense(made, [f[:, order] for f in features], take(cameras, views=order))
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=1e-5)


def test_a_camera_that_sees_no_anchor_changes_nothing() -> None:
    made, cameras, features = encoder(), ring(1), pyramid(1, 3)
    cameras.cam_from_grid.translation[:, 2, 2] -= 1000.0  # the whole box lies behind the last camera
    expected = dense(made, features, cameras)
    for level in features:
        level[:, 2] += 100.0
    torch.testing.assert_close(dense(made, features, cameras), expected, atol=0.0, rtol=0.0)


def test_zero_cameras_give_the_learned_planes() -> None:
    made = encoder()
    field = made(pyramid(2, 0), ring(2, 0))
    assert field.dense().shape == (2, 8, *GRID.shape)
    assert torch.isfinite(field.dense()).all()


def test_every_parameter_gets_a_gradient() -> None:
    made = encoder(num_cameras=3).train()
    field = made(pyramid(2, 3), ring(2))
    weight = torch.randn(field.dense().shape, generator=torch.Generator().manual_seed(2))
    (field.dense() * weight).sum().backward()
    missing = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        made, features = encoder(checkpointing=checkpointing), pyramid(1, 3)
        features[0].requires_grad_()
        made(features, ring(1)).dense().square().sum().backward()
        gradients.append([features[0].grad, *[p.grad for p in made.parameters()]])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_moving_world_and_grid_together_changes_nothing() -> None:
    made, cameras, features = encoder(), ring(1), pyramid(1, 3)
    shift = torch.tensor([4.0, -2.0, 0.5], dtype=torch.float64)
    moved_grid = replace(GRID, lower_m=tuple(a + b for a, b in zip(GRID.lower_m, shift.tolist(), strict=True)))
    moved = TriplaneEncoder(moved_grid, channels=8, num_heads=2, num_layers=2, anchors=(2, 3, 3)).eval()
    moved.load_state_dict(made.state_dict())
    back = RigidTransform(torch.eye(3, dtype=torch.float64), -shift)
    moved_cameras = replace(cameras, cam_from_grid=cameras.cam_from_grid @ back)
    torch.testing.assert_close(
        dense(moved, features, moved_cameras), dense(made, features, cameras), atol=1e-4, rtol=1e-4
    )


def test_the_published_size_has_the_published_parameters() -> None:
    # Spec POP-3D 8.
    made = TriplaneEncoder(
        POP3D, channels=256, num_heads=8, num_layers=3, num_levels=4, anchors=(4, 32, 32),
        points_per_anchor=2, num_cameras=6,
    )  # fmt: skip
    assert sum(p.numel() for p in made.parameters()) == 14_942_272


def test_published_anchors_stand_half_a_metre_inside() -> None:
    # Spec POP-3D 2.4 and 11.
    z = pillar_points(POP3D, 0, 4)[0, :, 2]
    torch.testing.assert_close(z, torch.tensor([-4.5, -2.1666667, 0.1666667, 2.5]))
    x = pillar_points(POP3D, 1, 32)[0, :, 0]
    torch.testing.assert_close(x[[0, -1]], torch.tensor([-50.7, 50.7]), atol=1e-4, rtol=0.0)
    first = pillar_points(POP3D, 0, 4)[1, 0, :2]  # token 1 of the top plane is the second along x
    torch.testing.assert_close(first, torch.tensor([-51.2 + 1.5 * 1.024, -51.2 + 0.5 * 1.024]))


def test_wrong_pyramids_and_rigs_are_refused() -> None:
    with pytest.raises(ShapeError, match="image pyramid must have 2 levels of 8 channels"):
        encoder()(pyramid(1, 3, channels=4), ring(1))
    with pytest.raises(ShapeError, match="cameras must be 4, one per camera embedding; got 3"):
        encoder(num_cameras=4)(pyramid(1, 3), ring(1))
    with pytest.raises(ShapeError, match="channels must be a multiple of 8, twice num_heads; got 12"):
        TriplaneEncoder(GRID, channels=12, num_heads=4)
