"""A table of methods and their scores, as JSON, Markdown or a table in the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from lexivox.errors import ConfigError, DataError
from lexivox.evaluate.scores import Number, Scores

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = "lexivox-scores"
VERSION = 1


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One method: a model, a teacher, or a baseline such as blank images."""

    method: str
    scores: tuple[Scores, ...]

    def under(self, protocol: str) -> Scores | None:
        return next((s for s in self.scores if s.protocol == protocol), None)


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Methods below each other, scored under one or several protocols. Numbers never lose their protocol.

    Attributes:
        title: what was scored, on what.
        rows: the methods in the order of the table.
        notes: sentences a reader must know, such as how the truth was made.
    """

    title: str
    rows: tuple[ScoreRow, ...] = ()
    notes: tuple[str, ...] = ()

    def with_row(self, method: str, *scores: Scores) -> ScoreTable:
        """The table with one more method.

        Raises:
            ConfigError: the method is in the table already, or a protocol comes twice.
        """
        if any(row.method == method for row in self.rows):
            raise ConfigError(f"methods of a score table must differ; got {method!r} twice.")
        protocols = [s.protocol for s in scores]
        if len(set(protocols)) != len(protocols):
            raise ConfigError(f"scores of {method!r} must differ in protocol; got {protocols}.")
        return replace(self, rows=(*self.rows, ScoreRow(method, scores)))

    @property
    def protocols(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s.protocol for row in self.rows for s in row.scores))

    def metrics(self, protocol: str) -> tuple[str, ...]:
        """All metrics that some method has under a protocol, in order of appearance."""
        scored = (row.under(protocol) for row in self.rows)
        return tuple(dict.fromkeys(metric for s in scored if s for metric in s.values))

    def value(self, method: str, protocol: str, metric: str) -> Number:
        """One number; ``None`` where the method has none."""
        scores = next((row.under(protocol) for row in self.rows if row.method == method), None)
        return None if scores is None else scores.values.get(metric)

    # ------------------------------------------------------------------------------------------------ output

    def to_json(self) -> str:
        """Everything, shares of 1, ``null`` where a metric does not apply; read back by :meth:`from_json`."""
        content = {"format": FORMAT, "version": VERSION, "unit": "share", **asdict(self)}
        return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ScoreTable:
        """Raises:
        DataError: the text is no score table.
        """
        try:
            content = json.loads(text)
            if content["format"] != FORMAT or content["version"] != VERSION:
                raise ValueError(f"{content['format']} version {content['version']}")
            rows = tuple(_row(row) for row in content["rows"])
            return cls(content["title"], rows, tuple(content["notes"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"scores must be {FORMAT} version {VERSION}; got {error!r}. Evaluate again.") from error

    def to_markdown(self, *, per_class: bool = True) -> str:
        """Percentages (metres say so), one table for each protocol and, below it, one for each metric by class."""
        parts = [f"# {self.title}", *(f"{note}" for note in self.notes)]
        for heading, header, body in self._tables(per_class):
            parts += [f"## {heading}", markdown_table(header, body)]
        return "\n\n".join(parts) + "\n"

    def to_rich(self, *, per_class: bool = False) -> list[Table]:
        """The same tables for ``rich.console.Console.print``."""
        from rich.table import Table
        from rich.text import Text

        tables = []
        for heading, header, body in self._tables(per_class):
            table = Table(title=heading, title_justify="left")
            for column, name in enumerate(header):
                table.add_column(Text(name), justify="right" if column else "left")
            for line in body:
                table.add_row(*(Text(cell) for cell in line))  # a name in [brackets] is no markup
            tables.append(table)
        return tables

    def _tables(self, per_class: bool) -> Iterator[tuple[str, list[str], list[list[str]]]]:
        for protocol in self.protocols:
            metrics = self.metrics(protocol)
            scored = [(row.method, s) for row in self.rows if (s := row.under(protocol))]
            body = [[method, *(_cell(m, s.values.get(m)) for m in metrics)] for method, s in scored]
            yield f"{protocol} (%{_counts(scored)})", ["method", *metrics], body
            for metric in _union(scored, lambda s: s.per_class) if per_class else ():
                header = ["class", *(method for method, _ in scored)]
                yield f"{protocol}: {metric} by class (%)", header, _class_rows(scored, metric)


def markdown_table(header: list[str], body: Sequence[list[str]], *, text_columns: int = 1) -> str:
    """A Markdown table; the first ``text_columns`` are aligned to the left, numbers to the right."""
    rule = ["---"] * text_columns + ["---:"] * (len(header) - text_columns)
    return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in (header, rule, *body))


def _class_rows(scored: Sequence[tuple[str, Scores]], metric: str) -> list[list[str]]:
    tables = [s.per_class.get(metric, {}) for _, s in scored]
    names = _union(scored, lambda s: s.per_class.get(metric, {}))
    return [[name, *(_percent(table.get(name)) for table in tables)] for name in names]


def _union(scored: Sequence[tuple[str, Scores]], keys: Callable[[Scores], Any]) -> list[str]:
    return list(dict.fromkeys(key for _, s in scored for key in keys(s)))


def _counts(scored: Sequence[tuple[str, Scores]]) -> str:
    """What was counted, said once when it is the same for all methods."""
    counts = scored[0][1].counts
    if any(s.counts != counts for _, s in scored):
        return ""
    return "".join(f"; {number:,} {name.replace('_', ' ')}" for name, number in counts.items())


def _percent(share: Number) -> str:
    return "–" if share is None else f"{100 * share:.2f}"


def _cell(metric: str, number: Number) -> str:
    """Per cent, but metres where the metric's name says so, and logarithms as they are."""
    if number is None or not metric.endswith(("_m", "_log")):
        return _percent(number)
    return f"{number:.2f} m" if metric.endswith("_m") else f"{number:.3f}"


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _row(row: dict[str, Any]) -> ScoreRow:
    return ScoreRow(row["method"], tuple(Scores(**scores) for scores in row["scores"]))
