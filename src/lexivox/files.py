"""Writing files so that a kill or a full disk leaves the old file or the new one, never half of one; reading arrays.

Nothing that is read here can run code, and whatever is wrong with a file, one kind of error says it.
"""

from __future__ import annotations

import lzma
import os
import struct
import tokenize
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np

from lexivox.errors import DataError

DAMAGES = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    SyntaxError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    BadZipFile,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
)
"""What a file that is cut short, overwritten or none of ours can raise on its way through numpy, zip and JSON."""


class UnreadableError(ValueError):
    """A file is damaged or of another kind; the message says why and leaves the rest to who asked."""


@contextmanager
def readable() -> Iterator[None]:
    """Whatever a damaged file raises inside becomes :class:`UnreadableError`."""
    try:
        yield
    except DAMAGES as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableError(text.splitlines()[0]) from None


def read_npz(path: str | os.PathLike[str], names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``, or those of ``names``.

    Raises:
        UnreadableError: it is damaged, is no archive or lacks one of them.
    """
    with readable(), open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
        wanted = file.files if names is None else names
        missing = [name for name in wanted if name not in file.files]
        if missing:
            raise UnreadableError(f"no {', '.join(missing)} but {', '.join(file.files) or 'nothing'}")
        return {name: file[name] for name in wanted}


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of an ``.npy``.

    Raises:
        UnreadableError: it is damaged or is none.
    """
    with readable(), open(path, "rb") as stream:
        array = np.load(stream, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise UnreadableError("an archive of several arrays")
        return array


def read_records(path: str | os.PathLike[str], dtype: str) -> np.ndarray:
    """A file that is numbers and nothing else.

    Raises:
        UnreadableError: it cannot be read, or its bytes are no whole number of them.
    """
    with readable():
        data = Path(path).read_bytes()
        size = np.dtype(dtype).itemsize
        if len(data) % size:
            raise UnreadableError(f"{len(data):,} bytes, no multiple of {size}")
        return np.frombuffer(data, dtype=dtype)


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
