"""POP-3D's three scores of a keyframe, and what nobody observed: what is asked, and how answers count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.types import IGNORED, Sample
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.lidar import LidarScore
from lexivox.evaluate.methods import Answer, PointAnswer
from lexivox.evaluate.metric import Metric
from lexivox.evaluate.occupancy import OccupancyScore
from lexivox.evaluate.protocol import Pop3dProtocol, Similarity
from lexivox.evaluate.retrieval import RetrievalScore
from lexivox.evaluate.truth import Points, SweepPoints, Truth, truth_of
from lexivox.evaluate.unobserved import UnobservedScore
from lexivox.evaluate.voxel_truth import free_class
from lexivox.geometry.grid import VoxelGrid


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


@dataclass(frozen=True, slots=True)
class Question:
    """One keyframe with its truth and, where queries are asked, the fine class of every point and the text vectors."""

    sample: Sample
    truth: Truth
    queries: QuerySet | None = None
    fine: Int64[Tensor, "P"] | None = None
    vectors: Float[Tensor, "M D"] | None = None


class Pop3dJudge:
    """POP-3D's three scores, and what nobody observed.

    Attributes:
        empty: keyframes without a single class that counts.
    """

    def __init__(
        self,
        protocols: Sequence[Pop3dProtocol],
        grid: VoxelGrid,
        table: ClassTable,
        queries: QuerySet | None = None,
        vectors: Float[Tensor, "M D"] | None = None,
    ) -> None:
        self.protocols, self.grid, self.table = protocols, grid, table
        self.queries, self.vectors = queries, vectors
        self.empty: list[str] = []
        self.notes: tuple[str, ...] = ()

    def ask(self, index: int, sample: Sample, sweep: SweepPoints) -> Question:
        """Raises:
        DataError: a keyframe without labels.
        """
        truth = truth_of(sample, self.grid, self.table, self.protocols, sweep)
        fine = None
        if self.queries is not None and self.vectors is not None:
            fine = self.queries.of_points(index, sample)
        if not counts_anything(truth, self.table):
            self.empty.append(sample.token)
        return Question(sample, truth, self.queries, fine, self.vectors)

    def add(self, metrics: Mapping[str, Metric], name: str, answer: Answer, question: Question, token: str) -> None:
        """Raises:
        DataError, ShapeError: see :func:`evaluate`.
        """
        _Scorer(name, metrics, self.protocols, free_class(self.table)).add(answer, question)


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Adds one method's answer to a keyframe to its scores."""

    name: str
    metrics: Mapping[str, Metric]
    protocols: Sequence[Pop3dProtocol]
    free: int

    def add(self, answer: Answer, question: Question) -> None:
        volume = answer.volume()
        if volume is not None:
            self._add_volume(volume, question)
        for first in {(p.points, p.outside): p for p in self.protocols}.values():
            asked = question.truth.sweep.points(first.points, first.outside)
            said = answer.at(asked)
            if said is not None:
                check_finite(said, self.name, question.sample.token)
                same = [p for p in self.protocols if (p.points, p.outside) == (first.points, first.outside)]
                self._add_points(asked, said, question, same)

    def _add_volume(self, volume: Int64[Tensor, "X Y Z"], question: Question) -> None:
        truth = question.truth
        if volume.shape != truth.observed.shape:
            raise ShapeError(
                f"map of '{self.name}' for {question.sample.token} must have the shape of the grid, "
                f"{tuple(truth.observed.shape)}; got {tuple(volume.shape)}."
            )
        for name, voxels in truth.voxels.items():
            metric = self.metrics[name]
            assert isinstance(metric, OccupancyScore)
            metric.update(volume, voxels.semantic, voxels.occupancy, token=question.sample.token)
        unobserved = self.metrics[UnobservedScore.PROTOCOL]
        assert isinstance(unobserved, UnobservedScore)
        unobserved.update(volume != self.free, truth.observed, truth.complete, token=question.sample.token)

    def _add_points(
        self, asked: Points, said: PointAnswer, question: Question, protocols: Sequence[Pop3dProtocol]
    ) -> None:
        for name in dict.fromkeys(p.lidar for p in protocols):
            metric = self.metrics[name]
            assert isinstance(metric, LidarScore)
            label = question.truth.label[asked.index]
            metric.update(said.label, label, torch.arange(len(asked)), token=question.sample.token)
        for name, protocol in {p.retrieval: p for p in protocols}.items():
            metric = self.metrics[name]
            assert isinstance(metric, RetrievalScore)
            self._add_queries(metric, asked, said, question, protocol.similarity)

    def _add_queries(
        self, metric: RetrievalScore, asked: Points, said: PointAnswer, question: Question, similarity: Similarity
    ) -> None:
        queries, fine, vectors = question.queries, question.fine, question.vectors
        if said.feature is None or queries is None or fine is None or vectors is None:
            return
        scores = similarities(said.feature, vectors, similarity)
        for number, query in enumerate(queries.relevant):
            relevant = queries.mask(query, fine[asked.index])
            if bool(relevant.any()):
                metric.update(query, scores[:, number], relevant, token=question.sample.token)


def similarities(
    feature: Float[Tensor, "P D"], vectors: Float[Tensor, "M D"], similarity: Similarity
) -> Float[Tensor, "P M"]:
    """How well every feature fits every text."""
    feature = feature.float()
    return (F.normalize(feature, dim=-1) if similarity == "cosine" else feature) @ vectors.to(feature).T


def check_finite(said: PointAnswer, method: str, token: str) -> None:
    """Raises:
    DataError: a feature is NaN or infinite; a score of it would mean nothing.
    """
    if said.feature is None:
        return
    wrong = int((~said.feature.isfinite().all(dim=-1)).sum())
    if wrong:
        raise DataError(
            f"features of '{method}' must be finite; got {wrong} of {len(said.feature)} points of sample {token} with "
            "NaN or infinity. Check weights and images."
        )


def counts_anything(truth: Truth, table: ClassTable) -> bool:
    """Is there a voxel with a class, or a labelled point that a camera sees?"""
    nothing = torch.tensor([IGNORED, free_class(table)])
    has_voxel = any(not bool(torch.isin(v.semantic, nothing).all()) for v in truth.voxels.values())
    seen = truth.label[truth.sweep.visible.any(dim=0)]
    return has_voxel or bool(((seen != table.ignore) & (seen != IGNORED)).any())
