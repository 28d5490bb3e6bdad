"""Scores several methods on the same held-out keyframes: a model, its teacher, and baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.collate import grid_from_lidar
from lexivox.data.labels import occupancy_from_lidar, semantic_from_lidar
from lexivox.data.types import IGNORED, OCCUPIED, Sample, SampleDataset
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.lidar import LidarScore
from lexivox.evaluate.occupancy import OccupancyScore, label_volume
from lexivox.evaluate.report import ScoreTable
from lexivox.evaluate.retrieval import RetrievalScore
from lexivox.evaluate.scores import Scores
from lexivox.evaluate.unobserved import UnobservedScore
from lexivox.geometry.grid import VoxelGrid
from lexivox.model import OccupancyModel
from lexivox.ops.assign import assign_best_query
from lexivox.supervision.targets import project_lidar, teacher_point_features
from lexivox.teachers.base import ImageTeacher, TextEncoder
from lexivox.teachers.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method says about a keyframe; ``None`` where it has nothing to say.

    Attributes:
        volume: class of every voxel in the numbers of the table, its free class where nothing is.
        point_label: class of every point asked.
        point_feature: language feature of every point asked.
    """

    volume: Int64[Tensor, "X Y Z"] | None = None
    point_label: Int64[Tensor, "P"] | None = None
    point_feature: Float[Tensor, "P D"] | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """A keyframe as LiDAR and labels tell it, on the grid and at the points that a camera sees."""

    seen: Int64[Tensor, "P"]
    xyz: Float[Tensor, "P 3"]
    point_label: Int64[Tensor, "P"]
    occupancy: UInt8[Tensor, "X Y Z"]
    semantic: UInt8[Tensor, "X Y Z"]
    complete: Bool[Tensor, "X Y Z"] | None


@runtime_checkable
class Method(Protocol):
    def answer(self, sample: Sample, truth: Truth) -> Answer:
        """``truth.xyz`` are the points asked; nothing else of the truth may be read."""
        ...


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Free-text queries and what they should find.

    Attributes:
        relevant: phrase -> names of the fine classes that it means.
        names: of the fine classes.
        labels: fine class of every point of keyframe number i, which is also given as a sample.

    Raises:
        ConfigError: a query means a class that does not exist.
    """

    relevant: Mapping[str, Sequence[str]]
    names: Sequence[str]
    labels: Callable[[int, Sample], Int64[Tensor, "P"]]

    def __post_init__(self) -> None:
        for query, meant in self.relevant.items():
            strange = [name for name in meant if name not in self.names]
            if strange or not meant:
                raise ConfigError(
                    f"query '{query}' must mean classes of the data set; got {', '.join(strange) or 'none'}. "
                    f"Choose from {', '.join(self.names)}."
                )

    def of_points(self, index: int, sample: Sample) -> Int64[Tensor, "P"]:
        """Fine class of every point of a keyframe.

        Raises:
            DataError: there are not as many as points.
        """
        label = self.labels(index, sample)
        if len(label) != sample.lidar.num_points:
            raise DataError(
                f"fine labels of {sample.token} must be as many as its points, {sample.lidar.num_points}; "
                f"got {len(label)}. Make the recording again."
            )
        return label

    def mask(self, query: str, label: Int64[Tensor, "P"]) -> Bool[Tensor, "P"]:
        numbers = [self.names.index(name) for name in self.relevant[query]]
        return torch.isin(label, torch.tensor(numbers))


# ------------------------------------------------------------------------------------------------- methods


@dataclass(frozen=True, slots=True)
class ModelMethod:
    """A trained model; asked in words when it has a language head, else by its semantic head.

    Attributes:
        blank: give it black images: what it knows without looking.
    """

    model: OccupancyModel
    table: ClassTable
    vocabulary: Vocabulary | None
    blank: bool = False

    def answer(self, sample: Sample, truth: Truth) -> Answer:
        if self.blank:
            dark = tuple(replace(v, image=torch.zeros_like(v.image)) for v in sample.views)
            sample = replace(sample, views=dark)
        prediction = self.model.predict(sample)
        occupied = prediction.occupancy > prediction.threshold
        if self.vocabulary is None:
            rows = self._semantic(prediction.read_at("semantic", truth.xyz))
            return Answer(prediction.labels(), rows, None)
        feature = prediction.read_at("language", truth.xyz)
        voxel = assign(prediction.read_occupied("language"), self.vocabulary, self.table)
        volume = label_volume(occupied, voxel, _free(self.table))
        return Answer(volume, assign(feature, self.vocabulary, self.table), feature)

    def _semantic(self, logits: Float[Tensor, "P K"]) -> Int64[Tensor, "P"]:
        """Best class, free and ignored ones left out, as the points are known to be something."""
        logits = logits.clone()
        logits[:, [_free(self.table), self.table.ignore]] = -torch.inf
        return logits.argmax(dim=-1)


@dataclass(frozen=True, slots=True)
class TeacherMethod:
    """The teacher's own features at the pixels of each point. It knows nothing of space."""

    teacher: ImageTeacher
    table: ClassTable
    vocabulary: Vocabulary

    def answer(self, sample: Sample, truth: Truth) -> Answer:
        feature = teacher_point_features(sample, self.teacher).feature
        return Answer(None, assign(feature, self.vocabulary, self.table), feature)


