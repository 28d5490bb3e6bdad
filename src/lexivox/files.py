"""Writing files so that a kill or a full disk leaves the old file or the new one, never half of one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lexivox.errors import DataError


def write_atomically(path: Path, write: Callable[[BinaryIO], object], what: str = "a file") -> Path:
    """Let ``write`` fill a neighbour of ``path``, then rename it into place; ``what`` names it in the error.

    Raises:
        DataError: the folder cannot be written or the disk is full; what was at ``path`` is untouched.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise DataError(
            f"{what} must be writable; got {error.strerror or error}. Free space or choose another folder: {path}."
        ) from None
    finally:
        with suppress(OSError):  # where nothing could be written there is nothing to clean up
            part.unlink(missing_ok=True)
    return path
