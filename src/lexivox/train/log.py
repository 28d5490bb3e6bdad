"""The log of a run: one JSON object per line, append-only, cut back to the checkpoint on resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lexivox.files import write_atomically


class RunLog:
    def __init__(self, path: Path, resume_step: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_log(path) if row["step"] < resume_step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        write_atomically(path, lambda file: file.write(text.encode()))

    def add(self, row: dict[str, Any]) -> None:
        add_line(self.path, row)


def add_line(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON object to a file of lines."""
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Rows of a log; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
