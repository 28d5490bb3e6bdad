"""Past keyframes in the lift-splat encoder: stereo, volumes, and what becomes of drives that just began."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lexivox.data.types import Batch, Cameras, Moment
from lexivox.encoders.depth_net import DepthNet
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.lift_plan import LiftRules
from lexivox.encoders.lift_splat import LiftSplatEncoder
from lexivox.encoders.volume import VolumeEncoder
from lexivox.errors import ShapeError
from lexivox.geometry.frustum import DepthBins
from lexivox.geometry.transform import RigidTransform
from tests.rig import GRID, batch_of, ring, take

BINS = DepthBins(1.0, 9.0, 8)


def encoder(stereo: bool = True, past: int = 1, norm: str = "group", **rules) -> LiftSplatEncoder:
    torch.manual_seed(0)
    return LiftSplatEncoder(
        GRID,
        image=ImageEncoder(16, widths=(8, 16, 24), num_levels=1, skip_levels=1 if stereo else 0),
        depth_net=DepthNet(16, 16, 6, BINS.count, aspp_channels=8, norm=norm, halvings=1 if stereo else None),
        volume=VolumeEncoder(6 * (past + 1), widths=(6, 8), blocks=(1, 1), joined_channels=8, channels=10, norm=norm),
        bins=BINS,
        context_channels=6,
        past=past,
        norm=norm,
        rules=LiftRules(**rules),
    )


def driven(cameras: Cameras, metres: float, seed: int = 0) -> Cameras:
    """The same rig with other images, that many metres farther back along x."""
    pose, back = cameras.cam_from_grid, torch.tensor([metres, 0.0, 0.0], dtype=torch.float64)
    other = ring(len(cameras.images), len(cameras.names), cameras.image_hw, seed=seed + 10)
    moved = RigidTransform(torch.eye(3, dtype=torch.float64), back)
    return replace(cameras, images=other.images, cam_from_grid=pose @ moved)


def moment(offset: int, cameras: Cameras, present: list[bool] | None = None) -> Moment:
    batch = batch_of(cameras)
    size = batch.size
    return Moment(
        offset, torch.zeros(size), torch.tensor(present or [True] * size), cameras, batch.lidar, batch.lidar_origin
    )


def with_past(cameras: Cameras, *past: Cameras) -> Batch:
    """``past``: one ago, two ago, ..."""
    moments = [moment(-age, other) for age, other in enumerate(past, 1)]
    return replace(batch_of(cameras), around=tuple(reversed(moments)))


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("stereo", "past", "offsets"), [
    (False, 0, ()), (True, 0, (-1,)), (False, 1, (-1,)), (True, 1, (-2, -1)), (True, 2, (-3, -2, -1)),
])  # fmt: skip
def test_it_says_which_images_it_wants(stereo, past, offsets) -> None:
    made, cameras = encoder(stereo, past), ring(2)
    assert made.image_offsets == offsets
    rigs = [driven(cameras, 1.0 * age, seed=age) for age in range(1, len(offsets) + 1)]
    field = made(with_past(cameras, *rigs))
    assert field.dense().shape == (2, 10, *GRID.shape)
    # Every image it asked for is used.
    for age in range(len(rigs)):
        other = [*rigs]
        other[age] = driven(cameras, 1.0 * (age + 1), seed=77)
        assert not torch.allclose(made(with_past(cameras, *other)).dense(), field.dense(), atol=1e-6)


@pytest.mark.parametrize("stereo", [False, True])
def test_at_the_start_of_a_drive_the_current_keyframe_is_repeated(stereo) -> None:
    # Spec 1.4. With the same images at the same place in every slot the result must be the same.
    made, cameras = encoder(stereo), ring(2)
    alone = made(batch_of(cameras)).dense()
    same(alone, made(with_past(cameras, cameras, cameras)).dense())
    blind = replace(cameras, images=cameras.images[:, :, :0])
    same(alone, made(with_past(cameras, blind, blind)).dense())


def test_samples_without_a_past_stand_beside_those_with_one() -> None:
    made, cameras = encoder(), ring(2)
    one, two = driven(cameras, 1.0, 1), driven(cameras, 2.0, 2)

    def second_is_current(past: Cameras) -> Cameras:
        def mixed(a, b):
            return torch.cat([a[:1], b[1:]])

        pose = RigidTransform(
            mixed(past.cam_from_grid.rotation, cameras.cam_from_grid.rotation),
            mixed(past.cam_from_grid.translation, cameras.cam_from_grid.translation),
        )
        return replace(past, images=mixed(past.images, cameras.images), cam_from_grid=pose)

    batch = with_past(cameras, second_is_current(one), second_is_current(two))
    together = made(batch).dense()
    first = slice(0, 1)
    same(together[0], made(with_past(*(take(c, first) for c in (cameras, one, two)))).dense()[0])
    same(together[1], made(batch_of(take(cameras, slice(1, 2)))).dense()[0])


@pytest.mark.parametrize("stereo", [False, True])
def test_batch_of_two_equals_two_of_one_and_cameras_have_no_order(stereo) -> None:
    made, cameras = encoder(stereo), ring(2)
    past = [driven(cameras, 1.0, 1), driven(cameras, 2.0, 2)]
    together = made(with_past(cameras, *past)).dense()
    for b in range(2):
        alone = with_past(*(take(c, slice(b, b + 1)) for c in (cameras, *past)))
        same(together[b], made(alone).dense()[0])
    same(together, made(with_past(*(take(c, views=[2, 0, 1]) for c in (cameras, *past)))).dense())


def test_the_past_is_lifted_straight_into_the_current_grid() -> None:
    # The same images from one voxel (1.6 m) farther back: the same volume, one voxel farther back.
    made, cameras = encoder(stereo=False), ring(1)
    made.frame_block = nn.Sequential(nn.Identity())
    back = replace(driven(cameras, 1.6), images=cameras.images)
    looks = made._looks(with_past(cameras, back))
    now, past = (made._volume_of(looks, age)[0] for age in (0, 1))
    same(past[:, :, :-1], now[:, :, 1:])


def test_a_camera_is_told_by_its_place_on_the_car() -> None:
    # Own intrinsics; where the car has been meanwhile says nothing about depth in the image.
    made, cameras = encoder(stereo=False, own_mounting=False), ring(1)
    zoomed = replace(driven(cameras, 1.6), image_from_cam=cameras.image_from_cam * torch.tensor([[1.5], [1.5], [1.0]]))
    told: list[torch.Tensor] = []
    made.depth_net.register_forward_pre_hook(lambda module, inputs: told.append(inputs[1]))
    made(with_past(cameras, zoomed))
    past, now = told
    assert torch.equal(past[:, 15:], now[:, 15:])
    torch.testing.assert_close(past[:, :4], 1.5 * now[:, :4])


def test_a_past_camera_is_told_by_its_own_place_on_the_car() -> None:
    # Spec A13. The car drove 1.6 m, and the past camera was exposed when it sat 0.2 m ahead of where it sits now.
    made, cameras = encoder(stereo=False), ring(1)
    drove = RigidTransform(torch.eye(3).double(), torch.tensor([-1.6, 0.0, 0.0]).double())
    past = replace(moment(-1, driven(cameras, 1.4)), grid_from_own=RigidTransform.stack([drove]))
    told: list[torch.Tensor] = []
    made.depth_net.register_forward_pre_hook(lambda module, inputs: told.append(inputs[1]))
    made(replace(batch_of(cameras), around=(past,)))
    poses = [numbers[:, 15:].view(-1, 3, 4) for numbers in told]
    torch.testing.assert_close(poses[0][..., :3], poses[1][..., :3])
    torch.testing.assert_close(poses[0][..., 3] - poses[1][..., 3], torch.tensor([0.2, 0.0, 0.0]).expand(3, 3))


def test_depth_is_compared_between_a_camera_and_its_own_past() -> None:
    # A camera that looks along x and drove 1 m forward. A far wall does not grow; what is near does.
    made, cameras = encoder(past=0), ring(1)
    looks = made._looks(with_past(cameras, driven(cameras, 1.0, 1)))
    costs = made._costs(*looks)
    assert costs.shape == (3, 8, 8, 16)
    torch.testing.assert_close(costs.sum(dim=1), torch.ones(3, 8, 16))
    assert float(costs.std(dim=1).mean()) > 1e-3
    assert float(made._costs(looks[0], looks[0]).std(dim=1).max()) < 1e-3


def floats(cameras: Cameras) -> Cameras:
    return replace(cameras, images=cameras.images.float().requires_grad_())


@pytest.mark.parametrize("learn_past", [False, True])
def test_gradients_reach_past_images_only_if_asked_for(learn_past) -> None:
    made = encoder(learn_past=learn_past)
    now, past = floats(ring(1)), floats(driven(ring(1), 1.0, 1))
    made(with_past(now, past)).dense().square().sum().backward()
    assert now.images.grad.abs().sum() > 0
    assert (past.images.grad is not None) == learn_past


def test_every_parameter_gets_a_gradient() -> None:
    made, cameras = encoder(), ring(1)
    made(with_past(cameras, driven(cameras, 1.0, 1), driven(cameras, 2.0, 2))).dense().square().sum().backward()
    assert [n for n, p in made.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("past_statistics", [False, True])
def test_statistics_are_those_of_the_current_keyframe(past_statistics) -> None:
    # Spec A19. Other past images must not move the running statistics of anything they pass alone.
    means = []
    for seed in (1, 2):
        made, cameras = encoder(norm="batch", past_statistics=past_statistics, stereo=False), ring(2)
        made(with_past(cameras, driven(cameras, 1.0, seed)))
        assert all(module.training for module in made.modules())
        means.append(made.depth_net.reduce[1].running_mean.clone())
    assert torch.equal(*means) != past_statistics


def test_evaluation_is_left_as_it_was() -> None:
    made, cameras = encoder(norm="batch").eval(), ring(2)
    before = {name: x.clone() for name, x in made.state_dict().items()}
    made(with_past(cameras, driven(cameras, 1.0)))
    assert not any(module.training for module in made.modules())
    assert all(torch.equal(x, before[name]) for name, x in made.state_dict().items())


def test_other_cameras_in_the_past_are_refused() -> None:
    made, cameras = encoder(), ring(1)
    past = take(driven(cameras, 1.0), views=[1, 0, 2])
    with pytest.raises(ShapeError, match=r"cameras of neighbouring keyframes must be the same; got .*CAM_1"):
        made(with_past(cameras, past))


def test_no_cameras_at_all() -> None:
    none = ring(2, 0)
    assert torch.isfinite(encoder()(with_past(none, none, none)).dense()).all()
