"""Progress bars with rate and time left, one for each kind of work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

OnProgress = Callable[[str, int, int], None]
LINE_EVERY_S = 10.0


def progress_lines(console: Console, every_s: float = LINE_EVERY_S) -> OnProgress:
    """A function ``(work, done, total)`` that says now and then, and at the end of a work, how far it is."""
    began: dict[str, tuple[float, int]] = {}
    said_s = 0.0

    def on_progress(work: str, done: int, total: int) -> None:
        nonlocal said_s
        now_s = time.perf_counter()
        began_s, first = began.setdefault(work, (now_s, done))
        if now_s - said_s < every_s and done < total:
            return
        said_s, rate = now_s, (done - first) / max(now_s - began_s, 1e-9)
        pace = f", {rate:.1f}/s, {(total - done) / rate:.0f} s left" if rate > 0 else ""
        console.print(f"{work}: {done}/{total}{pace}", highlight=False)

    return on_progress


@contextmanager
def progress_bars(quiet: bool = False) -> Iterator[OnProgress]:
    """A function ``(work, done, total)`` that draws; where nothing can be drawn, lines.

    Both go to stderr. ``quiet`` is for processes beside the one that speaks.
    """
    if quiet:
        yield lambda work, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        Task,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")

    console = Console(stderr=True)
    if not console.is_terminal:
        yield progress_lines(console)
        return
    columns = (
        TextColumn("{task.description:>18}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(""),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as bars:

        def on_progress(work: str, done: int, total: int) -> None:
            if work not in tasks:
                tasks[work] = bars.add_task(work, total=total)
            bars.update(tasks[work], completed=done)

        yield on_progress
