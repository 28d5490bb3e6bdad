"""Keyframes and what a model says about them, turned into the plain records that the viewer draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lexivox.data.classes import ClassTable
from lexivox.data.clips import WithPast
from lexivox.data.collate import grid_from_ego, grid_from_lidar
from lexivox.data.labels import semantic_from_lidar
from lexivox.data.transforms import resize_images
from lexivox.data.types import IGNORED, CameraView, Sample, SampleDataset
from lexivox.experiment import Experiment
from lexivox.geometry.grid import VoxelGrid
from lexivox.model import OccupancyModel
from lexivox.prediction import Prediction
from lexivox.teachers.vocabulary import Vocabulary
from lexivox.view.scene import ClassLayer, HeatLayer, NamedImage, Pinhole, VoxelScene, VoxelSet


@dataclass(frozen=True, slots=True)
class SceneMaker:
    """Turns keyframes into scenes: prediction, truth where labels exist, and a heat layer for each query."""

    model: OccupancyModel
    table: ClassTable
    vocabulary: Vocabulary | None
    with_past: WithPast
    queries: Sequence[str] = ()
    refine: int = 1

    def predict(self, sample: Sample) -> Prediction:
        return self.model.predict(self.with_past(sample), refine=self.refine)

    def scene(self, sample: Sample) -> VoxelScene:
        return self.scene_of(sample, self.predict(sample))

    def scene_of(self, sample: Sample, prediction: Prediction) -> VoxelScene:
        index = prediction.occupied_index
        heats = tuple(heat_layer(prediction, text) for text in self.queries)
        return VoxelScene(
            grid=prediction.grid,
            index=index.numpy(),
            layers=(self._classes(prediction), *heats),
            images=camera_images(sample, prediction.grid),
            truth=self._truth(sample, prediction.grid),
            title=f"{sample.drive} · {sample.token[:12]}",
        )

    def _classes(self, prediction: Prediction) -> ClassLayer:
        labels = prediction.labels(self.vocabulary)
        index = prediction.occupied_index
        rows = labels[index[:, 0], index[:, 1], index[:, 2]].numpy()
        names = self.vocabulary.class_names if self.vocabulary else self.table.names
        palette = [self.table.palette[self.table.index_of(name)] for name in names]
        return ClassLayer("classes", rows, tuple(names), np.array(palette, dtype=np.uint8))

    def _truth(self, sample: Sample, grid: VoxelGrid) -> VoxelSet | None:
        volume = _true_classes(sample, grid, self.table)
        if volume is None:
            return None
        solid = (volume != self.table.free) & (volume != IGNORED)
        palette = np.array(self.table.palette, dtype=np.uint8)
        layer = ClassLayer("classes", volume[solid].numpy(), tuple(self.table.names), palette)
        return VoxelSet("truth", solid.nonzero().numpy(), (layer,))


def heat_layer(prediction: Prediction, text: str) -> HeatLayer:
    """The answer to a phrase as the viewer shows it; regions only where somebody knows which voxels count."""
    answer = prediction.query(text)
    scores, (x, y, z) = answer.heat(), prediction.occupied_index.T
    regions = answer.regions() if answer.threshold is not None else []
    return HeatLayer(text, scores[x, y, z].numpy(), tuple(regions), answer.verdict)


def scene_maker(
    experiment: Experiment,
    dataset: SampleDataset,
    model: OccupancyModel,
    queries: Sequence[str] = (),
    refine: int = 1,
) -> SceneMaker:
    """A supervised run has no words: its scenes show classes only."""
    table: ClassTable = dataset.classes  # type: ignore[assignment]
    with_past = WithPast(dataset, model.image_offsets)
    if experiment.is_supervised:
        return SceneMaker(model, table, None, with_past, (), refine)
    return SceneMaker(model, table, experiment.class_vocabulary(), with_past, tuple(queries), refine)


def drive_of(dataset: SampleDataset, index: int) -> list[int]:
    """All keyframes of the drive that keyframe ``index`` belongs to."""
    return [i for i, drive in enumerate(dataset.drives) if drive == dataset.drives[index]]


def _true_classes(sample: Sample, grid: VoxelGrid, table: ClassTable) -> torch.Tensor | None:
    """Complete truth where a simulator gave it on this grid, else what the labelled LiDAR points say."""
    if sample.voxel_labels is not None and sample.voxel_labels.grid == grid:
        return sample.voxel_labels.label
    if sample.point_labels is None or table.free is None:
        return None
    transform = grid_from_lidar(sample, grid)
    return semantic_from_lidar(
        grid,
        transform.translation.float(),
        transform.apply(sample.lidar.xyz),
        sample.point_labels.label,
        num_classes=table.num_classes,
        free_label=table.free,
        protocol="exact",
    ).long()


def camera_images(sample: Sample, grid: VoxelGrid, width_px: int = 480) -> tuple[NamedImage, ...]:
    """The images of a keyframe, no wider than asked for, each with how its camera looks at the grid."""
    height, width = sample.views[0].image_hw
    if width > width_px:
        sample = resize_images(sample, (round(height * width_px / width), width_px))
    return tuple(_image(view, sample, grid) for view in sample.views)


def _image(view: CameraView, sample: Sample, grid: VoxelGrid) -> NamedImage:
    cam_from_grid = view.ego_from_cam.inverse() @ grid_from_ego(sample, grid).inverse()
    pixels = np.ascontiguousarray(view.image.permute(1, 2, 0).numpy())
    return NamedImage(view.name, pixels, Pinhole(view.image_from_cam.double().numpy(), cam_from_grid))
