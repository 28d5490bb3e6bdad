"""Scores prediction files of any method against label files: no model is needed, nor anything that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.files.base import FileBenchmark, FileOptions
from lexivox.evaluate.files.pairs import FilePairs, pair_files
from lexivox.evaluate.files.parts import CountedPart, added, part_file, work_of
from lexivox.evaluate.files.points import (
    LidarsegKittiFiles,
    LidarsegNuscenesFiles,
    PanopticKittiFiles,
    PanopticNuscenesFiles,
)
from lexivox.evaluate.files.pop3d import Pop3dLidarFiles, Pop3dOccupancyFiles, Pop3dRetrievalFiles
from lexivox.evaluate.files.volumes import (
    Occ3dFiles,
    OpenOccupancyFiles,
    RayIouFiles,
    RayPqFiles,
    SemanticKittiVoxelFiles,
    SurroundOccFiles,
)
from lexivox.evaluate.part import Part
from lexivox.evaluate.report import ScoreTable, markdown_table
from lexivox.evaluate.scores import Scores

FORMAT, VERSION = "lexivox-file-scores", 1

FILE_BENCHMARKS: dict[str, type[FileBenchmark]] = {
    kind.name: kind
    for kind in (
        Occ3dFiles, RayIouFiles, RayPqFiles, OpenOccupancyFiles, SurroundOccFiles, SemanticKittiVoxelFiles,
        PanopticNuscenesFiles, PanopticKittiFiles, LidarsegNuscenesFiles, LidarsegKittiFiles, Pop3dOccupancyFiles,
        Pop3dLidarFiles, Pop3dRetrievalFiles,
    )
}  # fmt: skip
"""By the name that the command line knows."""


@dataclass(frozen=True, slots=True)
class FileScores:
    """What prediction files score, and everything that must be known beside a number.

    Attributes:
        benchmark: its name.
        label_version: what the labels are, in words.
        label_hash: of the contents of all label files that were read, in any order: two scores of different hashes
            have different truths, whatever these are called.
        pairs: what was scored and what was not.
        rows: mask and scores.
        remarks: what else a reader must know of the options.
    """

    benchmark: str
    label_version: str
    label_hash: str
    pairs: FilePairs
    rows: tuple[tuple[str, Scores], ...]
    remarks: tuple[str, ...] = ()

    def to_text(self, *, per_class: bool = False) -> str:
        """One table, a row for each mask, in per cent; notes below it; the classes below these where asked for."""
        metrics = list(dict.fromkeys(name for _, scores in self.rows for name in scores.values))
        header = ["protocol", "labels", "mask", "coverage", *metrics]
        body = [
            [s.protocol, f"{self.label_version} {self.label_hash}", mask, self.pairs.coverage]
            + [_percent(s.values.get(name)) for name in metrics]
            for mask, s in self.rows
        ]
        parts = [markdown_table(header, body, text_columns=4), *self.notes()]
        if per_class:
            parts += [self._by_class(name) for name in self.rows[0][1].per_class]
        return "\n\n".join(parts) + "\n"

    def _by_class(self, metric: str) -> str:
        header = [f"{metric} (%)", *(mask for mask, _ in self.rows)]
        classes = self.rows[0][1].per_class[metric]
        body = [[name, *(_percent(s.per_class[metric].get(name)) for _, s in self.rows)] for name in classes]
        return markdown_table(header, body)

    def notes(self) -> list[str]:
        """Sentences about what was counted and what was not."""
        counts = [
            f"{mask}: " + ", ".join(f"{n:,} {_words(what)}" for what, n in s.counts.items()) for mask, s in self.rows
        ]
        notes = ["In per cent. " + "; ".join(counts) + ".", *self.remarks]
        if self.pairs.missing:
            notes.append(
                f"{len(self.pairs.missing):,} labelled samples have no prediction and are left out, first "
                f"{self.pairs.missing[0]}: these numbers are of a part and stand beside no other's."
            )
        if self.pairs.unlabelled:
            notes.append(
                f"{len(self.pairs.unlabelled):,} predictions are of no labelled sample of the split and are not "
                f"scored, first {self.pairs.unlabelled[0]}."
            )
        return notes

    def table(self, method: str) -> ScoreTable:
        """The same as a table of methods, to stand beside others."""
        table = ScoreTable(f"{self.benchmark}: {self.pairs.coverage}, {self.label_version} {self.label_hash}")
        return table.with_row(method, *(scores for _, scores in self.rows))

    def to_json(self) -> str:
        """Everything, shares of 1, ``null`` where a metric does not apply."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "unit": "share",
            "benchmark": self.benchmark,
            "labels": {"version": self.label_version, "sha256": self.label_hash},
            "coverage": {
                "scored": len(self.pairs.pairs),
                "labelled": self.pairs.labelled,
                "missing": list(self.pairs.missing),
                "not_labelled": list(self.pairs.unlabelled),
            },
            "remarks": list(self.remarks),
            "results": [{"mask": mask, **asdict(scores)} for mask, scores in self.rows],
        }
        return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def score_files(
    predictions: str | Path,
    labels: str | Path,
    benchmark: str,
    *,
    options: FileOptions | None = None,
    tokens: Collection[str] | None = None,
    allow_missing: bool = False,
    label_version: str = "",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> FileScores:
    """Score a folder of predictions against a folder of labels, one sample at a time, in constant memory.

    Args:
        benchmark: a key of :data:`FILE_BENCHMARKS`.
        tokens: the samples of a split; by default every labelled one.
        allow_missing: score what is there; the result says how much that is.
        label_version: of the labels, in words; the format's name by default.

    Raises:
        ConfigError: no such benchmark, or an option it does not know.
        DataError: files are missing, damaged or of another format; names the sample.
        ShapeError: a volume of another shape.
    """
    judge, pairs = _prepared(predictions, labels, benchmark, options, tokens, allow_missing)
    digest = _counted(judge, pairs, range(len(pairs.pairs)), on_progress)
    return _finished(judge, pairs, digest, label_version)


def score_part(
    predictions: str | Path,
    labels: str | Path,
    benchmark: str,
    part: Part,
    *,
    options: FileOptions | None = None,
    tokens: Collection[str] | None = None,
    allow_missing: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Count one share of what :func:`score_files` scores; the file in ``PREDICTIONS/parts`` that holds it.

    Raises:
        ConfigError, DataError, ShapeError: as :func:`score_files`.
    """
    judge, pairs = _prepared(predictions, labels, benchmark, options, tokens, allow_missing)
    digest = _counted(judge, pairs, part.indices(len(pairs.pairs)), on_progress)
    counted = CountedPart(work_of(judge, pairs), part, digest, tuple(metric.state() for metric in judge.metrics))
    return counted.save(part_file(Path(predictions), benchmark, part))


def merge_parts(
    predictions: str | Path,
    labels: str | Path,
    benchmark: str,
    *,
    options: FileOptions | None = None,
    tokens: Collection[str] | None = None,
    allow_missing: bool = False,
    label_version: str = "",
) -> FileScores:
    """What :func:`score_files` gives, from all parts that :func:`score_part` has counted.

    Raises:
        DataError: parts are missing, or of other files or options.
    """
    judge, pairs = _prepared(predictions, labels, benchmark, options, tokens, allow_missing)
    files = sorted((Path(predictions) / "parts").glob(f"{benchmark}-*-of-*.json"))
    digest = added([CountedPart.load(path) for path in files], judge, work_of(judge, pairs))
    return _finished(judge, pairs, digest, label_version)


def _prepared(
    predictions: str | Path,
    labels: str | Path,
    benchmark: str,
    options: FileOptions | None,
    tokens: Collection[str] | None,
    allow_missing: bool,
) -> tuple[FileBenchmark, FilePairs]:
    if benchmark not in FILE_BENCHMARKS:
        raise ConfigError(f"protocol of files must be one of {', '.join(FILE_BENCHMARKS)}; got {benchmark!r}.")
    judge = FILE_BENCHMARKS[benchmark](options or FileOptions())
    said, true = judge.predictions.find(Path(predictions), "predictions"), judge.labels.find(Path(labels), "labels")
    return judge, pair_files(said, true, tokens, allow_missing=allow_missing)


def _counted(judge: FileBenchmark, pairs: FilePairs, indices: range, on_progress: Callable[[int, int], None]) -> int:
    """Count some samples; the sum of their labels' hashes, which no order changes."""
    digest = 0
    for done, index in enumerate(indices, 1):
        token, prediction, label = pairs.pairs[index]
        _count(judge, token, prediction, label)
        digest += int.from_bytes(hashlib.sha256(token.encode() + label.read_bytes()).digest()[:8])
        on_progress(done, len(indices))
    return digest


def _finished(judge: FileBenchmark, pairs: FilePairs, digest: int, label_version: str) -> FileScores:
    rows = tuple((mask, metric.compute()) for mask, metric in zip(judge.masks, judge.metrics, strict=True))
    version = label_version or judge.label_version
    return FileScores(judge.name, version, f"#{digest % (1 << 32):08x}", pairs, rows, judge.remarks)


def _count(judge: FileBenchmark, token: str, prediction: Path, label: Path) -> None:
    try:
        judge.count(token, prediction, label)
    except (DataError, ShapeError) as error:
        raise error if token in str(error) else type(error)(f"{error} Sample: {token}") from None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def joined(scores: Sequence[FileScores]) -> str:
    """The JSON of several benchmarks: a list where there is more than one."""
    texts = [json.loads(each.to_json()) for each in scores]
    return json.dumps(texts[0] if len(texts) == 1 else texts, indent=1, ensure_ascii=False) + "\n"
