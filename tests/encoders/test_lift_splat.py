from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lexivox.data.types import Batch
from lexivox.encoders.depth_net import DepthNet, camera_numbers
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.lift_plan import LiftRules
from lexivox.encoders.lift_splat import LiftSplatEncoder
from lexivox.encoders.lifted import LiftedField
from lexivox.encoders.volume import VolumeEncoder
from lexivox.geometry.camera import crop_intrinsics, resize_intrinsics
from lexivox.geometry.frustum import DepthBins
from lexivox.geometry.transform import RigidTransform
from lexivox.heads.pointwise import PointwiseHead
from tests.rig import GRID, IMAGE_HW, batch_of, points, ring, take

BINS = DepthBins(1.0, 9.0, 8)


def encoder(norm: str = "group", rules: LiftRules = LiftRules()) -> LiftSplatEncoder:  # noqa: B008
    torch.manual_seed(0)
    return LiftSplatEncoder(
        GRID,
        image=ImageEncoder(16, widths=(8, 16, 24), num_levels=1),
        depth_net=DepthNet(16, 16, 6, BINS.count, aspp_channels=8, norm=norm),
        volume=VolumeEncoder(6, widths=(6, 8, 12), blocks=(1, 1, 1), joined_channels=8, channels=10, norm=norm),
        bins=BINS,
        context_channels=6,
        norm=norm,
        rules=rules,
    )


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_field_that_knows_its_depth() -> None:
    made = encoder()
    field = made(batch_of(ring(2)))
    assert isinstance(field, LiftedField)
    assert (field.channels, field.grid) == (made.channels, GRID)
    assert field.dense().shape == (2, 10, *GRID.shape)
    assert field.depth.prob.shape == (2, 3, 8, 8, 16)
    assert field.depth.bins == BINS
    torch.testing.assert_close(field.depth.prob.sum(dim=2), torch.ones(2, 3, 8, 16))


