"""Reads a JSON table (an array of records) record by record: a gigabyte costs a few megabytes of memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lexivox.errors import DataError

CHUNK_CHARACTERS = 1 << 20
_GAP = re.compile(r"[\s,]*")


def stream_table(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a table in the order of the file.

    Raises:
        DataError: the file is missing, is not a JSON array of records, or ends early.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _records(file, path)
    except FileNotFoundError:
        raise DataError(f"table {path.stem} must exist; got none. Complete the tables in {path.parent}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"table {path.stem} must be UTF-8 JSON; got {error.reason}. Fetch it again: {path}") from error


def _records(file: TextIO, path: Path) -> Iterator[dict[str, Any]]:
    decode = json.JSONDecoder().raw_decode
    buffer = ""
    while not buffer and (chunk := file.read(CHUNK_CHARACTERS)):
        buffer = chunk.lstrip()
    if not buffer.startswith("["):
        raise _damaged(path, f"a start of {buffer[:12]!r}")
    position = 1
    while True:
        position = _GAP.match(buffer, position).end()  # type: ignore[union-attr]  # matches the empty string too
        if buffer.startswith("]", position):
            return
        try:
            record, position = decode(buffer, position)
        except json.JSONDecodeError as error:
            more = file.read(CHUNK_CHARACTERS)
            if not more:
                raise _damaged(path, f"{error.msg} near its end") from error
            buffer, position = buffer[position:] + more, 0
            continue
        if not isinstance(record, dict):
            raise _damaged(path, f"a record of type {type(record).__name__}")
        yield record


def _damaged(path: Path, got: str) -> DataError:
    return DataError(f"table {path.stem} must be a JSON array of records; got {got}. Fetch it again: {path}")
