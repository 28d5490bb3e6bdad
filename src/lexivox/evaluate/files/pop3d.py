"""POP-3D of bare arrays: voxels against a labelled sweep, classes of points, phrases that rank points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.array_files import UnreadableError, read_npy, read_npz
from lexivox.data.benchmark_classes import NUSCENES16_POINTS_FROM_RAW
from lexivox.data.classes import NUSCENES16, NUSCENES_RAW
from lexivox.data.retrieval import RetrievalAnnotation, list_file, read_retrieval
from lexivox.data.volume_files import PREDICTED, read_prediction
from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.files.base import FileBenchmark, FileOptions
from lexivox.evaluate.files.pairs import FileLayout
from lexivox.evaluate.lidar import LidarScore
from lexivox.evaluate.occupancy import OccupancyScore
from lexivox.evaluate.protocol import PUBLISHED, Pop3dProtocol
from lexivox.evaluate.retrieval import RetrievalScore
from lexivox.evaluate.voxel_truth import VoxelMaker
from lexivox.geometry.grid import POP3D

DEFINITIONS: Mapping[str, Pop3dProtocol] = {"published": PUBLISHED, "recommended": Pop3dProtocol()}
"""Both are always reported; docs/evaluate.md says where they differ."""


@dataclass(frozen=True, slots=True)
class LabelledSweep:
    """``TOKEN.npz``: a sweep of nuScenes with a class for each point.

    Attributes:
        xyz: ``xyz`` of the file, metres in the LIDAR_TOP frame; ``None`` where the file has none.
        label: ``label``, the sixteen classes and 0 for noise, or ``lidarseg``, the raw ones.
        visible: ``visible``, the points that cameras see, once for each camera; ``None`` where the file has none.
    """

    xyz: Float[Tensor, "P 3"] | None
    label: Int64[Tensor, "P"]
    visible: Int64[Tensor, "S"] | None

    @classmethod
    def read(cls, path: Path, token: str) -> LabelledSweep:
        """Raises:
        DataError: the file is damaged, or holds numbers that do not belong there.
        ShapeError: not one label for each point.
        """
        arrays = _arrays(path, f"label of {token}")
        name = next((name for name in ("label", "lidarseg") if name in arrays), None)
        if name is None:
            raise DataError(
                f"label of {token} must hold label or lidarseg; got {', '.join(arrays) or 'none'}. Check {path}"
            )
        label = _classes(arrays[name], NUSCENES_RAW.num_classes if name == "lidarseg" else 17, token, path)
        label = NUSCENES16_POINTS_FROM_RAW.apply(label) if name == "lidarseg" else label
        xyz, visible = arrays.get("xyz"), arrays.get("visible")
        if xyz is not None and (xyz.shape != (len(label), 3) or xyz.dtype.kind != "f" or not np.isfinite(xyz).all()):
            raise ShapeError(
                f"xyz of {token} must be finite ({len(label)}, 3), a row for each label; got {xyz.dtype} {xyz.shape}. "
                f"Check {path}"
            )
        if visible is not None:
            visible = _points(visible, len(label), token, path)
        return cls(None if xyz is None else torch.from_numpy(xyz.astype(np.float32)), label, visible)


class Pop3dOccupancyFiles(FileBenchmark):
    """Class volumes against what the rays of a labelled sweep say, under both definitions."""

    name = "pop3d-occupancy"
    label_version = "labelled sweeps .npz (xyz, label)"
    labels = predictions = FileLayout(("*.npz",), lambda path: path.stem)
    masks = tuple(DEFINITIONS)

    def __init__(self, options: FileOptions) -> None:
        super().__init__(options)
        self.scores = tuple(
            OccupancyScore(NUSCENES16, rays=p.rays, noise_voxels=p.noise_voxels) for p in DEFINITIONS.values()
        )
        self.metrics = self.scores

    def count(self, token: str, prediction: Path, label: Path) -> None:
        sweep = LabelledSweep.read(label, token)
        if sweep.xyz is None:
            raise DataError(f"label of {token} must hold an array xyz; got none. Check {label}")
        said = read_prediction(prediction, POP3D, f"prediction of {token}")
        low, high = NUSCENES16.evaluated[0], NUSCENES16.num_classes - 1
        if not low <= int(said.min()) <= int(said.max()) <= high:
            raise DataError(
                f"classes of the prediction of {token} must be {low} to {high}, where {high} is free; "
                f"got {int(said.min())} to {int(said.max())}. Check {prediction}"
            )
        maker = VoxelMaker.of(POP3D, NUSCENES16, torch.zeros(3), sweep.xyz, sweep.label)
        for protocol, score in zip(DEFINITIONS.values(), self.scores, strict=True):
            truth = maker.make(protocol)
            score.update(said, truth.semantic, truth.occupancy, token=token)


class Pop3dLidarFiles(FileBenchmark):
    """A class for every point of a sweep; those that cameras see count."""

    name = "pop3d-lidar"
    label_version = "labelled sweeps .npz (label, visible)"
    labels = predictions = FileLayout(("*.npz",), lambda path: path.stem)
    masks = tuple(DEFINITIONS)

    def __init__(self, options: FileOptions) -> None:
        super().__init__(options)
        self.scores = tuple(LidarScore(NUSCENES16, dup=p.points == "dup") for p in DEFINITIONS.values())
        self.metrics = self.scores

    def count(self, token: str, prediction: Path, label: Path) -> None:
        sweep = LabelledSweep.read(label, token)
        if sweep.visible is None:
            raise DataError(f"label of {token} must hold an array visible; got none. Check {label}")
        arrays = _arrays(prediction, f"prediction of {token}")
        name = next((name for name in PREDICTED if name in arrays), None)
        if name is None and len(arrays) != 1:
            raise DataError(
                f"prediction of {token} must hold an array pred; got {', '.join(arrays)}. Check {prediction}"
            )
        said = _classes(arrays[name or next(iter(arrays))], 17, token, prediction)
        for score in self.scores:
            score.update(said, sweep.label, sweep.visible, token=token)


@dataclass(frozen=True, slots=True)
class RetrievalLayout(FileLayout):
    """The folder of the retrieval benchmark: keyframes by its list of all."""

    def find(self, folder: Path, what: str) -> dict[str, Path]:
        """The list, once for every keyframe in it."""
        if not folder.is_dir():
            raise DataError(f"{what} must be a folder; got none. Check {folder}")
        return {annotation.token: list_file(folder, "all") for annotation in read_retrieval(folder, "all")}


class Pop3dRetrievalFiles(FileBenchmark):
    """Scores of every point of a sweep for the phrases asked of it."""

    name = "pop3d-retrieval"
    named_by = "list"
    label_version = "retrieval benchmark (lists, annotations, matching_points)"
    labels = RetrievalLayout((), lambda path: path.stem)
    predictions = FileLayout(("*.npz", "*.npy"), lambda path: path.stem)
    masks = ("all points, and visible ones",)

    def __init__(self, options: FileOptions) -> None:
        super().__init__(options)
        self.score = RetrievalScore("given", split=options.split or "all")
        self.metrics = (self.score,)
        self._asked: dict[str, list[RetrievalAnnotation]] = {}

    def count(self, token: str, prediction: Path, label: Path) -> None:
        if not self._asked:
            for annotation in read_retrieval(label.parent, "all"):
                self._asked.setdefault(annotation.token, []).append(annotation)
        arrays = _ranked(prediction, token)
        for annotation in self._asked[token]:
            query = annotation.query
            scores = arrays.get(query, arrays.get("scores") if len(self._asked[token]) == 1 else None)
            if scores is None:
                raise DataError(
                    f"prediction of {token} must hold scores for {query!r}; got {', '.join(arrays) or 'none'}. "
                    f"Name each array by its phrase. Check {prediction}"
                )
            if not annotation.is_consistent:
                raise DataError(f"matching points of {token} must be points of its mask, {len(annotation.mask)}.")
            self.score.update(query, _scores(scores, token, prediction), annotation.mask, annotation.matching, token)


def _arrays(path: Path, who: str) -> dict[str, np.ndarray]:
    try:
        return read_npz(path)
    except UnreadableError as error:
        raise DataError(f"{who} must be a readable .npz; got {error}. Check {path}") from None


def _ranked(path: Path, token: str) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        return _arrays(path, f"prediction of {token}")
    try:
        return {"scores": read_npy(path)}
    except UnreadableError as error:
        raise DataError(f"prediction of {token} must be a readable .npy; got {error}. Check {path}") from None


def _scores(values: np.ndarray, token: str, path: Path) -> Float[Tensor, "P"]:
    if values.ndim != 1 or values.dtype.kind != "f":
        raise DataError(
            f"scores of {token} must be a real number for each point; got {values.dtype} {values.shape}. Check {path}"
        )
    return torch.from_numpy(values.astype(np.float64))


def _classes(values: np.ndarray, count: int, token: str, path: Path) -> Int64[Tensor, "P"]:
    if values.ndim != 1 or values.dtype.kind not in "ui":
        raise DataError(
            f"classes of {token} must be a whole number for each point; got {values.dtype} {values.shape}. Check {path}"
        )
    label = torch.from_numpy(values.astype(np.int64))
    if len(label) and not 0 <= int(label.min()) <= int(label.max()) < count:
        raise DataError(
            f"classes of {token} must be 0 to {count - 1}; got {int(label.min())} to {int(label.max())}. Check {path}"
        )
    return label


def _points(values: np.ndarray, count: int, token: str, path: Path) -> Int64[Tensor, "S"]:
    if (
        values.ndim != 1
        or values.dtype.kind not in "ui"
        or (values.size and not 0 <= values.min() <= values.max() < count)
    ):
        raise DataError(
            f"visible points of {token} must be numbers of its {count} points, once for each camera; got "
            f"{values.dtype} {values.shape}. Check {path}"
        )
    return torch.from_numpy(values.astype(np.int64))
