"""Arrays of a TorchScript archive, as CLIP is published, without running its program.

The archive holds a program, and a pickle of modules whose arrays lie in files of their own. The pickle may ask for
modules, arrays and their number types only, each of which is a small sealed class here; the program is not read.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive with a program."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Arrays by the names of the modules that hold them.

    Raises:
        pickle.UnpicklingError: the file asks for anything else.
        ValueError, KeyError: it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        (root,) = (name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl"))
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("the archive's numbers are not little-endian")
        try:
            module = _Reader(archive, root).load()
        except (TypeError, AttributeError, IndexError) as error:
            raise ValueError("the archive's pickle is malformed") from error
    if not isinstance(module, _Module):
        raise ValueError("the archive holds no module")
    return dict(_arrays(module, ""))


def _arrays(module: _Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in module.state.items():
        if isinstance(value, _Module):
            yield from _arrays(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor):
            yield f"{prefix}{name}", value


class _Sealed:
    """What a pickle may hold but not change."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("the file tries to change what is not its own")


class _Module:
    """A module of the program: its attributes, nothing of its code."""

    __slots__ = ("state",)
    state: dict[str, Any]

    def __new__(cls) -> _Module:  # a pickle makes objects without initialising them
        module = super().__new__(cls)
        module.state = {}
        return module

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise pickle.UnpicklingError("a module must have attributes by name")
        self.state = state


class _MakeNothing(_Sealed):
    """In the place of hooks and types of lists, which are of no use here."""

    __slots__ = ()

    def __call__(self, *parts: object) -> None:
        return None


class _MakeArray(_Sealed):
    __slots__ = ()

    def __call__(self, storage: Tensor, offset: int, size: tuple, stride: tuple, *rest: object) -> Tensor:
        return storage.as_strided(size, stride, offset).clone()


class _Storage(_Sealed):
    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _MakeArray()
        if module == "torch" and name in _DTYPES:
            return _Storage(_DTYPES[name])
        if (module, name) == ("collections", "OrderedDict") or module == "torch.jit._pickle":
            return _MakeNothing()
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, kind, key, _, count = pid
        content = bytearray(self.archive.read(f"{self.root}data/{key}"))
        flat = torch.frombuffer(content, dtype=kind.dtype) if content else torch.zeros(0, dtype=kind.dtype)
        if len(flat) != count:
            raise ValueError(f"array {key} holds {len(flat)} numbers, not the {count} it says")
        return flat
