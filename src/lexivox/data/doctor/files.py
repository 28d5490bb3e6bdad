"""Files of a recording, judged without being read: are they there, whole, and of the usual size?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from lexivox.data.doctor.report import Finding, Findings

MAX_LISTED = 5
MAX_OPENED = 4000
"""Ends of so many files are read, spread evenly; sizes are asked of all."""

TAIL_BYTES = 256
ENDINGS = {
    ".jpg": b"\xff\xd9",
    ".jpeg": b"\xff\xd9",
    ".png": b"IEND",
    ".npz": b"PK\x05\x06",
}
"""What the last bytes of a whole file hold."""

STEADY = (".bin", ".gz", ".pcd", ".label")
"""Files of one folder that are much alike in size: sweeps and their labels."""

MIN_STEADY_BYTES, MIN_STEADY_SHARE = 50_000, 0.6


def check_files(paths: Sequence[Path]) -> Findings:
    """Every file is looked at by name and size, and its end is read where the format tells how it must end."""
    sizes = {path: path.stat().st_size for path in paths if path.is_file()}
    missing = [path for path in paths if path not in sizes]
    empty = [path for path, size in sizes.items() if size == 0]
    cut = _without_end([path for path in sizes if sizes[path]]) + _small(sizes)
    total = len(paths)
    yield from _found(missing, total, "missing-files", "missing; complete the data set")
    yield from _found(empty, total, "empty-files", "empty; fetch them again")
    yield from _found(list(dict.fromkeys(cut)), total, "truncated-files", "cut short; fetch them again")
    if not missing and not empty and not cut:
        yield Finding("ok", f"all {total} files are there and none is empty or cut short")


def _found(paths: Sequence[Path], total: int, fault: str, what: str) -> Findings:
    if paths:
        listed = "".join(f"\n             {path}" for path in paths[:MAX_LISTED])
        yield Finding("error", f"{len(paths)} of {total} files are {what}, the first:{listed}", fault)


def _without_end(paths: Sequence[Path]) -> list[Path]:
    known = [path for path in paths if path.suffix.lower() in ENDINGS]
    return [path for path in known[:: max(len(known) // MAX_OPENED, 1)] if not _ends_well(path)]


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - TAIL_BYTES, 0))
        return ENDINGS[path.suffix.lower()] in file.read()


def _small(sizes: dict[Path, int]) -> list[Path]:
    """Much smaller than is usual in the folder, where files are alike."""
    folders: dict[tuple[Path, str], list[Path]] = {}
    for path, size in sizes.items():
        if size and path.suffix in STEADY:
            folders.setdefault((path.parent, path.suffix), []).append(path)
    found = []
    for paths in folders.values():
        usual = median(sizes[path] for path in paths)
        if len(paths) > 2 and usual >= MIN_STEADY_BYTES:
            found += [path for path in paths if sizes[path] < MIN_STEADY_SHARE * usual]
    return found
