"""Scores several methods on the same held-out keyframes, in one pass and constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.types import Sample, SampleDataset
from lexivox.errors import DataError
from lexivox.evaluate.complete import CompleteJudge
from lexivox.evaluate.evaluation import Evaluation, MethodScore, Part, Split, new_metrics
from lexivox.evaluate.methods import Answer, Method
from lexivox.evaluate.metric import Metric
from lexivox.evaluate.pop3d import Pop3dJudge, QuerySet
from lexivox.evaluate.protocol import DepthProtocol, Occ3dProtocol, Pop3dProtocol, RunProtocol
from lexivox.evaluate.ray_depth import DepthJudge
from lexivox.evaluate.truth import SweepPoints, sweep_points
from lexivox.geometry.grid import VoxelGrid
from lexivox.teachers.base import TextEncoder


def evaluate(
    methods: Mapping[str, Method],
    dataset: SampleDataset,
    grid: VoxelGrid,
    table: ClassTable,
    *,
    protocols: Sequence[RunProtocol] = (Pop3dProtocol(),),
    queries: QuerySet | None = None,
    text_encoder: TextEncoder | None = None,
    part: Part | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score methods on every keyframe of a data set, or on one part of it.

    Raises:
        DataError: no keyframe, one without the labels that a protocol needs, or features that are not finite.
        ShapeError: a map of another size than the grid.
    """
    part = part or Part()
    if len(dataset) == 0:
        raise DataError("an evaluation split must hold at least one sample; got none. Check the split.")
    evaluation = new_evaluation(methods, dataset, table, protocols, part, grid)
    vectors = None
    if queries is not None and text_encoder is not None:
        vectors = text_encoder.encode(list(queries.relevant))
    judges = judges_of(evaluation.protocols, dataset, grid, table, queries, vectors)
    indices = part.indices(len(dataset))
    for done, index in enumerate(indices, 1):
        sample = dataset[index]
        sweep = sweep_points(sample, grid)
        asked = [(judge, judge.ask(index, sample, sweep)) for judge in judges]
        for name, method in methods.items():
            answer, score = method.answer(sample, sweep), evaluation.methods[name]
            if answer is not None:
                for judge, question in asked:
                    judge.add(score.metrics, name, answer, question, sample.token)
                score.tokens.append(sample.token)
        on_progress(done, len(indices))
    evaluation.nothing_to_score = tuple(token for judge in judges for token in judge.empty)
    evaluation.notes = tuple(note for judge in judges for note in judge.notes)
    return evaluation


@runtime_checkable
class Judge(Protocol):
    """Knows the truth of keyframes under some protocols, and counts answers.

    Attributes:
        empty: keyframes so far that hold nothing to score.
        notes: what a reader must know of the truth so far.
    """

    @property
    def empty(self) -> Sequence[str]: ...
    @property
    def notes(self) -> Sequence[str]: ...

    def ask(self, index: int, sample: Sample, sweep: SweepPoints) -> Any:
        """What is asked of a keyframe, with its truth; given back with every answer."""
        ...

    def add(self, metrics: Mapping[str, Metric], name: str, answer: Answer, question: Any, token: str) -> None:
        """Count the answer of the method ``name``."""
        ...


def judges_of(
    protocols: Sequence[RunProtocol],
    dataset: SampleDataset,
    grid: VoxelGrid,
    table: ClassTable,
    queries: QuerySet | None = None,
    vectors: Float[Tensor, "M D"] | None = None,
) -> list[Judge]:
    """Those that the protocols need; all of POP-3D's share one."""
    judges: list[Judge] = []
    pop3d = tuple(p for p in protocols if isinstance(p, Pop3dProtocol))
    if pop3d:
        judges.append(Pop3dJudge(pop3d, grid, table, queries, vectors))
    if any(isinstance(p, Occ3dProtocol) for p in protocols):
        judges.append(CompleteJudge(dataset, grid))
    return [*judges, *(DepthJudge(p, grid) for p in protocols if isinstance(p, DepthProtocol))]


def new_evaluation(
    methods: Mapping[str, Method],
    dataset: SampleDataset,
    table: ClassTable,
    protocols: Sequence[RunProtocol],
    part: Part,
    grid: VoxelGrid,
) -> Evaluation:
    """Nothing counted yet."""
    tokens = hashlib.sha256("\n".join(dataset.tokens).encode()).hexdigest()
    split = Split(dataset.name, table.name, len(dataset), tokens, grid)
    scores = {name: MethodScore(new_metrics(protocols, table, grid)) for name in methods}
    return Evaluation(split, tuple(dict.fromkeys(protocols)), scores, (part,))
