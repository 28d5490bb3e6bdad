from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lexivox.errors import ShapeError
from lexivox.fields import (
    CoordinateField,
    DenseField,
    FeatureField,
    FrustumField,
    JoinedField,
    PixelField,
    Sightings,
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


BINS, RANGE_M = 5, (1.0, 20.0)


def frustum_field(batch: int = BATCH, views: int = 3) -> FrustumField:
    profiles = rand(BATCH, 3, 4 * BINS, 8, 16)[:batch, :views]
    cameras = take(ring(BATCH), slice(0, batch), list(range(views)))
    return FrustumField(GRID, profiles, cameras, BINS, RANGE_M)


def coordinate_field() -> CoordinateField:
    return CoordinateField(GRID, 2, BATCH)


def joined_field() -> JoinedField:
    return JoinedField((dense_field(), triplane_field(), pixel_field(), frustum_field(), coordinate_field()))


FIELDS = [dense_field, triplane_field, pixel_field, frustum_field, coordinate_field, joined_field]


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


@pytest.mark.parametrize("make", [dense_field, triplane_field, frustum_field])
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


def depth_m_in_view(field: FrustumField, view: int, xyz: Tensor, border_px: float = 0.0) -> tuple[Tensor, Tensor]:
    """Depth of points in a view of the first sample, and True where the view sees them."""
    xyz_cam = field.cameras.cam_from_grid[0, view].apply(xyz)
    uv, depth_m = pixels_from_cam(xyz_cam, field.cameras.image_from_cam[0, view])
    height, width = IMAGE_HW
    inside = ((uv > border_px) & (uv < torch.tensor([width, height]) - border_px)).all(1)
    return depth_m.float(), inside & (depth_m > 0)


def test_a_profile_ramp_gives_the_logarithmic_depth() -> None:
    bins, (near, far) = 6, RANGE_M
    ramp = torch.arange(bins).float()[None, None, :, None, None].expand(1, 1, bins, 8, 16)
    field = FrustumField(GRID, ramp, take(ring(1), views=[1]), bins, RANGE_M)
    xyz, zeros = points(400), torch.zeros(400, dtype=torch.int64)
    depth_m, seen = depth_m_in_view(field, 0, xyz)
    _, inner = depth_m_in_view(field, 0, xyz, border_px=2.0)  # beyond the outermost centres of cells maps fade
    # Bin d has its middle at near * (far / near) ** ((d + 0.5) / bins); the first and last are held beyond it.
    place = bins * (depth_m / near).log() / math.log(far / near) - 0.5
    expected = torch.where(seen, place.clamp(0, bins - 1), 0.0)
    assert 20 < int(seen.sum()) < 380
    sampled = field.sample(xyz, zeros)[:, 0]
    torch.testing.assert_close(sampled[inner | ~seen], expected[inner | ~seen], atol=1e-4, rtol=1e-4)


def test_frustum_field_equals_a_loop_over_views() -> None:
    field, xyz, far = frustum_field(), points(150), math.log(RANGE_M[1] / RANGE_M[0])
    sampled = field.sample(xyz, torch.zeros(150, dtype=torch.int64))
    height, width = IMAGE_HW
    volume = field.profiles[0].unflatten(1, (BINS, 4)).movedim(2, 1).numpy()  # (V, C, D, h, w)
    seen_by = []
    for p in range(150):
        found = []
        for v in range(3):
            depth_m, seen = depth_m_in_view(field, v, xyz[p : p + 1])
            if bool(seen):
                uv, _ = pixels_from_cam(
                    field.cameras.cam_from_grid[0, v].apply(xyz[p : p + 1]), field.cameras.image_from_cam[0, v]
                )
                share = float((depth_m / RANGE_M[0]).log()) / far * BINS
                place = [min(max(share, 0.5), BINS - 0.5), float(uv[0, 1]) / height * 8, float(uv[0, 0]) / width * 16]
                found.append(torch.from_numpy(trilinear(volume[v], place)))
        seen_by.append(len(found))
        expected = torch.stack(found).mean(0) if found else torch.zeros(4)
        torch.testing.assert_close(sampled[p], expected.float(), atol=1e-5, rtol=1e-5)
    assert {0, 1, 2} <= set(seen_by)  # the rig shows every case


def trilinear(volume: np.ndarray, place: list[float]) -> np.ndarray:
    """Depth by hand between two bilinear reads; centres at 0.5."""
    depth = place[0] - 0.5
    near = min(int(depth), volume.shape[1] - 2)
    share = depth - near
    at = np.array(place[1:])
    return (1 - share) * linear(volume[:, near], at) + share * linear(volume[:, near + 1], at)


def test_views_that_do_not_see_a_point_have_no_say_in_its_profile() -> None:
    field, xyz, zeros = frustum_field(), points(200), torch.zeros(200, dtype=torch.int64)
    _, seen = depth_m_in_view(field, 1, xyz)
    loud = field.profiles.clone()
    loud[:, 1] += 100.0
    changed = replace(field, profiles=loud).sample(xyz, zeros) != field.sample(xyz, zeros)
    assert torch.equal(changed.any(1), seen)
    above = torch.tensor([[0.5, 0.1, 1e4], [0.5, 0.1, -1e7]])
    assert not field.sample(above, zeros[:2]).any()


def test_order_of_cameras_changes_no_profile() -> None:
    field, xyz, order = frustum_field(), points(80), [2, 0, 1]
    turned = replace(field, profiles=field.profiles[:, order], cameras=take(field.cameras, views=order))
    batch = torch.arange(80) % BATCH
    torch.testing.assert_close(field.sample(xyz, batch), turned.sample(xyz, batch))


def test_frustum_field_with_two_samples_equals_each_alone() -> None:
    field, xyz, zeros = frustum_field(), points(40), torch.zeros(40, dtype=torch.int64)
    alone = replace(field, profiles=field.profiles[1:], cameras=take(field.cameras, slice(1, 2)))
    torch.testing.assert_close(field.sample(xyz, zeros + 1), alone.sample(xyz, zeros))


def test_frustum_field_without_cameras_is_zero() -> None:
    field = frustum_field(views=0)
    assert field.channels == 4
    assert not field.sample(points(9), torch.zeros(9, dtype=torch.int64)).any()
    assert field.dense().shape == (2, 4, X, Y, Z)


def test_profiles_are_learned_only_at_the_depth_that_is_asked() -> None:
    field = frustum_field(1)
    profiles = field.profiles.clone().requires_grad_()
    xyz = points(300)
    depth_m, seen = depth_m_in_view(field, 0, xyz)
    near = xyz[seen & (depth_m < 1.2)][:1]
    replace(field, profiles=profiles).sample(near, torch.zeros(1, dtype=torch.int64)).sum().backward()
    assert profiles.grad is not None
    touched = profiles.grad[0, 0].unflatten(0, (BINS, 4)).flatten(1).any(1)
    assert touched.tolist()[2:] == [False] * (BINS - 2)


def test_sightings_keep_the_pairs_of_a_point_together() -> None:
    cameras, xyz = ring(BATCH), points(60)
    batch = torch.arange(60) % BATCH
    seen = Sightings.of(cameras, xyz, batch)
    assert bool((seen.point.diff() >= 0).all())
    assert torch.equal(seen.count, torch.bincount(seen.point, minlength=60))
    assert torch.equal(seen.view // 3, batch[seen.point])
    assert bool((seen.depth_m > 0).all())
    assert bool(((seen.uv > 0) & (seen.uv < 1)).all())
    torch.testing.assert_close(torch.zeros(60).index_add(0, seen.point, seen.share), (seen.count > 0).float())


def test_coordinates_are_normalised_and_clamped() -> None:
    corner = torch.tensor([GRID.lower_m, (99.0, 99.0, 99.0)])
    sampled = coordinate_field().sample(corner, torch.zeros(2, dtype=torch.int64))
    assert sampled[:, :3].tolist() == [[-1.0] * 3, [1.0] * 3]
    assert sampled.shape == (2, coordinate_field().channels)


def test_planes_of_the_wrong_size_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"plane yz of a field must have the grid's size \(8, 4\); got \(8, 5\)"):
        TriplaneField(GRID, rand(1, 2, X, Y), rand(1, 2, Y, 5), rand(1, 2, X, 5))
    with pytest.raises(ShapeError, match="volume of a field"):
        DenseField(GRID, rand(1, 2, Z, Y, X))


def test_joined_fields_must_share_a_grid() -> None:
    with pytest.raises(ShapeError, match="share one grid"):
        JoinedField((dense_field(), CoordinateField(GRID.refine(2), 0, BATCH)))
    with pytest.raises(ShapeError, match="one or more"):
        JoinedField(())
