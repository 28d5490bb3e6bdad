"""How far work is: bars on a terminal, lines elsewhere, always on stderr."""

from __future__ import annotations

import io

from rich.console import Console

from lexivox.progress import progress_bars, progress_lines


def test_lines_tell_rate_and_time_left():
    console = Console(file=io.StringIO(), width=80)
    on_progress = progress_lines(console, every_s=0.0)
    for done in (1, 2, 4):
        on_progress("training", done, 4)
    first, second, last = console.file.getvalue().splitlines()
    assert first == "training: 1/4"
    assert second.startswith("training: 2/4, ")
    assert second.endswith(" s left")
    assert last.startswith("training: 4/4, ")


def test_lines_are_few():
    console = Console(file=io.StringIO(), width=80)
    on_progress = progress_lines(console, every_s=3600.0)
    for done in range(1, 101):
        on_progress("training", done, 100)
    assert [line.split(",")[0] for line in console.file.getvalue().splitlines()][-1] == "training: 100/100"
    assert len(console.file.getvalue().splitlines()) <= 2


def test_a_pipe_gets_lines_on_stderr(capsys):
    with progress_bars() as on_progress:
        on_progress("making targets", 3, 3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "making targets: 3/3\n"
