"""Collation is the only place where frames change; here is what it must and must not do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import make_sample

from lexivox.data.collate import collate
from lexivox.errors import DataError, ShapeError
from lexivox.geometry.camera import pixels_from_cam
from lexivox.geometry.grid import VoxelGrid
from lexivox.supervision.targets import project_lidar

EGO = VoxelGrid((-8.0, -8.0, -2.0), (1.0, 1.0, 1.0), (16, 16, 4), "ego")
LIDAR = VoxelGrid((-8.0, -8.0, -2.0), (1.0, 1.0, 1.0), (16, 16, 4), "lidar")


@pytest.mark.parametrize("grid", [EGO, LIDAR])
def test_points_project_to_the_same_pixels_as_in_the_sample(grid):
    sample = make_sample()
    batch = collate([sample], grid)
    uv, visible = project_lidar(sample)
    for view in range(3):
        xyz_cam = batch.cameras.cam_from_grid[0, view].apply(batch.lidar.xyz.double())
        pixels, _ = pixels_from_cam(xyz_cam, batch.cameras.image_from_cam[0, view])
        torch.testing.assert_close(pixels[visible[view]].float(), uv[view][visible[view]], atol=1e-2, rtol=1e-4)


def test_rays_start_at_the_sensor():
    sample = make_sample()
    torch.testing.assert_close(collate([sample], EGO).lidar_origin[0].double(), sample.ego_from_lidar.translation)
    assert collate([sample], LIDAR).lidar_origin.abs().max() == 0


def test_points_and_features_are_packed_in_order():
    one, two = make_sample(0), make_sample(1, num_points=100)
    batch = collate([one, two], LIDAR)
    assert batch.size == 2
    assert torch.bincount(batch.lidar.batch).tolist() == [400, 100]
    torch.testing.assert_close(batch.lidar.xyz[400:], two.lidar.xyz)
    language = batch.targets.language
    torch.testing.assert_close(language.xyz[language.batch == 1], two.lidar.xyz[two.point_features.index])


def test_a_sample_without_features_gives_no_language_targets():
    assert collate([replace(make_sample(), point_features=None)], EGO).targets.language is None


def test_user_faults_are_named():
    with pytest.raises(DataError, match="at least one sample; got none"):
        collate([], EGO)
    with pytest.raises(DataError, match="sample sample-0 must have at least one camera"):
        collate([replace(make_sample(), views=())], EGO)
    with pytest.raises(DataError, match="same number of cameras; got 3 and 2"):
        collate([make_sample(), make_sample(1, num_views=2)], EGO)
    odd = make_sample(1)
    odd = replace(odd, views=(replace(odd.views[0], image=odd.views[0].image[:, :16]), *odd.views[1:]))
    with pytest.raises(ShapeError, match="one size; got"):
        collate([odd], EGO)