def test_sampled_at_the_centres_it_is_the_volume() -> None:
    field = encoder()(batch_of(ring(2)))
    centers = GRID.centers().reshape(-1, 3)
    for b in range(2):
        sampled = field.sample(centers, torch.full((len(centers),), b))
        torch.testing.assert_close(sampled.T.unflatten(1, GRID.shape), field.dense()[b], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_batch_of_two_equals_two_of_one(norm) -> None:
    made, cameras = encoder(norm), ring(2)
    if norm == "batch":
        made.eval()  # only then do samples not see each other
    together = made(batch_of(cameras)).dense()
    for b in range(2):
        same(together[b], made(batch_of(take(cameras, slice(b, b + 1)))).dense()[0])


def test_order_of_cameras_changes_nothing() -> None:
    made, cameras = encoder(), ring(2)
    same(made(batch_of(take(cameras, views=[2, 0, 1]))).dense(), made(batch_of(cameras)).dense())


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("views", [0, 1, 5])
def test_any_number_of_cameras(views, norm) -> None:
    field = encoder(norm).eval()(batch_of(ring(2, views)))
    assert torch.isfinite(field.dense()).all()
    assert field.depth.prob.shape[:3] == (2, views, 8)


def test_every_parameter_gets_a_gradient() -> None:
    made = encoder()
    head = PointwiseHead(made.channels, 8, 3)
    field = made(batch_of(ring(2)))
    head(field.sample(points(200), torch.arange(200) % 2)).square().sum().backward()
    assert [n for m in (made, head) for n, p in m.named_parameters() if p.grad is None] == []


def test_moving_world_and_grid_together_changes_nothing() -> None:
    # The camera's numbers hold its pose, so the network is asked for the lifted volume alone.
    made, cameras = encoder(), ring(1)
    shifted = replace(GRID, lower_m=tuple(x + 3.0 for x in GRID.lower_m))
    moved = RigidTransform(torch.eye(3, dtype=torch.float64), torch.full((3,), -3.0, dtype=torch.float64))
    other = encoder()
    other.grid = other.plans.grid = shifted
    prob, context = made._depth(made.image(cameras.images)[0], cameras)
    there = replace(cameras, cam_from_grid=cameras.cam_from_grid @ moved)
    same(other._splat(prob, context, there), made._splat(prob, context, cameras))


def test_augmentation_is_folded_into_calibration() -> None:
    # Cells of a cropped and shrunk image are lifted to where those of the whole image are.
    made, cameras = encoder(), ring(1)
    prob, context = made._depth(made.image(cameras.images)[0], cameras)
    whole = made._splat(prob, context, cameras)
    height, width = IMAGE_HW
    left = replace(
        cameras,
        images=cameras.images[..., : width // 2, :height],
        image_from_cam=resize_intrinsics(crop_intrinsics(cameras.image_from_cam.double(), width / 2, 0.0), 0.5, 0.5),
    )
    small = replace(left, images=cameras.images[..., : height // 2, : width // 4])
    same(
        made._splat(prob[..., 8:], context[..., 8:], small)
        + made._splat(prob[..., :8], context[..., :8], _cut(cameras)),
        whole,
    )


def _cut(cameras):
    return replace(cameras, images=cameras.images[..., : cameras.image_hw[1] // 2])


def test_a_rig_that_stays_is_sorted_once() -> None:
    made, batch = encoder(), batch_of(ring(1))
    made(batch)
    first = next(iter(made.plans._kept.values()))
    made(batch)
    assert [plan is first for plan in made.plans._kept.values()] == [True]
    for seed in range(6):
        moved = replace(batch.cameras, image_from_cam=batch.cameras.image_from_cam * (1.0 + 0.01 * seed))
        made(replace(batch, cameras=moved))
    assert len(made.plans) == 4


def test_a_plan_made_while_predicting_serves_in_training() -> None:
    made, batch = encoder(), batch_of(ring(1))
    with torch.inference_mode():
        made(batch)
    made(batch).dense().sum().backward()
    assert len(made.plans) == 1


def test_rules_change_the_lift() -> None:
    batch, ours = batch_of(ring(1)), encoder()
    for rules in (LiftRules(places="corners"), LiftRules(truncate=True), LiftRules(is_relative=False)):
        other = encoder(rules=rules)
        assert not torch.allclose(other(batch).dense(), ours(batch).dense(), atol=1e-4), rules


def test_depth_knows_the_camera() -> None:
    made, cameras = encoder(), ring(1)
    longer = replace(cameras, image_from_cam=cameras.image_from_cam * torch.tensor([[2.0], [2.0], [1.0]]))
    feature = made.image(cameras.images)[0]
    assert not torch.allclose(made._depth(feature, cameras)[0], made._depth(feature, longer)[0], atol=1e-5)


def test_relative_numbers_do_not_know_the_resolution() -> None:
    cameras = ring(1)
    doubled = replace(
        cameras,
        images=torch.zeros(1, 3, 3, 2 * IMAGE_HW[0], 2 * IMAGE_HW[1], dtype=torch.uint8),
        image_from_cam=resize_intrinsics(cameras.image_from_cam, 2.0, 2.0),
    )
    torch.testing.assert_close(camera_numbers(doubled), camera_numbers(cameras))


def test_one_pixel_goes_where_its_depth_says() -> None:
    # All mass of one camera's every cell in the bin at 4.5 m: exactly the voxels that hold those points are touched.
    made, cameras = encoder(), ring(1, 1)
    prob = torch.zeros(1, 1, 8, 8, 16)
    prob[:, :, 3] = 1.0
    volume = made._splat(prob, torch.ones(1, 1, 6, 8, 16), cameras)
    plan = made.plans(cameras, (8, 16))
    rows = plan.voxel_of_point[:, 3]
    counts = torch.bincount(rows[rows >= 0], minlength=GRID.num_voxels).reshape(GRID.shape)
    torch.testing.assert_close(volume[0], counts.expand(6, *GRID.shape).float())


def test_a_batch_is_not_changed() -> None:
    batch: Batch = batch_of(ring(1))
    before = batch.cameras.images.clone()
    encoder()(batch)
    assert torch.equal(batch.cameras.images, before)
