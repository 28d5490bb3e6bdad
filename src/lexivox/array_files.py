"""Reading arrays from files: nothing that is read can run code, and one kind of error says whatever is wrong."""

from __future__ import annotations

import lzma
import os
import struct
import tokenize
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

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
