from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lexivox.errors import ShapeError
from lexivox.fields import (
    CoordinateField,
    DenseField,
    FeatureField,
    JoinedField,
    PixelField,
    TriplaneField,
)
from lexivox.geometry.camera import pixels_from_cam
from tests.reference.sampling import linear
from tests.rig import GRID, IMAGE_HW, points, ring, take

X, Y, Z = GRID.shape
BATCH = 2


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def dense_field(batch: int = BATCH) -> DenseField:
    return DenseField(GRID, rand(BATCH, 3, X, Y, Z)[:batch])


def triplane_planes() -> tuple[Tensor, Tensor, Tensor]:
    return rand(BATCH, 3, X, Y), rand(BATCH, 3, Y, Z, seed=1), rand(BATCH, 3, X, Z, seed=2)


def triplane_field(batch: int = BATCH) -> TriplaneField:
    return TriplaneField(GRID, *(plane[:batch] for plane in triplane_planes()))


def pixel_field(with_depth: bool = True) -> PixelField:
    return PixelField(GRID, rand(BATCH, 3, 4, 8, 16), ring(BATCH), with_depth)


def coordinate_field() -> CoordinateField:
    return CoordinateField(GRID, 2, BATCH)


def joined_field() -> JoinedField:
    return JoinedField((dense_field(), triplane_field(), pixel_field(), coordinate_field()))


FIELDS = [dense_field, triplane_field, pixel_field, coordinate_field, joined_field]


