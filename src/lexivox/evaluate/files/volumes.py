"""Benchmarks of volumes: Occ3D, RayIoU, OpenOccupancy, SurroundOcc, SemanticKITTI scene completion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lexivox.data import formats
from lexivox.data.benchmark_classes import OCC3D, SEMANTICKITTI_VOXELS
from lexivox.data.dense_labels import DenseLabels
from lexivox.data.volume_files import OBJECTS, read_prediction
from lexivox.errors import DataError
from lexivox.evaluate.dense import (
    OPENOCCUPANCY_PROTOCOL,
    SEMANTICKITTI_PROTOCOL,
    SURROUNDOCC_PROTOCOL,
    DenseProtocol,
    DenseScore,
    occ3d_protocol,
)
from lexivox.evaluate.files.base import FileBenchmark, FileOptions, sequence_and_number, stem_or_folder
from lexivox.evaluate.files.pairs import FileLayout
from lexivox.evaluate.rayiou import RayIouScore, ray_origins
from lexivox.evaluate.raypq import PanopticVolume, RayPqScore
from lexivox.geometry import grid as grids

OCC3D_MASKS = ("none", "lidar", "camera")
"""All three are always reported: one number without its mask says little."""


class Occ3dFiles(FileBenchmark):
    """Occ3D-nuScenes mIoU under all three masks."""

    name = "occ3d"
    label_version = "Occ3D-nuScenes labels.npz"
    labels = FileLayout(("labels.npz",), stem_or_folder)
    predictions = FileLayout(("*.npz",), stem_or_folder)
    masks = OCC3D_MASKS

    def __init__(self, options: FileOptions) -> None:
        super().__init__(options)
        self.scores = tuple(DenseScore(occ3d_protocol(mask)) for mask in OCC3D_MASKS)
        self.metrics = self.scores

    def count(self, token: str, prediction: Path, label: Path) -> None:
        said, truth = read_prediction(prediction, grids.OCC3D, f"prediction of {token}"), formats.read_occ3d(label)
        for mask, score in zip(OCC3D_MASKS, self.scores, strict=True):
            score.update(said, truth.label, truth.counted(mask), token=token)


class RayIouFiles(FileBenchmark):
    """RayIoU on the labels of Occ3D-nuScenes; masks play no part."""

    name = "rayiou"
    label_version = "Occ3D-nuScenes labels.npz"
    labels, predictions = Occ3dFiles.labels, Occ3dFiles.predictions
    masks = ("rays that meet something",)

    def __init__(self, options: FileOptions) -> None:
        super().__init__(options)
        self.score = RayIouScore(OCC3D, grids.OCC3D)
        self.metrics = (self.score,)

    def count(self, token: str, prediction: Path, label: Path) -> None:
        said = read_prediction(prediction, grids.OCC3D, f"prediction of {token}")
        truth = read_prediction(label, grids.OCC3D, f"label of {token}")
        origins = ray_origins(origins_of(self.options, token))
        self.score.update(said, truth, origins, token=token)


def origins_of(options: FileOptions, token: str) -> Float[Tensor, "N 3"]:
    """Raises:
    DataError: the sample has no origins.
    """
    if token not in options.origins:
        raise DataError(
            f"rays of {token} must start somewhere; got no origins of it. Pass --origins FILE.json, or --dataroot with "
            "the nuScenes tables."
        )
    return options.origins[token]


class RayPqFiles(FileBenchmark):
    """RayPQ: ``instances`` beside the classes of every voxel, in predictions and labels."""

    name = "raypq"
    label_version = "Occ3D-nuScenes labels.npz with instances"
    labels, predictions = Occ3dFiles.labels, Occ3dFiles.predictions
    masks = RayIouFiles.masks

    def __init__(self, options: FileOptions) -> None:
        super().__init__(options)
        self.score = RayPqScore(OCC3D, grids.OCC3D)
        self.metrics = (self.score,)

    def count(self, token: str, prediction: Path, label: Path) -> None:
        said, truth = (
            PanopticVolume(
                read_prediction(path, grids.OCC3D, f"{what} of {token}"),
                read_prediction(path, grids.OCC3D, f"objects of the {what} of {token}", OBJECTS),
            )
            for what, path in (("prediction", prediction), ("label", label))
        )
        self.score.update(said, truth, ray_origins(origins_of(self.options, token)), token=token)


class RowsFiles(FileBenchmark):
    """Volumes that are stored as rows of occupied voxels; predictions as rows too, or dense in an ``.npz``."""

    definition: DenseProtocol
    read: Callable[[Path], DenseLabels]
    predictions = FileLayout(("*.npy", "*.npz"), lambda path: _without_cloud(path))

    def __init__(self, options: FileOptions) -> None:
        super().__init__(options)
        self.score = DenseScore(self.definition)
        self.metrics = (self.score,)

    def count(self, token: str, prediction: Path, label: Path) -> None:
        truth = type(self).read(label)
        self.score.update(self._said(prediction, token), truth.label, token=token)

    def _said(self, path: Path, token: str) -> Shaped[Tensor, "X Y Z"]:
        classes = self.definition.classes
        if path.suffix == ".npz":
            return read_prediction(path, _GRIDS[classes.name], f"prediction of {token}")
        volume = type(self).read(path).label
        return torch.where(volume == classes.ignore, classes.free or 0, volume)  # noise of a prediction is nothing


def _without_cloud(path: Path) -> str:
    return path.stem.removesuffix(".pcd.bin")


_GRIDS = {"openoccupancy": grids.OPENOCCUPANCY, "surroundocc": grids.SURROUNDOCC}


class OpenOccupancyFiles(RowsFiles):
    """nuScenes-Occupancy, rows z, y, x, class."""

    name = "openoccupancy"
    named_by = "lidar record"
    label_version = "nuScenes-Occupancy .npy (z, y, x, class)"
    definition, read = OPENOCCUPANCY_PROTOCOL, staticmethod(formats.read_openoccupancy)
    labels = FileLayout(("*.npy",), _without_cloud)


class SurroundOccFiles(RowsFiles):
    """SurroundOcc, rows x, y, z, class."""

    name = "surroundocc"
    named_by = "lidar file"
    label_version = "SurroundOcc .npy (x, y, z, class)"
    definition, read = SURROUNDOCC_PROTOCOL, staticmethod(formats.read_surroundocc)
    labels = FileLayout(("*.npy",), _without_cloud)


class SemanticKittiVoxelFiles(FileBenchmark):
    """SemanticKITTI scene completion, in the folders of the official tool."""

    name = "semantickitti-ssc"
    named_by = "sequence"
    label_version = "SemanticKITTI voxels .label and .invalid"
    labels = FileLayout(("voxels/*.label",), sequence_and_number)
    predictions = FileLayout(("predictions/*.label",), sequence_and_number)
    masks = ("not invalid",)

    def __init__(self, options: FileOptions) -> None:
        super().__init__(options)
        self.score = DenseScore(SEMANTICKITTI_PROTOCOL)
        self.metrics = (self.score,)

    def count(self, token: str, prediction: Path, label: Path) -> None:
        if not label.with_suffix(".invalid").exists():
            raise DataError(
                f"labels of {token} must say which voxels are invalid; got no file. "
                f"Check {label.with_suffix('.invalid')}"
            )
        truth = formats.read_semantickitti_voxels(label.parent, label.stem)
        said = formats.read_semantickitti_voxels(prediction.parent, prediction.stem).label
        ignored = SEMANTICKITTI_VOXELS.ignore
        if bool(((said == ignored) & (truth.label != ignored)).any()):
            raise DataError(
                f"prediction of {token} must give every voxel a class that is scored, or 0. Check {prediction}"
            )
        self.score.update(said, truth.label, token=token)
