"""What can be scored: a model, saved maps, a teacher at points or in voxels, and maps that never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.clips import WithPast
from lexivox.data.collate import grid_from_lidar
from lexivox.data.labels import occupancy_from_lidar
from lexivox.data.transforms import each_sample
from lexivox.data.types import IGNORED, OCCUPIED, Clip, PointFeatures, Sample, SampleDataset
from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.occupancy import label_volume
from lexivox.evaluate.protocol import PointSet
from lexivox.evaluate.truth import Points, SweepPoints
from lexivox.evaluate.voxel_truth import free_class
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.voxelize import scatter_mean, voxels_of_points
from lexivox.model import OccupancyModel
from lexivox.ops.assign import assign_best_query
from lexivox.prediction import Prediction, best_class
from lexivox.supervision.targets import TeacherReading, teacher_point_features
from lexivox.teachers.base import ImageTeacher
from lexivox.teachers.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class PointAnswer:
    """What a method says at some points; ``feature`` is ``None`` for a method that cannot be asked in words."""

    label: Int64[Tensor, "P"]
    feature: Float[Tensor, "P D"] | None


Solid = tuple[Float[Tensor, "X Y Z"], float]


@runtime_checkable
class Answer(Protocol):
    """What a method says about one keyframe, made when it is asked."""

    def volume(self) -> Int64[Tensor, "X Y Z"] | None:
        """Class of every voxel in the numbers of the table, its free class where nothing is; ``None`` without a map."""
        ...

    def solid(self) -> Solid | None:
        """How likely each voxel stops a ray, and above which probability it counts as occupied; ``None`` without a
        map."""
        ...

    def at(self, points: Points) -> PointAnswer | None:
        """``None`` for a method that cannot be asked at points, or not at points that no camera sees."""
        ...


@runtime_checkable
class Method(Protocol):
    def answer(self, sample: Sample, sweep: SweepPoints) -> Answer | None:
        """``sweep`` says where points lie and who sees them. ``None``: nothing is known of this keyframe."""
        ...


# ---------------------------------------------------------------------------------------------------- maps


@dataclass(frozen=True, slots=True)
class MapAnswer:
    """A map, and nothing at points."""

    label: Int64[Tensor, "X Y Z"]
    free: int

    def volume(self) -> Int64[Tensor, "X Y Z"]:
        return self.label

    def solid(self) -> Solid:
        return (self.label != self.free).float(), 0.5

    def at(self, points: Points) -> PointAnswer | None:
        return None


@dataclass(frozen=True, slots=True)
class FixedMap:
    """The same map for every keyframe, e.g. the average of the training keyframes around the car."""

    label: Int64[Tensor, "X Y Z"]
    free: int

    def answer(self, sample: Sample, sweep: SweepPoints) -> MapAnswer:
        return MapAnswer(self.label, self.free)


def average_map(samples: Sequence[Sample] | SampleDataset, grid: VoxelGrid, table: ClassTable) -> FixedMap:
    """Occupied where more than half of the rays of all keyframes that reached a voxel ended there."""
    occupied, observed = torch.zeros(grid.shape), torch.zeros(grid.shape)
    for index in range(len(samples)):
        sample = samples[index]
        transform = grid_from_lidar(sample, grid)
        volume = occupancy_from_lidar(grid, transform.translation.float(), transform.apply(sample.lidar.xyz))
        occupied += volume == OCCUPIED
        observed += volume != IGNORED
    some = table.evaluated[0]  # any class would do: the baseline says only that something is there
    return FixedMap(torch.where(occupied > 0.5 * observed, some, free_class(table)), free_class(table))


@dataclass(frozen=True, slots=True)
class SavedMaps:
    """Maps written by :meth:`Prediction.save` as ``{token}.npz``; a keyframe without a file is not answered.

    Attributes:
        folder: where they lie.
        grid: that they must have.
        table: the classes of the truth.
        vocabulary: words for its classes; ``None`` for maps with a semantic head.
    """

    folder: Path
    grid: VoxelGrid
    table: ClassTable
    vocabulary: Vocabulary | None

    def answer(self, sample: Sample, sweep: SweepPoints) -> MapAnswer | None:
        """Raises:
        DataError: the file is damaged or of another keyframe.
        ShapeError: its grid is another.
        """
        path = self.folder / f"{sample.token}.npz"
        if not path.is_file():
            return None
        prediction = Prediction.load(path)
        if prediction.token != sample.token:
            raise DataError(f"map of {sample.token} must be of this keyframe; got {prediction.token}. Check {path}.")
        if prediction.grid != self.grid:
            raise ShapeError(
                f"map of {sample.token} must have the grid of the run, {self.grid.shape} from {self.grid.lower_m}; "
                f"got {prediction.grid.shape} from {prediction.grid.lower_m}. Predict again: {path}."
            )
        return MapAnswer(_volume(prediction, self.vocabulary, self.table), free_class(self.table))


# --------------------------------------------------------------------------------------------------- models


@dataclass(frozen=True, slots=True)
class ModelMethod:
    """A trained model; asked in words when it has a language head, else by its semantic head.

    Attributes:
        blank: give it black images: what it knows without looking.
        with_past: brings along the images of earlier keyframes, where the model looks at them.
    """

    model: OccupancyModel
    table: ClassTable
    vocabulary: Vocabulary | None
    blank: bool = False
    with_past: WithPast | None = None

    def answer(self, sample: Sample, sweep: SweepPoints) -> ModelAnswer:
        clip = self.with_past(sample) if self.with_past else Clip(sample)
        if self.blank:
            clip = each_sample(clip, _darkened)
        return ModelAnswer(self.model.predict(clip), self.table, self.vocabulary)


def _darkened(sample: Sample) -> Sample:
    return replace(sample, views=tuple(replace(v, image=torch.zeros_like(v.image)) for v in sample.views))


@dataclass(slots=True)
class ModelAnswer:
    """A prediction; points of a sweep are read once, however many cameras see them."""

    prediction: Prediction
    table: ClassTable
    vocabulary: Vocabulary | None
    _volume: Int64[Tensor, "X Y Z"] | None = None

    def volume(self) -> Int64[Tensor, "X Y Z"]:
        if self._volume is None:
            self._volume = _volume(self.prediction, self.vocabulary, self.table)
        return self._volume

    def solid(self) -> Solid:
        return self.prediction.occupancy, self.prediction.threshold

    def at(self, points: Points) -> PointAnswer:
        index, row = points.index.unique(return_inverse=True)
        xyz = points.xyz.new_zeros(len(index), 3).index_copy_(0, row, points.xyz)
        if self.vocabulary is None:
            nothing = {free_class(self.table), self.table.ignore}  # a point is known to be something
            return PointAnswer(best_class(self.prediction.read_at("semantic", xyz), nothing)[row], None)
        feature = self.prediction.read_at("language", xyz)
        return PointAnswer(assign(feature, self.vocabulary, self.table)[row], feature[row])


def _volume(prediction: Prediction, vocabulary: Vocabulary | None, table: ClassTable) -> Int64[Tensor, "X Y Z"]:
    if vocabulary is None:
        return prediction.labels()
    occupied = prediction.occupancy > prediction.threshold
    return label_volume(occupied, assign(prediction.read_occupied("language"), vocabulary, table), free_class(table))


def assign(feature: Float[Tensor, "P D"], vocabulary: Vocabulary, table: ClassTable) -> Int64[Tensor, "P"]:
    """Classes of features in the numbers of the table, by the best query."""
    assert vocabulary.embeddings is not None
    number = torch.tensor([table.index_of(name) for name in vocabulary.class_names])
    return assign_best_query(feature, vocabulary.embeddings, number[list(vocabulary.class_of_query)])


# -------------------------------------------------------------------------------------------------- teachers


@dataclass(slots=True)
class TeacherMethod:
    """The teacher's own features at the pixels of each point. It knows nothing of space.

    The answer to the last keyframe is kept, so that the same teacher may be scored in voxels too.
    """

    teacher: ImageTeacher
    table: ClassTable
    vocabulary: Vocabulary
    _last: tuple[str, TeacherAnswer] | None = field(default=None, repr=False)

    def answer(self, sample: Sample, sweep: SweepPoints) -> TeacherAnswer:
        if self._last is None or self._last[0] != sample.token:
            self._last = sample.token, TeacherAnswer(self, sample, sweep)
        return self._last[1]


EACH = TeacherReading(views="each", pixels="nearest", unit=False)
"""How the published baseline reads a teacher: a feature for each camera and point, of the length it has."""


@dataclass(slots=True)
class TeacherAnswer:
    """Unit features averaged over cameras or, asked camera by camera, each as it is, at the nearest pixel."""

    method: TeacherMethod
    sample: Sample
    sweep: SweepPoints
    _read: dict[TeacherReading, PointFeatures] = field(default_factory=dict)

    def volume(self) -> None:
        return None

    def solid(self) -> None:
        return None

    def at(self, points: Points) -> PointAnswer | None:
        if not bool(self.sweep.visible.any(dim=0)[points.index].all()):
            return None
        if points.view is None:
            known = self._features(TeacherReading())
            row = torch.searchsorted(known.index, points.index)
        else:
            known = self._features(EACH)
            seen = self.sweep.visible_published
            row_of_pair = (seen.flatten().long().cumsum(0) - 1).view(seen.shape)
            row = row_of_pair[points.view, points.index]
        feature = known.feature[row]
        return PointAnswer(assign(feature, self.method.vocabulary, self.method.table), feature)

    def _features(self, reading: TeacherReading) -> PointFeatures:
        if reading not in self._read:
            self._read[reading] = teacher_point_features(self.sample, self.method.teacher, reading)
        return self._read[reading]


@dataclass(frozen=True, slots=True)
class TeacherVoxels:
    """The teacher told by LiDAR where things are: features of the points in a voxel are averaged, then classified.

    The voxel variant of the published baseline (spec pop3d 7.3). Its occupancy is the truth's own, so only its classes
    say something.
    """

    teacher: TeacherMethod
    grid: VoxelGrid
    points: PointSet = "unique"

    def answer(self, sample: Sample, sweep: SweepPoints) -> MapAnswer:
        points = sweep.points(self.points, "drop")
        known = self.teacher.answer(sample, sweep).at(points)
        assert known is not None
        assert known.feature is not None
        kept, flat = voxels_of_points(self.grid, points.xyz)
        voxel, row = flat.unique(return_inverse=True)
        mean = scatter_mean(known.feature[kept], row, len(voxel))
        volume = torch.full((self.grid.num_voxels,), free_class(self.teacher.table))
        volume[voxel] = assign(mean, self.teacher.vocabulary, self.teacher.table)
        return MapAnswer(volume.view(self.grid.shape), free_class(self.teacher.table))
