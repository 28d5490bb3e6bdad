"""The retrieval benchmark of POP-3D on disk: one phrase asked of one LiDAR sweep, in its released file format.

A folder holds ``retrieval_anns_{train,val,test,eval,all}.csv`` (no header, fields separated by semicolons: token,
split, mask file, points file, query; ``eval`` is ``val`` and ``test``), ``annotations/{token}__retrieval.npy`` with one
bool for every point of the keyframe's sweep, and ``matching_points/{token}__points.npy`` with the points that cameras
see, once for each camera (spec pop3d 7.4).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lexivox.array_files import UnreadableError, read_npy
from lexivox.errors import DataError
from lexivox.files import write_atomically

PARTS = ("train", "val", "test")
SPLITS = {**{part: (part,) for part in PARTS}, "eval": ("val", "test"), "all": PARTS}
"""Name of a list -> the parts of the data set in it."""

MASKS, POINTS = "annotations", "matching_points"


@dataclass(frozen=True, slots=True)
class RetrievalAnnotation:
    """What a phrase means in one keyframe.

    Attributes:
        token: of the keyframe.
        split: ``"train"``, ``"val"`` or ``"test"``.
        query: the phrase.
        mask: True for points of the keyframe's sweep, in the order of its file, that the phrase means.
        matching: points that cameras see, in the order of the cameras: a point once for each of them.

    Raises:
        DataError: a token, split or query that the file format cannot hold.
    """

    token: str
    split: str
    query: str
    mask: Bool[Tensor, "P"]
    matching: Int64[Tensor, "S"]

    def __post_init__(self) -> None:
        if self.split not in PARTS:
            raise DataError(f"split of annotation {self.token} must be one of {', '.join(PARTS)}; got {self.split!r}.")
        if not self.token or not self.token.isprintable() or set(self.token) & set(";/\\"):
            raise DataError(f"token of an annotation must be a file name without semicolons; got {self.token!r}.")
        if not self.query.strip() or not self.query.isprintable() or ";" in self.query:
            raise DataError(
                f"query of annotation {self.token} must be one line without semicolons; got {self.query!r}."
            )

    @property
    def is_consistent(self) -> bool:
        """True where ``matching`` names points that ``mask`` has."""
        return not len(self.matching) or 0 <= int(self.matching.min()) <= int(self.matching.max()) < len(self.mask)


def list_file(folder: str | PathLike[str], split: str) -> Path:
    """The file that lists a split."""
    return Path(folder) / f"retrieval_anns_{split}.csv"


# ------------------------------------------------------------------------------------------------- reading


def read_retrieval(folder: str | PathLike[str], split: str = "eval") -> tuple[RetrievalAnnotation, ...]:
    """The annotations of a split, in the order of its list.

    Whether a mask has as many points as the sweep of its keyframe is seen only where both are known: when scoring.

    Raises:
        DataError: the list or a file that it names is missing (all such files are counted, the first are named) or
            damaged; ``split`` is none of train, val, test, eval, all.
    """
    if split not in SPLITS:
        raise DataError(f"split of a retrieval benchmark must be one of {', '.join(SPLITS)}; got {split!r}.")
    folder = Path(folder)
    rows = _rows(list_file(folder, split))
    files = [(_find(folder, row[2], MASKS), _find(folder, row[3], POINTS)) for row in rows]
    missing = [path for pair in files for path in pair if not path.is_file()]
    if missing:
        raise DataError(
            f"files of the retrieval benchmark must all exist; got {len(missing)} missing of {2 * len(rows)}. "
            f"Unpack the archive again: {', '.join(map(str, missing[:3]))}"
        )
    return tuple(
        RetrievalAnnotation(token, part, query, _mask(mask), _points(points))
        for (token, part, _, _, query), (mask, points) in zip(rows, files, strict=True)
    )


def _rows(path: Path) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"a retrieval benchmark must hold its lists; got none. Check the folder: {path}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"list of a retrieval benchmark must be text; got {error.reason}. Check {path}") from None
    rows = [line.split(";", 4) for line in lines if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != 5:
            raise DataError(
                f"row {number} of a retrieval list must hold token;split;mask;points;query; got {len(row)} fields. "
                f"Mend {path}"
            )
    return [[field.strip() for field in row] for row in rows]


def _find(folder: Path, written: str, kind: str) -> Path:
    """The file as the list writes it or, where lists were made in another folder, under its own name."""
    path = folder / written
    return path if path.is_file() else folder / kind / Path(written).name


def _mask(path: Path) -> Bool[Tensor, "P"]:
    values = _array(path)
    if values.dtype != np.bool_ and not np.isin(values, (0, 1)).all():
        raise DataError(f"mask of an annotation must hold 0 and 1; got {values.dtype} with others. Check {path}")
    return torch.from_numpy(values.astype(np.bool_))


def _points(path: Path) -> Int64[Tensor, "S"]:
    values = _array(path)
    if not np.issubdtype(values.dtype, np.integer):
        raise DataError(f"matching points of an annotation must be integers; got {values.dtype}. Check {path}")
    return torch.from_numpy(values.astype(np.int64))


def _array(path: Path) -> np.ndarray:
    try:
        values = read_npy(path)
    except UnreadableError as error:
        raise DataError(f"file of an annotation must be a plain .npy; got {error}. Fetch it again: {path}") from None
    if values.ndim != 1:
        raise DataError(f"file of an annotation must hold one row; got {values.shape}. Check {path}")
    return values


# ------------------------------------------------------------------------------------------------- writing


def write_retrieval(folder: str | PathLike[str], annotations: Sequence[RetrievalAnnotation]) -> tuple[Path, ...]:
    """Write the benchmark of exactly these annotations; returns the five lists.

    To add to a folder, pass what :func:`read_retrieval` gave for ``"all"`` with the new ones. A second query of a
    keyframe gets a mask file with a number; readers that follow the lists find it.

    Raises:
        DataError: a query is asked twice of a keyframe, ``matching`` names points that ``mask`` has not, or the folder
            cannot be written.
    """
    folder = Path(folder)
    _check(annotations)
    lines: list[tuple[str, str]] = []
    for annotation, mask in zip(annotations, _mask_names(annotations), strict=True):
        points = f"{POINTS}/{annotation.token}__points.npy"
        _save(folder / mask, annotation.mask)
        _save(folder / points, annotation.matching)
        row = (annotation.token, annotation.split, mask, points, annotation.query)
        lines.append((annotation.split, ";".join(row)))
    written = []
    for split, parts in SPLITS.items():  # last, so that a list never names a file that is not there yet
        text = "".join(f"{line}\n" for part, line in lines if part in parts).encode()
        written.append(write_atomically(list_file(folder, split), lambda file, text=text: file.write(text)))
    return tuple(written)


def _check(annotations: Sequence[RetrievalAnnotation]) -> None:
    asked: dict[str, dict[str, RetrievalAnnotation]] = {}
    for annotation in annotations:
        others = asked.setdefault(annotation.token, {})
        if annotation.query in others:
            raise DataError(f"queries of keyframe {annotation.token} must differ; got {annotation.query!r} twice.")
        if not annotation.is_consistent:
            raise DataError(
                f"matching points of {annotation.token} must be points of its mask, below {len(annotation.mask)}; "
                f"got {int(annotation.matching.min())}..{int(annotation.matching.max())}."
            )
        first = next(iter(others.values()), annotation)
        if first.split != annotation.split or not torch.equal(first.matching, annotation.matching):
            raise DataError(f"annotations of keyframe {annotation.token} must share split and matching points.")
        others[annotation.query] = annotation


def _mask_names(annotations: Sequence[RetrievalAnnotation]) -> list[str]:
    seen: dict[str, int] = {}
    names = []
    for annotation in annotations:
        seen[annotation.token] = number = seen.get(annotation.token, 0) + 1
        names.append(f"{MASKS}/{annotation.token}__retrieval{f'_{number}' if number > 1 else ''}.npy")
    return names


def _save(path: Path, values: Tensor) -> None:
    """Write one array; a file that holds it already stays, so that adding one annotation to hundreds is quick."""
    stream = io.BytesIO()
    np.save(stream, values.cpu().numpy(), allow_pickle=False)
    content = stream.getvalue()
    if not (path.is_file() and path.read_bytes() == content):
        write_atomically(path, lambda file: file.write(content))
