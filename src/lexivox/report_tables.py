"""Score tables as people read them: headlines, all numbers of a definition, classes, and published beside ours."""

from __future__ import annotations

from collections.abc import Sequence

from lexivox.evaluate.comparison import LEGEND, ComparedNumber, Comparison, remark
from lexivox.evaluate.protocol import RUN_PROTOCOLS, Headline, Pop3dProtocol, RunProtocol
from lexivox.evaluate.report import ScoreTable as Scores
from lexivox.view.scene import ScoreTable

HEADLINES = Pop3dProtocol().headlines
"""Headline -> protocol and metric, as recommended: classes that the held-out keyframes never show are left out."""


def headline_scores(scores: Scores, headlines: Sequence[Headline] = HEADLINES) -> dict[str, dict[str, float]]:
    """Per method the headline numbers that apply to it."""
    rows: dict[str, dict[str, float]] = {}
    for row in scores.rows:
        named = {name: scores.value(row.method, protocol, metric) for name, protocol, metric in headlines}
        rows[row.method] = {name: value for name, value in named.items() if value is not None}
    return rows


def headlines_of(scores: Scores, protocol: RunProtocol) -> tuple[Headline, ...]:
    """Those of the first named protocol that was scored: the run's own, or what it was asked for instead."""
    candidates = (protocol, *RUN_PROTOCOLS.values())
    scored = (p for p in candidates if any(definition in scores.protocols for _, definition, _ in p.headlines))
    return next(scored, protocol).headlines


def query_scores(
    scores: Scores, method: str, protocol: str = Pop3dProtocol().retrieval
) -> dict[str, dict[str, float | None]]:
    """AP of every free query and of a random ranking, for one method."""
    found = next((row.under(protocol) for row in scores.rows if row.method == method), None)
    if found is None or "random" not in found.per_class:
        return {}
    random = found.per_class["random"]
    return {text: {"ap": ap, "random": random[text]} for text, ap in found.per_class["ap"].items()}


def score_tables(scores: Scores, headlines: Sequence[Headline] = HEADLINES) -> list[ScoreTable]:
    """The headline table, then for each definition all its numbers and its IoU by class."""
    rows = headline_scores(scores, headlines)
    columns = tuple(name for name, _, _ in headlines)
    note = "; ".join(f"{name}: {metric} of {protocol}" for name, protocol, metric in headlines)
    head = {method: tuple(named.get(c) for c in columns) for method, named in rows.items()}
    tables = [ScoreTable(scores.title, columns, head, note)]
    for protocol in scores.protocols:
        tables += [_all_metrics(scores, protocol), *_by_class(scores, protocol)]
    return tables


def _all_metrics(scores: Scores, protocol: str) -> ScoreTable:
    metrics = scores.metrics(protocol)
    rows = {row.method: s for row in scores.rows if (s := row.under(protocol)) is not None}
    counts = {f"{number:,} {name.replace('_', ' ')}" for s in rows.values() for name, number in s.counts.items()}
    cells = {method: tuple(s.values.get(metric) for metric in metrics) for method, s in rows.items()}
    return ScoreTable(protocol, metrics, cells, ", ".join(sorted(counts)))


def _by_class(scores: Scores, protocol: str) -> list[ScoreTable]:
    found = [
        (row.method, s.per_class["iou"]) for row in scores.rows if (s := row.under(protocol)) and "iou" in s.per_class
    ]
    names = [name for name, value in found[0][1].items() if value is not None] if found else []
    by_method = {method: tuple(numbers[name] for name in names) for method, numbers in found}
    return [ScoreTable(f"IoU by class, {protocol}", tuple(names), by_method)] if by_method else []


def comparison_tables(comparison: Comparison | None) -> list[ScoreTable]:
    """Each of the paper's tables beside ours, in per cent; why two numbers do not compare stands below."""
    tables = []
    for title, numbers in comparison.tables() if comparison is not None else ():
        cells = {_label(number): (number.published_text, number.ours_text) for number in numbers}
        notes = [f"{_label(number)}: {remark(number)}." for number in numbers if remark(number)]
        legend = [LEGEND] if any(number.reasons or number.published.is_derived for number in numbers) else []
        tables.append(
            ScoreTable(f"Published and ours (%): {title}", ("published", "ours"), cells, " ".join([*notes, *legend]))
        )
    return tables


def _label(number: ComparedNumber) -> str:
    return f"{number.published.method}, {number.published.metric}"