@pytest.mark.parametrize("make", FIELDS)
def test_sampling_the_centres_gives_the_dense_volume(make) -> None:
    field = make()
    centers = GRID.centers().reshape(-1, 3)
    batch = torch.arange(BATCH).repeat_interleave(len(centers))
    sampled = field.sample(centers.repeat(BATCH, 1), batch)
    dense = field.dense()
    assert isinstance(field, FeatureField)
    assert dense.shape == (BATCH, field.channels, X, Y, Z)
    torch.testing.assert_close(sampled, dense.flatten(2).transpose(1, 2).flatten(0, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", FIELDS)
def test_points_may_come_in_any_order_and_batches_do_not_mix(make) -> None:
    field, xyz = make(), points(50)
    batch = (torch.arange(50) * 7) % BATCH
    together = field.sample(xyz, batch)
    for p in range(0, 50, 5):
        torch.testing.assert_close(together[p : p + 1], field.sample(xyz[p : p + 1], batch[p : p + 1]))


@pytest.mark.parametrize("make", FIELDS)
def test_no_points(make) -> None:
    field = make()
    assert field.sample(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0, field.channels)


def test_a_coordinate_ramp_gives_the_coordinate() -> None:
    ramp = GRID.centers().permute(3, 0, 1, 2)[None]
    inner = points(200) * 0.7 + torch.tensor([0.0, 0.0, 0.3])
    batch = torch.zeros(200, dtype=torch.int64)
    torch.testing.assert_close(DenseField(GRID, ramp).sample(inner, batch), inner, atol=1e-5, rtol=0.0)
    x, y, z = ramp[0]
    planes = TriplaneField(GRID, x[None, None, :, :, 0], y[None, None, 0], z[None, None, :, 0])
    total = planes.sample(inner, batch)
    torch.testing.assert_close(total[:, 0], inner.sum(1), atol=1e-5, rtol=0.0)


def test_triplane_adds_its_three_projections() -> None:
    field = triplane_field()
    value = field.dense()[1, :, 2, 5, 3]
    torch.testing.assert_close(value, field.xy[1, :, 2, 5] + field.yz[1, :, 5, 3] + field.xz[1, :, 2, 3])


@pytest.mark.parametrize("make", [dense_field, triplane_field])
def test_batch_of_two_equals_two_of_one(make) -> None:
    xyz = points(20)
    zeros = torch.zeros(20, dtype=torch.int64)
    torch.testing.assert_close(make(2).sample(xyz, zeros), make(1).sample(xyz, zeros))


@pytest.mark.parametrize("make", [dense_field, triplane_field])
def test_far_outside_is_zero(make) -> None:
    far = torch.tensor([[1e4, 0.0, -9e3], [-1e7, 1e7, 1e7]])
    assert not make().sample(far, torch.zeros(2, dtype=torch.int64)).any()


def test_where_no_camera_looks_is_zero() -> None:
    above_and_below = torch.tensor([[0.5, 0.1, 1e4], [0.5, 0.1, -1e7]])
    assert not pixel_field().sample(above_and_below, torch.zeros(2, dtype=torch.int64)).any()


def test_upsampled_planes_keep_the_box() -> None:
    field = triplane_field().upsampled(3)
    assert field.grid == GRID.refine(3)
    assert field.dense().shape == (BATCH, 3, 3 * X, 3 * Y, 3 * Z)
    flat = TriplaneField(GRID, *(torch.ones_like(plane) for plane in triplane_planes()))
    assert flat.upsampled(2).dense().unique().tolist() == [3.0]


def test_pixel_field_equals_a_loop_over_views() -> None:
    field, xyz = pixel_field(), points(200)
    sampled = field.sample(xyz, torch.ones(200, dtype=torch.int64))
    height, width = IMAGE_HW
    diagonal_m = math.dist(GRID.lower_m, GRID.upper_m)
    seen_by = []
    for p in range(200):
        features, depths = [], []
        for v in range(3):
            xyz_cam = field.cameras.cam_from_grid[1, v].apply(xyz[p : p + 1])
            uv, depth_m = pixels_from_cam(xyz_cam, field.cameras.image_from_cam[1, v])
            u, w = uv[0].tolist()
            if depth_m > 0 and 0 < u < width and 0 < w < height:
                place = torch.tensor([w / height * 8, u / width * 16])
                features.append(torch.from_numpy(linear(field.features[1, v].numpy(), place.numpy())))
                depths.append(math.log1p(float(depth_m)) / math.log1p(diagonal_m))
        seen_by.append(len(features))
        expected = torch.stack(features).mean(0) if features else torch.zeros(4)
        torch.testing.assert_close(sampled[p, :4], expected.float(), atol=1e-5, rtol=1e-5)
        extra = [sum(depths) / max(len(depths), 1), len(depths) / 3]
        torch.testing.assert_close(sampled[p, 4:], torch.tensor(extra), atol=1e-5, rtol=1e-5)
    assert {0, 1, 2} <= set(seen_by)  # the rig shows every case


def test_order_of_cameras_changes_nothing() -> None:
    field, xyz, order = pixel_field(), points(80), [2, 0, 1]
    turned = PixelField(GRID, field.features[:, order], take(field.cameras, views=order), True)
    batch = torch.arange(80) % BATCH
    torch.testing.assert_close(field.sample(xyz, batch), turned.sample(xyz, batch))


def test_pixel_field_with_two_samples_equals_each_alone() -> None:
    field, xyz = pixel_field(), points(40)
    alone = PixelField(GRID, field.features[1:], take(field.cameras, slice(1, 2)), True)
    zeros = torch.zeros(40, dtype=torch.int64)
    torch.testing.assert_close(field.sample(xyz, zeros + 1), alone.sample(xyz, zeros))


def test_pixel_field_without_cameras_is_zero() -> None:
    field = PixelField(GRID, torch.zeros(2, 0, 4, 8, 16), ring(2, 0), True)
    assert not field.sample(points(9), torch.zeros(9, dtype=torch.int64)).any()
    assert field.dense().shape == (2, 6, X, Y, Z)


def test_image_features_are_learned_only_where_points_look() -> None:
    features = rand(1, 3, 4, 8, 16).requires_grad_()
    point = torch.tensor([[6.0, 2.2, 1.0]])  # in front of the first camera only
    PixelField(GRID, features, ring(1)).sample(point, torch.zeros(1, dtype=torch.int64)).sum().backward()
    assert features.grad is not None
    assert [bool(view.any()) for view in features.grad[0]] == [True, False, False]
    assert float(features.grad.sum()) == pytest.approx(4.0)


def test_coordinates_are_normalised_and_clamped() -> None:
    corner = torch.tensor([GRID.lower_m, (99.0, 99.0, 99.0)])
    sampled = coordinate_field().sample(corner, torch.zeros(2, dtype=torch.int64))
    assert sampled[:, :3].tolist() == [[-1.0] * 3, [1.0] * 3]
    assert sampled.shape == (2, coordinate_field().channels)


def test_planes_of_the_wrong_size_are_refused() -> None:
    with pytest.raises(
        ShapeError, match=r"plane yz of a field must have the grid's size \(8, 4\); got \(8, 5\)"
    ):
        TriplaneField(GRID, rand(1, 2, X, Y), rand(1, 2, Y, 5), rand(1, 2, X, 5))
    with pytest.raises(ShapeError, match="volume of a field"):
        DenseField(GRID, rand(1, 2, Z, Y, X))


def test_joined_fields_must_share_a_grid() -> None:
    with pytest.raises(ShapeError, match="share one grid"):
        JoinedField((dense_field(), CoordinateField(GRID.refine(2), 0, BATCH)))
    with pytest.raises(ShapeError, match="one or more"):
        JoinedField(())
