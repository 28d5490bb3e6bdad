"""Scores methods on the retrieval benchmark of POP-3D: one phrase for one sweep, ranked point by point (spec 7.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.retrieval import SPLITS, RetrievalAnnotation
from lexivox.data.types import Sample
from lexivox.evaluate.evaluation import MethodScore, Part
from lexivox.evaluate.methods import Answer, Method, PointAnswer
from lexivox.evaluate.pop3d import check_finite, similarities
from lexivox.evaluate.protocol import Outside, Pop3dProtocol
from lexivox.evaluate.retrieval import RetrievalScore
from lexivox.evaluate.truth import Points, SweepPoints, sweep_points
from lexivox.geometry.grid import VoxelGrid
from lexivox.teachers.base import TextEncoder

SCORED_SPLITS = ("train", "val", "test", "eval")
"""Each has a mean of its own; ``eval`` is val and test together, the paper's number."""


@dataclass(frozen=True, slots=True)
class RetrievalBenchmark:
    """The annotations and where their keyframes are found.

    Attributes:
        annotations: what to ask.
        find: the keyframe of a token, without labels; ``None`` where the recording does not have it.
    """

    annotations: Sequence[RetrievalAnnotation]
    find: Callable[[str], Sample | None]

    def score(
        self,
        scores: Mapping[str, MethodScore],
        methods: Mapping[str, Method],
        grid: VoxelGrid,
        text_encoder: TextEncoder,
        protocols: Sequence[Pop3dProtocol],
        part: Part | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Ask every method every phrase of a part of the keyframes; results go into ``scores``.

        A phrase whose keyframe is missing, or whose mask has another length than the sweep, is skipped and counted.

        Raises:
            DataError: features that are not finite.
        """
        by_token: dict[str, list[RetrievalAnnotation]] = {}
        for annotation in self.annotations:
            by_token.setdefault(annotation.token, []).append(annotation)
        tokens = [list(by_token)[index] for index in (part or Part()).indices(len(by_token))]
        for done, token in enumerate(tokens, 1):
            asked, sample = by_token[token], self.find(token)
            fit = [a for a in asked if _refusal(a, sample) is None]
            vectors = text_encoder.encode([a.query for a in fit]) if fit else torch.zeros(0, text_encoder.dim)
            for name, method in methods.items():
                keeper = _Keeper(name, scores[name], protocols)
                for annotation in asked:
                    reason = _refusal(annotation, sample)
                    if reason is not None:
                        keeper.skip(annotation, reason)
                if fit and sample is not None:
                    sweep = sweep_points(sample, grid)
                    keeper.add(method.answer(sample, sweep), sweep, fit, vectors)
            on_progress(done, len(tokens))


def _refusal(annotation: RetrievalAnnotation, sample: Sample | None) -> str | None:
    """Why an annotation cannot be scored; the released evaluation skips those of another length too."""
    if sample is None:
        return "its keyframe is not in the recording"
    if len(annotation.mask) != sample.lidar.num_points:
        return f"its mask has {len(annotation.mask)} points, the sweep {sample.lidar.num_points}"
    return None if annotation.is_consistent else "its matching points lie beyond the sweep"


@dataclass(frozen=True, slots=True)
class _Keeper:
    """Adds one method's answer to a keyframe to the means of the splits."""

    name: str
    score: MethodScore
    protocols: Sequence[Pop3dProtocol]

    def _metrics(self, annotation: RetrievalAnnotation, protocol: Pop3dProtocol) -> list[RetrievalScore]:
        found = []
        for split in SCORED_SPLITS:
            if annotation.split in SPLITS[split]:
                metric = RetrievalScore(protocol.similarity, suffix=protocol.retrieval_suffix, split=split)
                metric = self.score.metrics.setdefault(metric.protocol, metric)
                assert isinstance(metric, RetrievalScore)
                found.append(metric)
        return found

    def _distinct(self) -> list[Pop3dProtocol]:
        return list({protocol.retrieval: protocol for protocol in self.protocols}.values())

    def skip(self, annotation: RetrievalAnnotation, reason: str) -> None:
        for protocol in self._distinct():
            for metric in self._metrics(annotation, protocol):
                metric.skip(annotation.token, annotation.query, reason)

    def add(
        self,
        answer: Answer | None,
        sweep: SweepPoints,
        annotations: Sequence[RetrievalAnnotation],
        vectors: Float[Tensor, "M D"],
    ) -> None:
        if answer is None:
            return
        everywhere: dict[Outside, tuple[Points, PointAnswer | None]] = {}
        for protocol in self._distinct():
            if protocol.outside not in everywhere:
                points = sweep.points("all", protocol.outside)
                everywhere[protocol.outside] = points, answer.at(points)
            points, said = everywhere[protocol.outside]
            visible_only = said is None
            if said is None:  # a teacher knows only what cameras see
                points = sweep.points(protocol.points, protocol.outside)
                said = answer.at(points)
            if said is None or said.feature is None:
                continue
            check_finite(said, self.name, annotations[0].token)
            scores = similarities(said.feature, vectors, protocol.similarity)
            for number, annotation in enumerate(annotations):
                self._count(annotation, protocol, scores[:, number], points.index, visible_only)

    def _count(
        self,
        annotation: RetrievalAnnotation,
        protocol: Pop3dProtocol,
        scores: Float[Tensor, "P"],
        index: Int64[Tensor, "P"],
        visible_only: bool,
    ) -> None:
        relevant = annotation.mask[index]
        for metric in self._metrics(annotation, protocol):
            if visible_only:
                listed = torch.isin(index, annotation.matching)
                metric.update_visible(annotation.query, scores[listed], relevant[listed], annotation.token)
            else:
                visible = _visible_rows(annotation, protocol, index)
                metric.update(annotation.query, scores, relevant, visible, annotation.token)


def _visible_rows(
    annotation: RetrievalAnnotation, protocol: Pop3dProtocol, index: Int64[Tensor, "P"]
) -> Int64[Tensor, "S"]:
    """Rows of ``index`` (rising points of the sweep) that the benchmark lists as seen, with or without repetition."""
    row_of_point = torch.full((len(annotation.mask),), -1)
    row_of_point[index] = torch.arange(len(index))
    seen = annotation.matching if protocol.points == "dup" else annotation.matching.unique()
    rows = row_of_point[seen]
    kept: Bool[Tensor, "S"] = rows >= 0
    return rows[kept]
