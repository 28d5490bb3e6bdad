"""Everything counted so far about several methods: added up across processes, kept in a file, read as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lexivox.data.classes import ClassTable
from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.complete import complete_metrics
from lexivox.evaluate.lidar import LidarScore
from lexivox.evaluate.metric import Metric
from lexivox.evaluate.occupancy import OccupancyScore
from lexivox.evaluate.part import Part
from lexivox.evaluate.protocol import DepthProtocol, Occ3dProtocol, Pop3dProtocol, RunProtocol, protocol_from
from lexivox.evaluate.ray_depth import depth_metrics
from lexivox.evaluate.report import ScoreTable
from lexivox.evaluate.retrieval import RetrievalScore
from lexivox.evaluate.unobserved import UnobservedScore
from lexivox.geometry.grid import VoxelGrid

FORMAT, VERSION = "lexivox-evaluation", 3


@dataclass(frozen=True, slots=True)
class Split:
    """Which keyframes are scored, on which grid: parts of other splits are never added up."""

    data: str
    table: str
    tokens: int
    fingerprint: str
    grid: VoxelGrid

    @classmethod
    def from_fields(cls, grid: Mapping[str, Any], **known: Any) -> Split:
        """From what JSON kept."""
        sides = {name: tuple(grid[name]) for name in ("lower_m", "voxel_size_m", "shape")}
        return cls(**known, grid=VoxelGrid(**sides, frame=grid["frame"]))


@dataclass(slots=True)
class MethodScore:
    """All scores of one method.

    Attributes:
        tokens: keyframes of the split that the method answered.
        metrics: by the name of their protocol.
    """

    metrics: dict[str, Metric]
    tokens: list[str] = field(default_factory=list)

    def merge(self, other: MethodScore, name: str) -> MethodScore:
        """Raises:
        ShapeError: a keyframe was scored in both.
        """
        twice = sorted(set(self.tokens) & set(other.tokens))
        if twice:
            raise ShapeError(
                f"merged parts must hold different keyframes; got {len(twice)} of '{name}' in both, first {twice[0]}."
            )
        names = dict.fromkeys([*self.metrics, *other.metrics])
        merged = {key: _merge(self.metrics.get(key), other.metrics.get(key)) for key in names}
        return MethodScore(merged, [*self.tokens, *other.tokens])

    @property
    def is_empty(self) -> bool:
        return not self.tokens


def _merge(one: Metric | None, other: Metric | None) -> Metric:
    found = [metric for metric in (one, other) if metric is not None]
    return found[0].merge(found[1]) if len(found) == 2 else found[0]


def new_metrics(protocols: Sequence[RunProtocol], table: ClassTable, grid: VoxelGrid) -> dict[str, Metric]:
    """An empty score for every definition among the protocols; what two of them share is counted once."""
    made: dict[str, Metric] = {}
    for protocol in protocols:
        made |= {metric.protocol: metric for metric in _metrics(protocol, table, grid)}
    if any(isinstance(protocol, Pop3dProtocol) for protocol in protocols):
        made[UnobservedScore.PROTOCOL] = UnobservedScore()
    return made


def _metrics(protocol: RunProtocol, table: ClassTable, grid: VoxelGrid) -> list[Metric]:
    if isinstance(protocol, Occ3dProtocol):
        return complete_metrics(protocol, table, grid)
    if isinstance(protocol, DepthProtocol):
        return depth_metrics(protocol)
    noise_errors, is_dup = protocol.noise_points == "errors", protocol.points == "dup"
    return [
        OccupancyScore(table, rays=protocol.rays, noise_voxels=protocol.noise_voxels),
        LidarScore(table, dup=is_dup, noise_errors=noise_errors, outside=protocol.outside),
        RetrievalScore(protocol.similarity, suffix=protocol.retrieval_suffix),
    ]


@dataclass(slots=True)
class Evaluation:
    """The state of an evaluation; counts are integers, so that parts add up exactly.

    Attributes:
        split: the keyframes to score.
        protocols: in the order of the tables; the first gives the headlines.
        methods: by name.
        parts: which shares of the split are inside.
        subject: what was scored, such as a hash of the weights: parts of two models are never added up.
        nothing_to_score: keyframes without a single class that counts, as when all labels are ignored.
        notes: what a reader must know.
    """

    split: Split
    protocols: tuple[RunProtocol, ...]
    methods: dict[str, MethodScore]
    parts: tuple[Part, ...] = (Part(),)
    subject: str = ""
    nothing_to_score: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def merge(self, other: Evaluation) -> Evaluation:
        """Both together.

        Raises:
            ShapeError: they score other splits, follow other protocols, or hold a keyframe both.
        """
        same = (self.split, self.protocols, self.subject) == (other.split, other.protocols, other.subject)
        if not same or set(self.methods) != set(other.methods):
            raise ShapeError(
                f"merged parts must score the same methods on the same split; got {_identity(self)} and "
                f"{_identity(other)}. Evaluate all parts with the same weights and options."
            )
        return replace(
            self,
            methods={name: score.merge(other.methods[name], name) for name, score in self.methods.items()},
            parts=(*self.parts, *other.parts),
            nothing_to_score=(*self.nothing_to_score, *other.nothing_to_score),
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
        )

    @property
    def is_whole(self) -> bool:
        """True where every part of the split is inside."""
        count = self.parts[0].count
        return sorted((part.number, part.count) for part in self.parts) == [(n + 1, count) for n in range(count)]

    def require_whole(self) -> None:
        """Raises:
        DataError: parts are missing.
        """
        if not self.is_whole:
            got = ", ".join(f"{part.number}/{part.count}" for part in self.parts)
            raise DataError(f"parts of an evaluation must be complete; got {got}. Evaluate the missing ones too.")

    # ------------------------------------------------------------------------------------------------ output

    def table(self) -> ScoreTable:
        """The scores of all methods, and in the notes what they cover."""
        some = f"{self.split.tokens} held-out keyframes, {self.split.table}"
        report = ScoreTable(f"{self.split.data}: {some}", notes=(*self.notes, *self._coverage()))
        for name, method in self.methods.items():
            scored = [metric.compute() for metric in method.metrics.values()]
            report = report.with_row(name, *[s for s in scored if any(s.counts.values())])
        return report

    def _coverage(self) -> list[str]:
        total = self.split.tokens
        lines = [
            f"{name} answers {len(method.tokens)} of {total} keyframes; its scores are of these only."
            for name, method in self.methods.items()
            if len(method.tokens) < total
        ]
        if self.nothing_to_score:
            lines.append(
                f"{len(self.nothing_to_score)} of {total} keyframes hold no class that counts, only free space; "
                f"the first is {self.nothing_to_score[0]}."
            )
        for name, method in self.methods.items():
            lines += _skipped(name, method)
        return lines

    def to_json(self) -> str:
        """The counts, read back by :meth:`from_json`."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "split": asdict(self.split),
            "protocols": [asdict(protocol) for protocol in self.protocols],
            "subject": self.subject,
            "parts": [asdict(part) for part in self.parts],
            "nothing_to_score": self.nothing_to_score,
            "notes": self.notes,
            "methods": {
                name: {"tokens": method.tokens, "metrics": {k: m.state() for k, m in method.metrics.items()}}
                for name, method in self.methods.items()
            },
        }
        return json.dumps(content, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, table: ClassTable) -> Evaluation:
        """Raises:
        DataError: the text holds no evaluation with these classes.
        """
        try:
            content = json.loads(text)
            if (content["format"], content["version"], content["split"]["table"]) != (FORMAT, VERSION, table.name):
                raise ValueError(f"{content['format']} {content['version']} of {content['split']['table']}")
            split = Split.from_fields(**content["split"])
            protocols = tuple(protocol_from(protocol) for protocol in content["protocols"])
            return cls(
                split,
                protocols,
                {
                    name: _restored(state, new_metrics(protocols, table, split.grid))
                    for name, state in content["methods"].items()
                },
                tuple(Part(**part) for part in content["parts"]),
                str(content["subject"]),
                tuple(content["nothing_to_score"]),
                tuple(content["notes"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, ShapeError) as error:
            raise DataError(f"a part must be {FORMAT} version {VERSION}; got {error!r}. Evaluate it again.") from None


def _identity(evaluation: Evaluation) -> str:
    split, protocols = evaluation.split, ", ".join(protocol.name for protocol in evaluation.protocols)
    who = f"{', '.join(evaluation.methods)} {evaluation.subject}".strip()
    return f"{who} on {split.tokens} of {split.data} {split.fingerprint[:8]} ({protocols})"


def _restored(state: Mapping[str, Any], metrics: dict[str, Metric]) -> MethodScore:
    for name, counts in state["metrics"].items():
        if name not in metrics:  # the retrieval benchmark's splits are in no protocol
            metrics[name] = RetrievalScore(counts["similarity"], suffix=counts["suffix"], split=counts["split"])
        metrics[name].restore(counts)
    return MethodScore(metrics, list(state["tokens"]))


def _skipped(name: str, method: MethodScore) -> list[str]:
    lines = []
    for protocol, metric in method.metrics.items():
        if isinstance(metric, RetrievalScore) and metric.skipped:
            what, reason = next(iter(metric.skipped.items()))
            lines.append(f"{name}, {protocol}: {len(metric.skipped)} queries skipped; {what} ({reason}).")
    return lines
