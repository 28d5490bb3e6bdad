"""Reads the table inside a pandas-1.x pickle without pandas and without running what the file asks for.

A pickle is a program. Here it may call nine names only, those that a plain table of numbers and texts needs,
and each stands for a small sealed class of this file. Everything else in the file is refused.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lexivox.errors import DataError

MAX_BYTES = 1 << 30
"""Unpacked size at which a file is refused: a full sweep of PandaSet unpacks to 8 MB."""

_NUMBER = re.compile(r"[biuf][1248]|O8")


class _Sealed(type):
    """A class that a pickle cannot change: its BUILD opcode can set attributes of anything it reached."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"the file tries to change {name}")


class _Dtype(metaclass=_Sealed):
    def __init__(self, code: str, *_: object) -> None:
        if not _NUMBER.fullmatch(code):
            raise pickle.UnpicklingError(f"the file holds values of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"the file names a byte order {order!r}")
        self.dtype = self.dtype if self.dtype.hasobject else self.dtype.newbyteorder(order)


class _Array(metaclass=_Sealed):
    values: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, is_fortran, raw = state
        dtype, count = kind.dtype, math.prod(shape)
        if dtype.hasobject:
            if len(raw) != count:
                raise pickle.UnpicklingError("an array holds another number of values than it says")
            flat = np.empty(count, dtype=object)
            flat[:] = raw
        else:
            flat = np.frombuffer(raw, dtype=dtype)
        self.values = flat.reshape(shape, order="F" if is_fortran else "C")


class _Reconstruct(metaclass=_Sealed):
    def __new__(cls, *_: object) -> _Array:  # type: ignore[misc]  # stands for a function that returns an array
        return _Array()


class _Index(metaclass=_Sealed):
    names: list[str] | None = None


class _NewIndex(metaclass=_Sealed):
    def __new__(cls, _kind: object, state: dict) -> _Index:  # type: ignore[misc]
        index = _Index()
        if isinstance(state.get("data"), _Array):
            index.names = [str(name) for name in state["data"].values]
        return index


class _Blocks(metaclass=_Sealed):
    columns: dict[str, np.ndarray]

    def __setstate__(self, state: tuple) -> None:
        _, values, items = state[:3]
        self.columns = {
            name: column
            for block, index in zip(values, items, strict=True)
            for name, column in zip(index.names, block.values, strict=True)
        }


class _Frame(metaclass=_Sealed):
    columns: dict[str, np.ndarray]

    def __setstate__(self, state: dict) -> None:
        self.columns = (state["_data"] if "_data" in state else state["_mgr"]).columns


_ADMITTED: dict[tuple[str, str], Any] = {
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): _Blocks,
    ("pandas.core.indexes.base", "_new_Index"): _NewIndex,
    ("pandas.core.indexes.base", "Index"): _Index,
    ("pandas.core.indexes.range", "RangeIndex"): _Index,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("builtins", "slice"): slice,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the file asks to call {module}.{name}") from None


def read_frame(path: Path, columns: Sequence[str], who: str) -> dict[str, np.ndarray]:
    """The named columns of a table in a gzipped pickle.

    Args:
        path: a ``.pkl.gz`` file written by pandas 1.x.
        columns: the columns to return; all must be there, of equal length.
        who: what the file is, for messages.

    Raises:
        DataError: the file is missing, damaged, asks for any code, or lacks a column.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DataError(f"file of {who} must exist; got none. Complete the data set: {path}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"file of {who} must be whole; got: {error}. Fetch it again: {path}") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"file of {who} must unpack to at most {MAX_BYTES} bytes; got more: {path}")
    frame = _unpickle(content, path, who)
    missing = [name for name in columns if name not in frame]
    if missing:
        found = ", ".join(sorted(frame))
        raise DataError(f"table of {who} must have the columns {', '.join(missing)}; got {found}: {path}")
    return {name: frame[name] for name in columns}


def _unpickle(content: bytes, path: Path, who: str) -> dict[str, np.ndarray]:
    try:
        frame = _Reader(io.BytesIO(content)).load()
        if not isinstance(frame, _Frame):
            raise pickle.UnpicklingError(f"the file holds a {type(frame).__name__.strip('_')}, not a table")
        return frame.columns
    except Exception as error:  # a damaged pickle can raise whatever its broken program leads to
        reason = " ".join(str(error).split())
        raise DataError(
            f"file of {who} must hold a plain table; got: {reason}. It is damaged or hostile; do not use it: {path}"
        ) from error
