"""What people look at: a run turned into the plain records that the viewer draws, and into files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lexivox.data.classes import ClassTable
from lexivox.data.collate import grid_from_ego, grid_from_lidar
from lexivox.data.labels import semantic_from_lidar
from lexivox.data.transforms import resize_images
from lexivox.data.types import IGNORED, Sample, SampleDataset
from lexivox.evaluate.comparison import Comparison
from lexivox.evaluate.report import ScoreTable as Scores
from lexivox.experiment import Experiment
from lexivox.geometry.grid import VoxelGrid
from lexivox.grounding.answer import Answer
from lexivox.grounding.export import Findings
from lexivox.grounding.regions import Region
from lexivox.model import OccupancyModel
from lexivox.prediction import Prediction
from lexivox.report_tables import HEADLINES as HEADLINES  # beside the report, for who reads scores
from lexivox.report_tables import comparison_tables, headlines_of, score_tables
from lexivox.report_tables import headline_scores as headline_scores
from lexivox.report_tables import query_scores as query_scores
from lexivox.scoring import comparison_chart
from lexivox.teachers.vocabulary import Vocabulary
from lexivox.train.log import read_log
from lexivox.train.loop import LOG_FILE
from lexivox.view.figure import contact_sheet, figure
from lexivox.view.html import write_report
from lexivox.view.overlay import draw_boxes, overlay_heat
from lexivox.view.picture import save_png
from lexivox.view.scene import (
    ClassLayer,
    Curve,
    HeatLayer,
    NamedImage,
    QueryResult,
    RunReport,
    VoxelScene,
    VoxelSet,
)

REPORT_FILE = "report.html"

NO_LOSSES = ("step", "lr", "grad_norm", "seconds")
"""What a row of the log holds beside losses."""

# -------------------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True, slots=True)
class SceneMaker:
    """Turns keyframes into scenes: prediction, truth where labels exist, and a heat layer for each query."""

    model: OccupancyModel
    table: ClassTable
    vocabulary: Vocabulary | None
    queries: Sequence[str] = ()
    refine: int = 1

    def scene(self, sample: Sample) -> VoxelScene:
        prediction = self.model.predict(sample, refine=self.refine)
        return self.scene_of(sample, prediction)

    def scene_of(self, sample: Sample, prediction: Prediction) -> VoxelScene:
        index = prediction.occupied_index
        heats = tuple(heat_layer(prediction, text) for text in self.queries)
        return VoxelScene(
            grid=prediction.grid,
            index=index.numpy(),
            layers=(self._classes(prediction), *heats),
            images=tuple(_picture(view.name, view.image) for view in _small(sample).views),
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
    if experiment.is_supervised:
        return SceneMaker(model, table, None, (), refine)
    return SceneMaker(model, table, experiment.class_vocabulary(), tuple(queries), refine)


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


def _small(sample: Sample, width_px: int = 480) -> Sample:
    height, width = sample.views[0].image_hw
    if width <= width_px:
        return sample
    return resize_images(sample, (round(height * width_px / width), width_px))


def _picture(name: str, image: torch.Tensor) -> NamedImage:
    return NamedImage(name, np.ascontiguousarray(image.permute(1, 2, 0).numpy()))


# ----------------------------------------------------------------------------------------- hits on the images

MAX_BOXES = 12
"""Boxes drawn: further ones are small and hide the picture."""


def paint_hits(sample: Sample, prediction: Prediction, found: Findings, folder: Path) -> list[Path]:
    """One PNG per query: the camera images with the voxels found and the boxes around them; the files made."""
    made = []
    for number, (answer, regions) in enumerate(zip(found.answers, found.regions, strict=True)):
        name = "".join(c if c.isalnum() else "_" for c in answer.text)[:60]
        views = hit_images(sample, prediction, answer, regions)
        made.append(save_png(contact_sheet(views), folder / f"hits_{number}_{name}.png"))
    return made


def hit_images(
    sample: Sample, prediction: Prediction, answer: Answer, regions: Sequence[Region]
) -> tuple[NamedImage, ...]:
    """The camera images of a keyframe under the voxels of regions and the boxes around the best of them."""
    grid, index = prediction.grid, prediction.occupied_index
    heat = _heat_of_regions(prediction, answer, regions)[index[:, 0], index[:, 1], index[:, 2]].numpy()
    corners = [region.box.corners().numpy() for region in regions[:MAX_BOXES]]
    views = []
    for view in _small(sample, 640).views:
        intrinsics = view.image_from_cam.double().numpy()
        cam_from_grid = view.ego_from_cam.inverse() @ grid_from_ego(sample, grid).inverse()
        image = _picture(view.name, view.image).data
        assert not isinstance(image, bytes)
        lit = overlay_heat(image, intrinsics, cam_from_grid, grid, index.numpy(), heat)
        views.append(NamedImage(view.name, draw_boxes(lit, intrinsics, cam_from_grid, corners)))
    return tuple(views)


def _heat_of_regions(prediction: Prediction, answer: Answer, regions: Sequence[Region]) -> torch.Tensor:
    """0.4..1 for the voxels of regions by their score, NaN elsewhere: the weakest hit is still seen."""
    volume = torch.full(prediction.grid.shape, torch.nan)
    scores = answer.heat()
    for region in regions:
        x, y, z = region.index.T
        volume[x, y, z] = scores[x, y, z]
    found = volume[volume.isfinite()]
    if len(found):
        volume = 0.4 + 0.6 * (volume - found.min()) / (found.max() - found.min()).clamp_min(1e-6)
    return volume


# -------------------------------------------------------------------------------------------------- report


@dataclass(frozen=True, slots=True)
class Reporter:
    """Writes ``report.html`` and PNG pictures of a run.

    Attributes:
        experiment: whose held-out keyframes are shown.
        model: trained.
        scores: of the held-out keyframes.
        queries: phrases with a heat map of their own.
        seconds: how long each stage took.
        facts: what a reader wants to know, e.g. the command.
        comparison: the run beside published numbers.
    """

    experiment: Experiment
    model: OccupancyModel
    scores: Scores
    queries: Sequence[str]
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    refine: int = 1
    comparison: Comparison | None = None

    def write(self, num_scenes: int = 3) -> list[Path]:
        """The files made."""
        dataset = self.experiment.val_dataset
        maker = scene_maker(self.experiment, dataset, self.model, self.queries, self.refine)
        chosen = np.unique(np.linspace(0, len(dataset) - 1, min(num_scenes, len(dataset))).round().astype(int))
        scenes = [maker.scene(dataset[int(index)]) for index in chosen]
        run_dir = self.experiment.run_dir
        made = [write_report(self._report(scenes), run_dir / REPORT_FILE)]
        made += [save_png(figure(scene), run_dir / f"map_{number}.png") for number, scene in enumerate(scenes)]
        made += [
            save_png(figure(scenes[0], truth=True), run_dir / "map_0_truth.png")
            for _ in scenes[:1]
            if scenes[0].truth is not None
        ]
        for text in maker.queries[:3]:
            name = "".join(c if c.isalnum() else "_" for c in text)
            made.append(save_png(figure(scenes[0], text), run_dir / f"query_{name}.png"))
        return made

    def _report(self, scenes: Sequence[VoxelScene]) -> RunReport:
        student = self.scores.rows[0].method
        headlines = headlines_of(self.scores, self.experiment.config.protocol)
        retrieval = headlines[-1][1]
        return RunReport(
            title=f"lexivox · {self.experiment.config.name}",
            scenes=tuple(scenes),
            tables=(*score_tables(self.scores, headlines), *comparison_tables(self.comparison)),
            queries=tuple(
                QueryResult(text, row["ap"], row["random"], text)
                for text, row in query_scores(self.scores, student, retrieval).items()
            ),
            curves=tuple(loss_curves(self.experiment.run_dir)),
            seconds=self.seconds,
            facts=self.facts,
            notes=self.scores.notes,
            charts=() if self.comparison is None else (comparison_chart(self.comparison),),
        )


def loss_curves(run_dir: Path) -> list[Curve]:
    rows = read_log(run_dir / LOG_FILE)
    names = [key for key in (rows[0] if rows else {}) if key not in NO_LOSSES]
    steps = np.array([row["step"] for row in rows])
    return [Curve(name, steps, np.array([row[name] for row in rows], dtype=np.float64)) for name in names]


# ------------------------------------------------------------------------------------------------ live view


class RunApp:
    """A run behind the live page: held-out keyframes, asked any words."""

    def __init__(self, experiment: Experiment, model: OccupancyModel, refine: int = 1) -> None:
        self.model = model
        self.dataset = experiment.shown_val()
        self.maker = scene_maker(experiment, self.dataset, model, refine=refine)
        self._predictions: dict[int, Prediction] = {}

    def frames(self) -> list[str]:
        pairs = zip(self.dataset.drives, self.dataset.tokens, strict=True)
        return [f"{drive} · {token[:12]}" for drive, token in pairs]

    def scene(self, frame: int) -> VoxelScene:
        sample = self.dataset[frame]
        prediction = self.model.predict(sample, refine=self.maker.refine)
        if prediction.text_encoder is not None:
            _ = prediction.read_occupied("language")  # now, so that the first query answers at once
        self._predictions = {frame: prediction}
        return self.maker.scene_of(sample, prediction)

    def query(self, frame: int, text: str) -> HeatLayer:
        if frame not in self._predictions:
            self.scene(frame)
        return heat_layer(self._predictions[frame], text)
