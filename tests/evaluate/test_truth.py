"""What a keyframe is scored against, and what is refused before anything is scored."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import make_sample

from lexivox.data.classes import NUSCENES16
from lexivox.data.types import VoxelLabels
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.pop3d import QuerySet
from lexivox.evaluate.truth import truth_of
from lexivox.geometry.grid import VoxelGrid

GRID = VoxelGrid((-12.0, -12.0, -2.0), (2.0, 2.0, 2.0), (12, 12, 3), "ego")


def with_voxels(frame: str):
    grid = replace(GRID, frame=frame)
    labels = VoxelLabels(grid, torch.full(grid.shape, 17), torch.zeros(*grid.shape, 2), free_label=17)
    return replace(make_sample(), voxel_labels=labels)


def test_complete_truth_is_read_on_its_own_grid_only():
    assert truth_of(with_voxels("ego"), GRID, NUSCENES16).complete is not None
    assert truth_of(with_voxels("ego"), GRID.refine(2), NUSCENES16).complete is None


def test_voxel_labels_in_another_frame_are_refused():
    with pytest.raises(ShapeError, match="voxel labels must be in the frame of the grid, 'ego'; got 'lidar'"):
        truth_of(with_voxels("lidar"), GRID, NUSCENES16)


def test_without_cameras_no_point_is_asked():
    sweep = truth_of(make_sample(num_views=0), GRID, NUSCENES16).sweep
    assert [len(sweep.points(which, "keep")) for which in ("all", "unique", "dup")] == [400, 0, 0]


@pytest.mark.parametrize("meant", [["carr"], ["car", "carr"], []])
def test_a_query_that_means_no_class_is_refused(meant):
    with pytest.raises(ConfigError, match=r"query 'automobile' must mean classes of the data set; got (carr|none)"):
        QuerySet({"automobile": meant}, ("car", "tree"), lambda index, sample: torch.zeros(1, dtype=torch.int64))


def test_fine_labels_of_another_number_of_points_are_refused():
    sample = make_sample()
    queries = QuerySet({"automobile": ["car"]}, ("car",), lambda index, sample: torch.zeros(7, dtype=torch.int64))
    with pytest.raises(DataError, match="as many as its points, 400; got 7"):
        queries.of_points(0, sample)