@dataclass(frozen=True, slots=True)
class FixedMap:
    """The same map for every keyframe, e.g. the average of the training keyframes around the car."""

    volume: Int64[Tensor, "X Y Z"]

    def answer(self, sample: Sample, truth: Truth) -> Answer:
        return Answer(self.volume)


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
    return FixedMap(torch.where(occupied > 0.5 * observed, some, _free(table)))


def assign(feature: Tensor, vocabulary: Vocabulary, table: ClassTable) -> Int64[Tensor, "P"]:
    """Classes of features in the numbers of the table, by the best query."""
    assert vocabulary.embeddings is not None
    number = torch.tensor([table.index_of(name) for name in vocabulary.class_names])
    return assign_best_query(feature, vocabulary.embeddings, number[list(vocabulary.class_of_query)])


def _free(table: ClassTable) -> int:
    assert table.free is not None, "checked by evaluate()"
    return table.free


# ------------------------------------------------------------------------------------------------- scoring


class MethodScore:
    """All protocols of one method, filled keyframe by keyframe."""

    def __init__(self, table: ClassTable, queries: QuerySet | None, vectors: Float[Tensor, "M D"] | None) -> None:
        self.table, self.queries, self.vectors = table, queries, vectors
        self.occupancy, self.lidar = OccupancyScore(table), LidarScore(table)
        self.unobserved, self.retrieval = UnobservedScore(), RetrievalScore("cosine")

    def update(self, answer: Answer, truth: Truth, fine: Int64[Tensor, "P"] | None) -> None:
        if answer.volume is not None:
            self.occupancy.update(answer.volume, truth.semantic, truth.occupancy)
            occupied = answer.volume != self.table.free
            self.unobserved.update(occupied, truth.occupancy != IGNORED, truth.complete)
        if answer.point_label is not None:
            self.lidar.update(answer.point_label, truth.point_label, torch.arange(len(truth.xyz)))
        if answer.point_feature is not None and fine is not None:
            self._retrieve(answer.point_feature, fine)

    def _retrieve(self, feature: Float[Tensor, "P D"], fine: Int64[Tensor, "P"]) -> None:
        assert self.queries is not None
        assert self.vectors is not None
        scores = F.normalize(feature.float(), dim=-1) @ self.vectors.T
        for number, query in enumerate(self.queries.relevant):
            relevant = self.queries.mask(query, fine)
            if bool(relevant.any()):
                self.retrieval.update(query, scores[:, number], relevant)

    def scores(self) -> list[Scores]:
        kept: list[Scores] = []
        if self.occupancy.num_samples:
            kept += [self.occupancy.scores(), self.unobserved.scores()]
        if self.lidar.num_samples:
            kept.append(self.lidar.scores())
        if self.retrieval.rows:
            kept.append(self.retrieval.scores())
        return kept


def evaluate(
    methods: Mapping[str, Method],
    dataset: SampleDataset,
    grid: VoxelGrid,
    table: ClassTable,
    *,
    queries: QuerySet | None = None,
    text_encoder: TextEncoder | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ScoreTable:
    """Score methods on every keyframe of a labelled data set, in one pass and constant memory.

    Raises:
        DataError: no keyframe, or one without labels.
    """
    if len(dataset) == 0:
        raise DataError("an evaluation split must hold at least one sample; got none. Check the split.")
    vectors = None
    if queries is not None and text_encoder is not None:
        vectors = text_encoder.encode(list(queries.relevant))
    scores = {name: MethodScore(table, queries, vectors) for name in methods}
    for index in range(len(dataset)):
        sample = dataset[index]
        truth = truth_of(sample, grid, table)
        fine = queries.of_points(index, sample)[truth.seen] if queries is not None and vectors is not None else None
        for name, method in methods.items():
            scores[name].update(method.answer(sample, truth), truth, fine)
        on_progress(index + 1, len(dataset))
    report = ScoreTable(f"{dataset.name}: {len(dataset)} held-out keyframes, {table.name}")
    for name, score in scores.items():
        report = report.with_row(name, *score.scores())
    return report


def truth_of(sample: Sample, grid: VoxelGrid, table: ClassTable) -> Truth:
    """Raises:
    DataError: the sample has no labels.
    ShapeError: its voxel labels are in another frame than the grid.
    """
    if sample.point_labels is None:
        raise DataError(f"samples must have point labels to be scored; got none in {sample.token}. Open the labels.")
    transform = grid_from_lidar(sample, grid)
    xyz, label = transform.apply(sample.lidar.xyz), sample.point_labels.label
    origin = transform.translation.float()
    _, visible = project_lidar(sample)
    seen = visible.any(dim=0).nonzero()[:, 0]
    semantic = semantic_from_lidar(
        grid, origin, xyz, label, num_classes=table.num_classes, free_label=_free(table), protocol="exact"
    )
    complete = sample.voxel_labels
    if complete is not None and complete.grid.frame != grid.frame:
        raise ShapeError(
            f"voxel labels must be in the frame of the grid, '{grid.frame}'; got '{complete.grid.frame}' in "
            f"{sample.token}. Set grid.frame, or make the labels again for this grid."
        )
    solid = complete.label != complete.free_label if complete is not None and complete.grid == grid else None
    return Truth(seen, xyz[seen], label[seen], occupancy_from_lidar(grid, origin, xyz), semantic, solid)
