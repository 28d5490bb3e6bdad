"""What the teacher says at LiDAR points, and how points are weighed."""

from __future__ import annotations

import torch
from helpers import IMAGE_HW, make_sample

from lexivox.supervision.targets import TeacherReading, balance_weights, project_lidar, teacher_point_features


class PixelPlace:
    """A teacher whose feature is the place in the image: (u, v, 1) in shares of the image, then unit."""

    space, dim = "place", 3

    def features(self, images):
        height, width = images.shape[-2:]
        u = ((torch.arange(width) + 0.5) / width).expand(height, width)
        v = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
        return torch.stack([u, v, torch.ones_like(u)])[None].expand(len(images), -1, -1, -1)


def test_features_are_read_at_the_pixels_of_the_points():
    sample = make_sample(num_views=1)
    known = teacher_point_features(sample, PixelPlace())
    uv, visible = project_lidar(sample)
    assert known.index.tolist() == visible[0].nonzero()[:, 0].tolist()
    size = torch.tensor([IMAGE_HW[1], IMAGE_HW[0]])
    inner = ((uv[0] > 1) & (uv[0] < size - 1)).all(dim=-1)[known.index]
    expected = torch.nn.functional.normalize(
        torch.cat([uv[0][known.index] / size, torch.ones(len(known.index), 1)], dim=-1), dim=-1
    )
    torch.testing.assert_close(known.feature[inner], expected[inner], atol=1e-3, rtol=0)


def test_a_point_seen_twice_gets_one_row():
    sample = make_sample(num_views=12)
    known = teacher_point_features(sample, PixelPlace())
    _, visible = project_lidar(sample)
    assert int(visible.sum()) > len(known.index) == int(visible.any(dim=0).sum())
    torch.testing.assert_close(known.feature.norm(dim=-1), torch.ones(len(known.index)))


def test_no_camera_gives_no_rows():
    sample = make_sample(num_views=1)
    from dataclasses import replace

    assert len(teacher_point_features(replace(sample, views=()), PixelPlace()).index) == 0


def test_rare_groups_weigh_more_and_the_mean_is_one():
    road, person = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    features = [torch.cat([road.repeat(90, 1), person.repeat(10, 1)])]
    (weight,) = balance_weights(features, num_clusters=2, power=0.5)
    torch.testing.assert_close(weight.mean(), torch.tensor(1.0))
    # shares 0.9 and 0.1: weights go as 1 / sqrt(share), a ratio of 3
    torch.testing.assert_close(weight[-1] / weight[0], torch.tensor(3.0))


def test_power_one_makes_groups_equal():
    road, person = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    (weight,) = balance_weights([torch.cat([road.repeat(80, 1), person.repeat(20, 1)])], 2, power=1.0)
    torch.testing.assert_close(weight[:80].sum(), weight[80:].sum())


def test_nothing_seen_anywhere_has_no_weights():
    assert balance_weights([]) == []
    assert [len(weight) for weight in balance_weights([torch.zeros(0, 3), torch.zeros(0, 3)])] == [0, 0]


def test_no_camera_sees_no_point():
    sample = make_sample(num_views=0)
    uv, visible = project_lidar(sample)
    assert uv.shape == (0, sample.lidar.num_points, 2)
    assert not visible.any()
    known = teacher_point_features(sample, PixelPlace())
    assert known.feature.shape == (0, 3)
    assert len(known.index) == 0


# ------------------------------------------------------------------------------------------------ as published


def test_published_rows_come_camera_by_camera_and_keep_duplicates():
    sample = make_sample(num_views=12)
    reading = TeacherReading(views="each", pixels="nearest", unit=False)
    known = teacher_point_features(sample, PixelPlace(), reading)
    uv, visible = project_lidar(sample)
    height, width = IMAGE_HW
    cached = visible & (uv[..., 0] < width - 1) & (uv[..., 1] < height - 1)  # spec 1.6
    assert known.index.tolist() == cached.nonzero()[:, 1].tolist()
    assert len(known.index) > len(known.index.unique())


def test_published_features_are_those_of_the_rounded_pixel_and_not_unit():
    sample = make_sample(num_views=1)
    known = teacher_point_features(sample, PixelPlace(), TeacherReading("each", "nearest", unit=False))
    uv, _ = project_lidar(sample)
    pixel = uv[0][known.index].round().long()  # half to even
    maps = PixelPlace().features(sample.views[0].image[None])[0]
    expected = maps[:, pixel[:, 1], pixel[:, 0]].T
    torch.testing.assert_close(known.feature, expected, atol=1e-5, rtol=0)
    assert (known.feature.norm(dim=-1) > 1.0).all()


def test_nearest_reads_a_coarse_map_as_if_it_were_enlarged_to_the_image():
    class Coarse(PixelPlace):
        def features(self, images):
            return torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1))

    sample = make_sample(num_views=1)
    known = teacher_point_features(sample, Coarse(), TeacherReading("each", "nearest", unit=False))
    large = torch.nn.functional.interpolate(Coarse().features(None), IMAGE_HW, mode="bilinear")[0]
    pixel = project_lidar(sample)[0][0][known.index].round().long()
    torch.testing.assert_close(known.feature, large[:, pixel[:, 1], pixel[:, 0]].T, atol=1e-5, rtol=0)


def test_chained_reads_the_pixels_of_a_map_enlarged_twice():
    from lexivox.ops.resample import fit_within

    class Coarse(PixelPlace):
        def features(self, images):
            return torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1))

    sample = make_sample(num_views=1)
    known = teacher_point_features(sample, Coarse(), TeacherReading("each", "chained", unit=False))
    large = Coarse().features(None)
    for size in (fit_within(IMAGE_HW, (1024, 2048)), IMAGE_HW):
        large = torch.nn.functional.interpolate(large, size, mode="bilinear")
    pixel = project_lidar(sample)[0][0][known.index].round().long()
    torch.testing.assert_close(known.feature, large[0][:, pixel[:, 1], pixel[:, 0]].T, atol=1e-5, rtol=0)
    nearest = teacher_point_features(sample, Coarse(), TeacherReading("each", "nearest", unit=False))
    assert torch.equal(nearest.index, known.index)
    torch.testing.assert_close(nearest.feature, known.feature, atol=0.05, rtol=0)


def test_the_mean_of_raw_features_stays_raw():
    sample = make_sample(num_views=12)
    each = teacher_point_features(sample, PixelPlace(), TeacherReading("each", "bilinear", unit=False))
    mean = teacher_point_features(sample, PixelPlace(), TeacherReading("mean", "bilinear", unit=False))
    assert mean.index.tolist() == each.index.unique().tolist()
    for row in range(0, len(mean.index), 9):
        own = each.feature[each.index == mean.index[row]]
        torch.testing.assert_close(mean.feature[row], own.mean(dim=0))
