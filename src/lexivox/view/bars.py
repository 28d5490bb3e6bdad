"""A bar chart as SVG: published numbers and ours side by side, in groups, readable without the text around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LEFT, RIGHT, TOP, ROW, HEAD, FOOT = 340, 90, 84, 34, 40, 52
BAR = 12
PUBLISHED, OURS, INK, MUTED, LINE = "#9aa7b8", "#1f6feb", "#1b2430", "#66707d", "#e3e7ec"
HOLLOW = f'fill="none" stroke="{OURS}" stroke-dasharray="4 2"'


@dataclass(frozen=True, slots=True)
class BarRow:
    """Two bars under one label, in per cent.

    Attributes:
        group: rows of one group stand under one heading.
        label: what was measured.
        published: ``None`` where no value is known.
        ours: ``None`` where it was not run.
        is_comparable: ours is drawn hollow where it follows another definition or data.
        prefix: stands before the published value, such as ``"≈"``.
    """

    group: str
    label: str
    published: float | None
    ours: float | None
    is_comparable: bool = True
    prefix: str = ""


def bar_chart(title: str, rows: Sequence[BarRow], *, width: int = 960) -> str:
    """The chart as a whole SVG document; its height follows from the rows."""
    high = _axis_end([value for row in rows for value in (row.published, row.ours) if value is not None])
    scale = (width - LEFT - RIGHT) / high
    groups = list(dict.fromkeys(row.group for row in rows))
    height = TOP + ROW * len(rows) + HEAD * len(groups) + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" role="img"><title>{escape(title)}</title>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        _text(24, 32, title, size=18, weight=600),
        _legend(),
        *_axis(high, scale, height - FOOT),
    ]
    y = TOP
    for group in groups:
        parts.append(_text(24, y + 26, group, size=14, weight=600))
        y += HEAD
        for row in (row for row in rows if row.group == group):
            parts += _row(row, y, scale)
            y += ROW
    return "\n".join([*parts, "</svg>\n"])


def _axis_end(values: Sequence[float]) -> float:
    """A round number at or above the largest value."""
    largest = max(values, default=0.0)
    return next((float(end) for end in (5, 10, 20, 30, 40, 50, 60, 80) if end >= largest), 100.0)


def _axis(high: float, scale: float, bottom: float | int) -> list[str]:
    parts = []
    for number in range(6):
        value = high * number / 5
        x = LEFT + value * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="{LINE}"/>')
        for y in (TOP - 6, bottom + 18):
            parts.append(_text(x, y, f"{value:g}", size=12, color=MUTED, anchor="middle"))
    label = _text(LEFT + high * scale / 2, bottom + 38, "per cent (more is better)", 12, color=MUTED, anchor="middle")
    return [*parts, label]


def _legend() -> str:
    """Three samples of what bars mean."""
    return "".join(
        (
            f'<rect x="24" y="49" width="26" height="{BAR}" fill="{PUBLISHED}"/>',
            _text(56, 60, "published", size=13),
            f'<rect x="144" y="49" width="26" height="{BAR}" fill="{OURS}"/>',
            _text(176, 60, "ours", size=13),
            f'<rect x="230" y="49.5" width="26" height="{BAR - 1}" {HOLLOW}/>',
            _text(262, 60, "ours under another definition, on other data or from another teacher: not comparable", 13),
        )
    )


def _row(row: BarRow, y: float | int, scale: float) -> list[str]:
    published = "value not found" if row.published is None else f"{row.prefix}{row.published:.1f}"
    parts = [_text(LEFT - 12, y + 18, row.label, size=13, anchor="end")]
    parts += _bar(y + 2, row.published, scale, f'fill="{PUBLISHED}"', published)
    style = f'fill="{OURS}"' if row.is_comparable else HOLLOW
    return [*parts, *_bar(y + 16, row.ours, scale, style, "not run" if row.ours is None else f"{row.ours:.1f}")]


def _bar(y: float | int, value: float | None, scale: float, style: str, text: str) -> list[str]:
    if value is None:
        return [_text(LEFT + 6, y + 10, text, size=11, color=MUTED)]
    length = value * scale
    bar = f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 1}" {style}/>'
    return [bar, _text(LEFT + length + 6, y + 10, text, size=11)]


def _text(
    x: float | int,
    y: float | int,
    text: str,
    size: int = 13,
    weight: int = 400,
    color: str = INK,
    anchor: str = "start",
) -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{color}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
