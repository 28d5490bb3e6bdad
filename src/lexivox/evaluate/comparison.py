"""Our numbers beside published ones: each with what keeps the two from being compared, or marked as not run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from lexivox.evaluate.published import PUBLISHED_NUMBERS, PublishedNumber
from lexivox.evaluate.report import ScoreTable, markdown_table
from lexivox.evaluate.scores import Scores

NOT_RUN = "not run"
Status = Literal["comparable", "not comparable", "not run"]


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """What a comparison must know of a run.

    Attributes:
        recipe: name of its config.
        data: what was scored, in words.
        is_nuscenes: real keyframes of nuScenes, on the published grid.
        teacher: name of the image-text model that taught it.
        scores: its table.
    """

    recipe: str
    data: str
    is_nuscenes: bool
    teacher: str
    scores: ScoreTable


@dataclass(frozen=True, slots=True)
class ComparedNumber:
    """A published number, ours, and why the two do not compare (nothing if they do)."""

    published: PublishedNumber
    ours: float | None = None
    protocol: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        if self.ours is None:
            return NOT_RUN
        return "not comparable" if self.reasons else "comparable"

    @property
    def published_text(self) -> str:
        if self.published.value is None:
            return "not found"
        return f"{'≈' if self.published.is_derived else ''}{100 * self.published.value:.1f}"

    @property
    def ours_text(self) -> str:
        if self.ours is None:
            return NOT_RUN
        return f"{100 * self.ours:.1f}{' *' if self.reasons else ''}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All published numbers beside ours, table by table."""

    numbers: tuple[ComparedNumber, ...]

    @property
    def has_ours(self) -> bool:
        """Is there a number of ours at all, be it comparable or not?"""
        return any(number.ours is not None for number in self.numbers)

    def tables(self) -> Iterator[tuple[str, list[ComparedNumber]]]:
        """Title and rows."""
        for title in dict.fromkeys(number.published.table for number in self.numbers):
            yield title, [number for number in self.numbers if number.published.table == title]

    def rows(self, numbers: Sequence[ComparedNumber]) -> list[tuple[str, str, str, str, str]]:
        """Method, metric, published, ours, remark: each cell as text, shares in per cent."""
        return [(n.published.method, n.published.metric, n.published_text, n.ours_text, remark(n)) for n in numbers]

    def to_json(self) -> str:
        """Shares of 1, every number with its status, reasons and source."""
        content = [{**asdict(number), "status": number.status} for number in self.numbers]
        return json.dumps({"format": "lexivox-comparison", "unit": "share", "numbers": content}, indent=1) + "\n"

    def to_markdown(self) -> str:
        """One table for each of the paper's, in per cent."""
        parts = ["# Published and ours (%)", LEGEND]
        for title, numbers in self.tables():
            table = markdown_table(list(COLUMNS), [list(row) for row in self.rows(numbers)], text_columns=2)
            sources = "; ".join(dict.fromkeys(number.published.source for number in numbers))
            parts += [f"## {title}", table, f"Source: {sources}."]
        return "\n\n".join(parts) + "\n"


COLUMNS = ("method", "metric", "published", "ours", "remark")
LEGEND = (
    "≈ derived from a ratio in the source. * ours follows another definition, data or teacher, as the remark says: "
    "the two numbers do not compare."
)


def remark(number: ComparedNumber) -> str:
    """Why ours does not compare, then what the source leaves open."""
    return "; ".join([*number.reasons, *([number.published.note] if number.published.note else [])])


def compare(runs: Sequence[ScoredRun], numbers: Sequence[PublishedNumber] = PUBLISHED_NUMBERS) -> Comparison:
    """Find our number for each published one. The first run is the one evaluated; others lie beside it."""
    return Comparison(tuple(_compared(number, runs) for number in numbers))


def _compared(number: PublishedNumber, runs: Sequence[ScoredRun]) -> ComparedNumber:
    for run in runs if number.recipe else runs[:1]:
        if number.recipe in ("", run.recipe):
            scores = _scores(number, run.scores)
            ours = None if scores is None else scores.values.get(number.key)
            if scores is not None and ours is not None:
                return ComparedNumber(number, ours, scores.protocol, tuple(_reasons(number, run, scores)))
    return ComparedNumber(number)


def _scores(number: PublishedNumber, table: ScoreTable) -> Scores | None:
    """Scores under the published definition or else under a variant of it, never of another family or split."""
    row = next((row for row in table.rows if number.answered_by and row.method == number.answered_by), None)
    if row is None or not number.protocol:
        return None
    wanted = number.protocol.split("/")
    alike = [s for s in row.scores if _is_variant(s.protocol.split("/"), wanted)]
    return min(alike, key=lambda s: s.protocol != number.protocol, default=None)


def _is_variant(found: list[str], wanted: list[str]) -> bool:
    return len(found) == len(wanted) and (found[0], found[2:]) == (wanted[0], wanted[2:])


def _reasons(number: PublishedNumber, run: ScoredRun, scores: Scores) -> Iterator[str]:
    if scores.protocol != number.protocol:
        yield f"scored as {scores.protocol}, published as {number.protocol}"
    if not run.is_nuscenes:
        yield f"scored on {run.data}"
    elif scores.counts.get("samples") != number.samples:
        yield f"{scores.counts.get('samples', 0):,} of {number.samples:,} samples"
    if number.answered_by == "teacher" and run.teacher != "maskclip_plus":
        yield f"the teacher is '{run.teacher}'"
