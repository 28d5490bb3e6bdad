"""Teachers at points, camera by camera and averaged, and in voxels; saved maps; against loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers import make_sample
from scored import GRID, Words, drive

from lexivox.data.classes import NUSCENES16
from lexivox.data.clips import WithPast
from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.methods import ModelMethod, SavedMaps, TeacherMethod, TeacherVoxels
from lexivox.evaluate.truth import sweep_points
from lexivox.model import OccupancyModel
from lexivox.prediction import Prediction
from lexivox.supervision.targets import project_lidar, teacher_point_features
from lexivox.teachers.vocabulary import embed, vocabulary

VOCABULARY = embed(vocabulary({"car": ["car", "a van"], "vegetation": ["tree"], "sidewalk": ["walkway"]}), Words())
NUMBER = {0: 4, 1: 16, 2: 13}


class Ramp:
    """Features that change over the image, of different lengths; counts how often it looks."""

    space, dim, looks = "letters", Words.dim, 0

    def features(self, images):
        self.looks += 1
        wave = torch.arange(self.dim).view(1, -1, 1, 1) * 0.7
        mean = images.float().mean(dim=1, keepdim=True)[:, :, ::4, ::4]
        return torch.sin(mean / 20 + wave) * (1 + mean / 50)


def loop_features(sample, nearest: bool) -> dict[tuple[int, int], torch.Tensor]:
    """(camera, point) -> feature, one point at a time; the published pixel i has its centre at i."""
    uv, visible = project_lidar(sample)
    found, teacher = {}, Ramp()
    for view, camera in enumerate(sample.views):
        maps = teacher.features(camera.image[None])
        for point in visible[view].nonzero()[:, 0].tolist():
            pixel = uv[view, point].round() + 0.5 if nearest else uv[view, point]
            place = 2 * pixel / torch.tensor([48.0, 32.0]) - 1
            found[view, point] = F.grid_sample(
                maps, place.view(1, 1, 1, 2), padding_mode="border", align_corners=False
            )[0, :, 0, 0]
    return found


def best(feature: torch.Tensor) -> int:
    query = int((VOCABULARY.embeddings @ feature).argmax())
    return NUMBER[VOCABULARY.class_of_query[query]]


@pytest.fixture(scope="module")
def case():
    sample = make_sample(3)
    sweep = sweep_points(sample, GRID)
    return sample, sweep, [loop_features(sample, nearest) for nearest in (False, True)]


def test_a_teacher_camera_by_camera(case):
    sample, sweep, (_, expected) = case
    points = sweep.points("dup", "keep")
    said = TeacherMethod(Ramp(), NUSCENES16, VOCABULARY).answer(sample, sweep).at(points)
    for row, (view, point) in enumerate(zip(points.view.tolist(), points.index.tolist(), strict=True)):
        torch.testing.assert_close(said.feature[row], expected[view, point], atol=1e-5, rtol=1e-5)
        assert int(said.label[row]) == best(expected[view, point])


def test_a_teacher_averaged_over_cameras(case):
    sample, sweep, (expected, _) = case
    points = sweep.points("unique", "keep")
    said = TeacherMethod(Ramp(), NUSCENES16, VOCABULARY).answer(sample, sweep).at(points)
    for row, point in enumerate(points.index.tolist()):
        seen = [F.normalize(f, dim=0) for (_, p), f in expected.items() if p == point]
        mean = F.normalize(torch.stack(seen).mean(dim=0), dim=0)
        torch.testing.assert_close(said.feature[row], mean, atol=1e-5, rtol=1e-5)
    training = teacher_point_features(sample, Ramp())  # what a student is taught is what its teacher is scored by
    torch.testing.assert_close(said.feature, training.feature)


def test_a_teacher_says_nothing_of_what_no_camera_sees(case):
    sample, sweep, _ = case
    answer = TeacherMethod(Ramp(), NUSCENES16, VOCABULARY).answer(sample, sweep)
    assert answer.at(sweep.points("all", "keep")) is None
    assert answer.volume() is None


@pytest.mark.parametrize("points", ["unique", "dup"])
def test_a_teacher_in_voxels(case, points):
    sample, sweep, _ = case
    teacher = TeacherMethod(Ramp(), NUSCENES16, VOCABULARY)
    volume = TeacherVoxels(teacher, GRID, points).answer(sample, sweep).volume()
    inside: dict[tuple[int, ...], list[torch.Tensor]] = {}
    chosen = sweep.points(points, "drop")
    said = teacher.answer(sample, sweep).at(chosen)
    for row, xyz in enumerate(chosen.xyz):
        inside.setdefault(tuple(GRID.index_from_xyz(xyz[None])[0].tolist()), []).append(said.feature[row])
    labels = {voxel: best(torch.stack(features).mean(dim=0)) for voxel, features in inside.items()}
    assert len(labels) > 10
    for voxel in torch.cartesian_prod(*(torch.arange(n) for n in GRID.shape)).tolist():
        assert int(volume[tuple(voxel)]) == labels.get(tuple(voxel), NUSCENES16.free)


def test_the_teacher_looks_once_for_points_and_voxels(case):
    sample, sweep, _ = case
    teacher = TeacherMethod(Ramp(), NUSCENES16, VOCABULARY)
    TeacherVoxels(teacher, GRID).answer(sample, sweep)
    teacher.answer(sample, sweep).at(sweep.points("unique", "keep"))
    assert teacher.teacher.looks == len(sample.views)
    teacher.answer(replace(sample, token="another"), sweep).at(sweep.points("dup", "keep"))
    assert teacher.teacher.looks == 2 * len(sample.views)


# ---------------------------------------------------------------------------------------------- saved maps


def saved(folder, token="sample-3", grid=GRID, name=None) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = {"language": torch.randn(12, Words.dim, generator=generator)}
    occupancy = torch.zeros(grid.shape)
    occupancy.view(-1)[:12] = 0.9
    Prediction(token, grid, occupancy, text_encoder=None, _rows=rows).save(folder / f"{name or token}.npz")


def test_saved_maps_are_read_by_token(case, tmp_path):
    sample, sweep, _ = case
    maps = SavedMaps(tmp_path, GRID, NUSCENES16, VOCABULARY)
    assert maps.answer(sample, sweep) is None
    saved(tmp_path)
    volume = maps.answer(sample, sweep).volume()
    rows = Prediction.load(tmp_path / "sample-3.npz").read_occupied("language")
    assert volume.view(-1)[:12].tolist() == [best(row) for row in rows]
    assert set(volume.view(-1)[12:].tolist()) == {NUSCENES16.free}
    assert maps.answer(sample, sweep).at(sweep.points("unique", "keep")) is None


def test_saved_maps_of_another_grid_or_keyframe_are_named(case, tmp_path):
    sample, sweep, _ = case
    maps = SavedMaps(tmp_path, GRID, NUSCENES16, VOCABULARY)
    saved(tmp_path, grid=GRID.refine(2))
    with pytest.raises(ShapeError, match=r"map of sample-3 must have the grid of the run, .*; got \(16, 16, 6\)"):
        maps.answer(sample, sweep)
    saved(tmp_path, token="other", name="sample-3")
    with pytest.raises(DataError, match=r"map of sample-3 must be of this keyframe; got other\."):
        maps.answer(sample, sweep)


class Listener(OccupancyModel):
    """A model that keeps what it is shown."""

    image_offsets = (-1,)

    def __init__(self):
        torch.nn.Module.__init__(self)

    def predict(self, clip):
        self.shown = clip
        return Prediction(clip.current.token, GRID, torch.zeros(GRID.shape), text_encoder=None, _rows={})


@pytest.mark.parametrize("blank", [False, True])
def test_a_model_that_looks_back_is_scored_with_the_past(blank):
    recording, listener = drive(3), Listener()
    method = ModelMethod(listener, NUSCENES16, None, blank, with_past=WithPast(recording, listener.image_offsets))
    method.answer(recording[2], sweep_points(recording[2], GRID))
    assert listener.shown.offsets == (-1,)
    images = [view.image for s in (listener.shown.current, *listener.shown.others) for view in s.views]
    expected = [view.image for s in (recording[2], recording[1]) for view in s.views]
    assert all(torch.equal(seen, image * (not blank)) for seen, image in zip(images, expected, strict=True))
