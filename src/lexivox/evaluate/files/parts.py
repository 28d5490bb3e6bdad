"""Prediction files scored by several processes: each counts a share; the sum is what one process counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.files.base import FileBenchmark
from lexivox.evaluate.files.pairs import FilePairs
from lexivox.evaluate.part import Part
from lexivox.files import write_atomically

FORMAT = "lexivox-file-part-1"


@dataclass(frozen=True, slots=True)
class CountedPart:
    """What one process counted: whole numbers only.

    Attributes:
        work: a hash of what all parts must share: benchmark, options and samples.
        digest: sum of the hashes of the label files read.
        states: of each metric.
    """

    work: str
    part: Part
    digest: int
    states: tuple[dict[str, Any], ...]

    def save(self, path: Path) -> Path:
        content = {
            "format": FORMAT,
            "work": self.work,
            "part": [self.part.number, self.part.count],
            "digest": str(self.digest),
            "states": self.states,
        }
        return write_atomically(path, lambda file: file.write(json.dumps(content).encode()))

    @classmethod
    def load(cls, path: Path) -> CountedPart:
        """Raises:
        DataError: the file is damaged or of something else.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(content["format"])
            return cls(content["work"], Part(*content["part"]), int(content["digest"]), tuple(content["states"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"a part must be {FORMAT}; got {error!r}. Score it again: {path}") from None


def work_of(judge: FileBenchmark, pairs: FilePairs) -> str:
    """Names what is scored: parts of different predictions' folders, options or splits are never added up."""
    asked = [judge.name, [m.identity for m in judge.metrics], judge.remarks, [token for token, _, _ in pairs.pairs]]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def part_file(folder: Path, benchmark: str, part: Part) -> Path:
    return folder / "parts" / f"{benchmark}-{part.number}-of-{part.count}.json"


def added(parts: Sequence[CountedPart], judge: FileBenchmark, work: str) -> int:
    """Fill the metrics of ``judge`` with all parts; the digest of all labels.

    Raises:
        DataError: parts are missing or of other files or options, or hold a sample twice.
    """
    numbers = sorted((part.part.number, part.part.count) for part in parts)
    if not parts or numbers != [(n + 1, parts[0].part.count) for n in range(parts[0].part.count)]:
        got = ", ".join(f"{number}/{count}" for number, count in numbers) or "none"
        raise DataError(f"parts of {judge.name} must be complete; got {got}. Score the missing ones with --part.")
    other = [part for part in parts if part.work != work]
    if other:
        raise DataError(
            f"parts of {judge.name} must be of these files and options; got {len(other)} of others, first "
            f"{other[0].part.number}/{other[0].part.count}. Score all parts again with the same options."
        )
    try:
        totals = [type(judge)(judge.options).metrics for _ in parts]
        for metrics, part in zip(totals, parts, strict=True):
            for metric, state in zip(metrics, part.states, strict=True):
                metric.restore(state)
        for place in range(len(judge.metrics)):
            total = totals[0][place]
            for metrics in totals[1:]:
                total = total.merge(metrics[place])
            judge.metrics = (*judge.metrics[:place], total, *judge.metrics[place + 1 :])
    except (KeyError, TypeError, ValueError, ShapeError) as error:
        raise DataError(f"parts of {judge.name} must hold counts; got {error!r}. Score them again.") from None
    return sum(part.digest for part in parts)
