"""Runs against complete voxels: what is asked about a keyframe under :class:`Occ3dProtocol`, and how answers count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.benchmark_classes import OCC3D
from lexivox.data.classes import NUSCENES16, ClassTable
from lexivox.data.collate import grid_from_ego
from lexivox.data.types import IGNORED, Sample, SampleDataset, VoxelLabels
from lexivox.data.visibility import seen_by_camera, seen_by_lidar
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.dense import DenseProtocol, DenseScore
from lexivox.evaluate.methods import Answer
from lexivox.evaluate.metric import Metric
from lexivox.evaluate.moving import MovingScore
from lexivox.evaluate.protocol import MOVING, RAYS, VOXELS, Occ3dProtocol
from lexivox.evaluate.rayiou import RayIouScore, ray_origins
from lexivox.evaluate.truth import SweepPoints
from lexivox.geometry.grid import VoxelGrid

MASKS = ("none", "lidar", "camera")
MASKS_NOTE = (
    "Complete voxels come from a simulator. Its masks are of the keyframe alone: what its LiDAR rays reach, and what "
    "camera rays reach through the true voxels. Occ3D's are of many sweeps."
)


def complete_metrics(protocol: Occ3dProtocol, table: ClassTable, grid: VoxelGrid) -> list[Metric]:
    """Empty scores."""
    classes = voxel_classes(table)
    return [
        *(DenseScore(DenseProtocol(f"{VOXELS}/{mask}", classes)) for mask in MASKS),
        RayIouScore(classes, grid),
        MovingScore(classes, MOVING, protocol.moving_m_s, protocol.path_s),
    ]


def voxel_classes(table: ClassTable) -> ClassTable:
    """The classes that volumes are scored in: of nuScenes those of Occ3D, in which what was noise is a class.

    Raises:
        ConfigError: the table has no free class.
    """
    if table.free is None:
        raise ConfigError(f"classes of complete voxels must include free; got {table.name}.")
    return OCC3D if table == NUSCENES16 else table


@dataclass(frozen=True, slots=True)
class CompleteTruth:
    """One keyframe as complete voxels tell it.

    Attributes:
        voxels: labels and flow; IGNORED where nothing is known.
        counted: which voxels count, by the name of the mask.
        origins: where rays start, metres of the grid's frame.
    """

    voxels: VoxelLabels
    counted: Mapping[str, Bool[Tensor, "X Y Z"] | None]
    origins: Float[Tensor, "O 3"]

    @property
    def solid(self) -> Int64[Tensor, "X Y Z"]:
        """Classes as rays meet them: what is not known stops none."""
        label = self.voxels.label
        return torch.where(label == IGNORED, self.voxels.free_label, label)


def complete_truth(sample: Sample, grid: VoxelGrid, origins: Float[Tensor, "N 3"]) -> CompleteTruth:
    """Truth of a keyframe. Masks that its labels do not bring are made by walking the rays of its own sensors.

    Args:
        origins: of the LiDAR at all keyframes of the drive, metres of the grid's frame, in order of time.

    Raises:
        DataError: the sample has no voxel labels, or no origin lies in the grid.
        ShapeError: labels on another grid.
    """
    labels = sample.voxel_labels
    if labels is None:
        raise DataError(
            f"samples must have voxel labels to be scored as occ3d; got none in {sample.token}. Score another "
            "protocol, or data that has them: a synthetic city, or nuScenes with Occ3D's labels."
        )
    if labels.grid != grid:
        raise ShapeError(
            f"voxel labels must lie on the grid of the run, {grid.shape} from {grid.lower_m} in '{grid.frame}'; got "
            f"{labels.grid.shape} from {labels.grid.lower_m} in '{labels.grid.frame}' in {sample.token}. "
            "Make them again for this grid."
        )
    near = ray_origins(origins[grid.contains(origins)])
    if not len(near):
        raise DataError(f"the LiDAR of {sample.token} must stand inside the grid; got {origins.tolist()[:2]}. Move it.")
    by_lidar, by_camera = labels.seen_by_lidar, labels.seen_by_camera
    if by_lidar is None:
        by_lidar = seen_by_lidar(sample, grid)
    if by_camera is None:
        solid = (labels.label != labels.free_label) & (labels.label != IGNORED)
        by_camera = seen_by_camera(sample, grid, solid)
    return CompleteTruth(labels, {"none": None, "lidar": by_lidar, "camera": by_camera}, near)


class CompleteJudge:
    """Asks for the map of a keyframe and counts it under an :class:`Occ3dProtocol`."""

    def __init__(self, dataset: SampleDataset, grid: VoxelGrid) -> None:
        self.grid, self.places = grid, LidarPlaces(dataset)
        self.empty: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()

    def ask(self, index: int, sample: Sample, sweep: SweepPoints) -> CompleteTruth:
        """Raises:
        DataError, ShapeError: see :func:`complete_truth`.
        """
        if sample.voxel_labels is not None and sample.voxel_labels.seen_by_camera is None:
            self.notes = (MASKS_NOTE,)
        grid_from_global = (sample.global_from_ego @ grid_from_ego(sample, self.grid).inverse()).inverse()
        return complete_truth(sample, self.grid, grid_from_global.apply(self.places.of_drive(index)))

    def add(
        self, metrics: Mapping[str, Metric], name: str, answer: Answer, question: CompleteTruth, token: str
    ) -> None:
        """Count the answer of a method; one without a map has no scores here.

        Raises:
            ShapeError: a map of another shape.
        """
        volume = answer.volume()
        if volume is None:
            return
        if volume.shape != question.voxels.label.shape:
            raise ShapeError(
                f"map of '{name}' for {token} must have the shape of the grid, {self.grid.shape}; got "
                f"{tuple(volume.shape)}."
            )
        for mask, counted in question.counted.items():
            dense = metrics[f"{VOXELS}/{mask}"]
            assert isinstance(dense, DenseScore)
            dense.update(volume, question.voxels.label, counted, token=token)
        rays, moving = metrics[RAYS], metrics[MOVING]
        assert isinstance(rays, RayIouScore)
        assert isinstance(moving, MovingScore)
        rays.update(volume, question.solid, question.origins, token=token)
        moving.update(volume, question.voxels, question.counted["camera"], token=token)


class LidarPlaces:
    """Where the LiDAR was at the keyframes of each drive, read once and, where the reader can, without images."""

    def __init__(self, dataset: SampleDataset) -> None:
        self.drives = dataset.drives
        self._read = getattr(dataset, "without_images", dataset.__getitem__)
        self._of_drive: dict[str, Float[Tensor, "N 3"]] = {}

    def of_drive(self, index: int) -> Float[Tensor, "N 3"]:
        """Origins in the global frame, float64, of all keyframes of the drive that keyframe ``index`` belongs to."""
        drive = self.drives[index]
        if drive not in self._of_drive:
            samples = (self._read(i) for i, name in enumerate(self.drives) if name == drive)
            places = [(sample.global_from_ego @ sample.ego_from_lidar).translation.double() for sample in samples]
            self._of_drive[drive] = torch.stack(places)
        return self._of_drive[drive]
