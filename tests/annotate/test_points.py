"""From a mask to points, on a case computed by hand."""

from __future__ import annotations

import pytest
import torch

from lexivox.annotate.keyframe import find_keyframe
from lexivox.annotate.masks import PixelBox
from lexivox.annotate.points import Clean, find_clusters, grow, join_clusters, matching_points, points_in_mask
from lexivox.errors import ConfigError, DataError

BOX = PixelBox(45.0, 38.0, 52.0, 42.0)  # holds the object and the wall, not the point at u = 20


def test_points_of_the_box_are_those_inside_and_in_front(keyframe):
    found = keyframe.propose("CAM_FRONT", BOX.mask((80, 100)), Clean(enabled=False))
    assert found.index.tolist() == list(range(14))
    assert found.kept.tolist() == list(range(14))
    assert found.num_clusters == 0


def test_a_wall_behind_the_object_is_removed(keyframe):
    found = keyframe.propose("CAM_FRONT", BOX.mask((80, 100)))
    assert found.num_clusters == 2
    assert found.kept.tolist() == list(range(8))  # eight points against six


def test_the_next_cluster_is_the_wall_and_then_the_object_again(keyframe):
    mask = BOX.mask((80, 100))
    assert keyframe.propose("CAM_FRONT", mask, Clean(rank=1)).kept.tolist() == list(range(8, 14))
    assert keyframe.propose("CAM_FRONT", mask, Clean(rank=2)).kept.tolist() == list(range(8))


def test_few_points_are_all_kept(keyframe):
    mask = PixelBox(18.0, 38.0, 22.0, 42.0).mask((80, 100))
    found = keyframe.propose("CAM_FRONT", mask)
    assert (found.kept.tolist(), found.num_clusters) == ([14], 0)
    assert keyframe.propose("CAM_FRONT", torch.zeros_like(mask)).kept.tolist() == []


def test_a_mask_counts_whole_pixels():
    uv = torch.tensor([[2.0, 1.0], [2.99, 1.99], [3.0, 1.0], [2.0, 1.0]])
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[1, 2] = True
    assert points_in_mask(uv, torch.tensor([True, True, True, False]), mask).tolist() == [0, 1]


def test_a_pixel_rounded_onto_the_border_is_the_last_one():
    mask = torch.ones(4, 5, dtype=torch.bool)
    assert points_in_mask(torch.tensor([[5.0, 4.0]]), torch.tensor([True]), mask).tolist() == [0]


def test_matching_points_are_listed_once_for_each_camera():
    visible = torch.tensor([[True, False, True], [False, False, True]])
    assert matching_points(visible).tolist() == [0, 2, 2]


def test_growing_goes_by_steps_within_reach():
    xyz = torch.tensor([[0.0, 0, 0], [0.9, 0, 0], [1.8, 0, 0], [3.0, 0, 0]])
    start = torch.tensor([True, False, False, False])
    assert grow(xyz, start, 1.0).tolist() == [True, True, True, False]
    assert grow(xyz, start, 0.0).tolist() == start.tolist()
    assert grow(xyz, start, 1.3).all()


def test_clusters_within_reach_are_one_and_take_the_noise_between():
    x = torch.tensor([0.0, 0.1, 0.2, 0.9, 1.6, 1.7, 9.0, 9.1, 9.2, 9.3, 20.0])
    xyz = torch.stack([x, torch.zeros(11), torch.zeros(11)], dim=1)
    cluster = torch.tensor([1, 1, 1, -1, 2, 2, 0, 0, 0, 0, -1])
    assert join_clusters(xyz, cluster, 0.8).tolist() == [0] * 6 + [1] * 4 + [-1]
    assert join_clusters(xyz, cluster, 0.6).tolist() == [1, 1, 1, -1, 2, 2, 0, 0, 0, 0, -1]
    assert join_clusters(xyz, cluster, 0.0).tolist() == cluster.tolist()


def test_one_compact_thing_is_one_cluster():
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(60, 3, generator=generator)
    cluster = find_clusters(xyz)
    assert set(cluster.tolist()) == {0, -1}
    assert grow(xyz, cluster == 0, 1.0).all()


def test_clusters_are_numbered_by_size():
    generator = torch.Generator().manual_seed(1)
    near, far = torch.rand(30, 3, generator=generator), torch.rand(60, 3, generator=generator) + 50.0
    cluster = find_clusters(torch.cat([near, far]))
    assert set(cluster[:30].tolist()) <= {1, -1}
    assert set(cluster[30:].tolist()) <= {0, -1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_cluster_size": 1}, r"min_cluster_size must lie in 2..10000; got 1"),
        ({"reach_m": -1.0}, r"reach_m must lie in 0..100; got -1.0"),
        ({"reach_m": float("nan")}, "reach_m must lie in 0..100; got nan"),
        ({"rank": -1}, "rank of a cluster must be at least 0; got -1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        Clean(**options)


def test_too_many_points_are_refused():
    with pytest.raises(ConfigError, match="points to clean up must be at most 20000; got 20001"):
        find_clusters(torch.zeros(20_001, 3))


def test_colours_come_from_the_image(keyframe):
    color = keyframe.colors()
    assert color[0].tolist() == keyframe.sample.views[0].image[:, 40, 50].tolist()
    assert color[15].tolist() == [128, 128, 128]  # nobody sees it


def test_an_annotation_holds_the_points_and_what_cameras_see(keyframe):
    made = keyframe.annotation("  fire\n hydrant ", "val", torch.tensor([3, 1]))
    assert (made.token, made.split, made.query) == ("k0", "val", "fire hydrant")
    assert made.mask.nonzero()[:, 0].tolist() == [1, 3]
    assert made.matching.tolist() == list(range(15))  # all but the one behind


@pytest.mark.parametrize(("rows", "message"), [([], "must hold points"), ([16], r"0..15; got 16"), ([-1], "got -1")])
def test_wrong_points_are_refused(keyframe, rows, message):
    with pytest.raises(DataError, match=message):
        keyframe.annotation("x", "val", torch.tensor(rows, dtype=torch.int64))


def test_unknown_cameras_and_keyframes_are_named(keyframe, dataset):
    with pytest.raises(ConfigError, match="camera of keyframe k0 must be one of CAM_FRONT; got 'x'"):
        keyframe.view("x")
    with pytest.raises(DataError, match=r"must be one of the 2 of toy, e\.g\. k0, k1; got 'k9'"):
        find_keyframe(dataset, "k9")
    assert find_keyframe(dataset, "k1").sample.token == "k1"
