"""A content-addressed store of computed arrays: teacher features at LiDAR points, boxes found in sweeps.

The name of an entry is the hash of everything it was computed from, so nothing is ever stale: another
teacher, image or parameter is another name. An entry is a safetensors file with a checksum of its own; a
damaged one is reported, made again and replaced. A file appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lexivox.errors import DataError
from lexivox.files import write_atomically

log = logging.getLogger(__name__)

Arrays = dict[str, Tensor]
Key = str
"""64 hex digits of :func:`content_key`."""

KeyPart = str | bytes | bool | int | float | None | Tensor | list | tuple | Mapping
_METADATA, _CHECKSUM = "lexivox", "sha256"
"""One entry of metadata, as JSON: the format keeps several in no order, and files should repeat byte for byte."""


def content_key(*parts: KeyPart) -> Key:
    """SHA-256 of all parts, e.g. teacher fingerprint, image, parameters.

    Every part is written with its type and length, so no two different lists of parts read the same.

    Raises:
        DataError: a part of another type, or a float that is not finite.
    """
    digest = hashlib.sha256()
    for part in parts:
        kind, content = _as_bytes(part)
        digest.update(f"{kind}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


def _as_bytes(part: KeyPart) -> tuple[str, bytes]:
    if isinstance(part, Tensor):
        return f"{part.dtype}{tuple(part.shape)}", _tensor_bytes(part)
    if isinstance(part, bytes):
        return "bytes", part
    try:
        return "json", json.dumps(part, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise DataError(
            f"cache key part must be text, number, tensor, list or mapping; got {part!r}. Convert it."
        ) from error


def _tensor_bytes(tensor: Tensor) -> bytes:
    # a view as bytes first: numpy knows no bfloat16
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@dataclass(frozen=True, slots=True)
class FillReport:
    """How many entries were computed and how many were already there."""

    made: int
    kept: int


class FeatureCache:
    """Entries under one folder; any number of processes may share it.

    Args:
        folder: made when the first entry is written.
        is_exact: keep floats as they are; features bear float16, places in metres do not.
    """

    def __init__(self, folder: str | Path, *, is_exact: bool = False) -> None:
        self.folder, self.is_exact = Path(folder), is_exact

    def path(self, key: Key) -> Path:
        """Where an entry lies; 256 sub-folders keep listings short."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: Key) -> Arrays | None:
        """The arrays of an entry; ``None`` when there is none or it is damaged (then it is also logged)."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            return _read(path)
        except (SafetensorError, OSError, ValueError) as error:
            log.warning("feature cache entry is damaged and will be made again (%s): %s", error, path)
            return None

    def put(self, key: Key, arrays: Arrays, about: Mapping[str, str] | None = None) -> None:
        """Write an entry; floats become float16 unless exact. ``about`` lies beside them, for whoever opens the file.

        Raises:
            DataError: a value does not fit float16, or the disk refuses (full, read-only).
        """
        keep = _on_cpu if self.is_exact else _halved
        stored = {name: keep(name, value) for name, value in arrays.items()}
        content = save(stored, metadata=_metadata(stored, about or {}))
        write_atomically(self.path(key), lambda file: file.write(content), "feature cache")

    def about(self, key: Key) -> dict[str, str]:
        """What an entry says of itself, e.g. the embedding space of its features; nothing where there is none."""
        if not self.path(key).is_file():
            return {}
        with safe_open(self.path(key), framework="pt") as file:
            said = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
        return {name: value for name, value in said.items() if name != _CHECKSUM}

    def get_or_make(self, key: Key, make: Callable[[], Arrays], about: Mapping[str, str] | None = None) -> Arrays:
        """The entry, computed and written when it is not there; always as read back, so runs repeat exactly.

        Raises:
            DataError: what :meth:`put` raises.
        """
        found = self.get(key)
        if found is None:
            self.put(key, make(), about)
            found = self.get(key)
        if found is None:
            raise DataError(f"feature cache must keep what was written; got a damaged file. Check: {self.folder}")
        return found

    def fill(
        self, jobs: Mapping[Key, Callable[[], Arrays]], progress: Callable[[int, int], None] | None = None
    ) -> FillReport:
        """Make every missing or damaged entry; stopped at any time it goes on where it was.

        Args:
            jobs: how to compute the entry of each key.
            progress: called with (done, total) after every job.

        Raises:
            DataError: what :meth:`put` raises.
        """
        made = 0
        for done, (key, make) in enumerate(jobs.items(), start=1):
            if self.get(key) is None:
                self.put(key, make())
                made += 1
            if progress is not None:
                progress(done, len(jobs))
        return FillReport(made=made, kept=len(jobs) - made)


def _read(path: Path) -> Arrays:
    with safe_open(path, framework="pt") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        expected = json.loads((file.metadata() or {}).get(_METADATA, "{}")).get(_CHECKSUM)
    if expected != _checksum(arrays):
        raise ValueError("checksum differs")
    return arrays


def _on_cpu(name: str, value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()


def _halved(name: str, value: Tensor) -> Tensor:
    value = _on_cpu(name, value)
    if not value.is_floating_point():
        return value
    half = value.to(torch.float16)
    if not bool(half.isfinite().all()):
        raise DataError(f"features to cache must be finite and within +-65504; got others in '{name}'. Scale them.")
    return half


def _metadata(stored: Arrays, about: Mapping[str, str]) -> dict[str, str]:
    return {_METADATA: json.dumps({**about, _CHECKSUM: _checksum(stored)}, sort_keys=True)}


def _checksum(arrays: Arrays) -> str:
    return content_key(*(part for name in sorted(arrays) for part in (name, arrays[name])))
