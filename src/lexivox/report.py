"""What people look at: a run turned into the plain records that the viewer draws, and into files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lexivox.data.types import Sample
from lexivox.evaluate.comparison import Comparison
from lexivox.evaluate.report import ScoreTable as Scores
from lexivox.experiment import Experiment
from lexivox.grounding.answer import Answer
from lexivox.grounding.export import Findings
from lexivox.grounding.regions import Region
from lexivox.model import OccupancyModel
from lexivox.prediction import Prediction
from lexivox.report_tables import HEADLINES as HEADLINES  # beside the report, for who reads scores
from lexivox.report_tables import comparison_tables, headlines_of, score_tables
from lexivox.report_tables import headline_scores as headline_scores
from lexivox.report_tables import query_scores as query_scores
from lexivox.scenes import camera_images, heat_layer, scene_maker
from lexivox.scoring import comparison_chart
from lexivox.train.log import read_log
from lexivox.train.loop import LOG_FILE
from lexivox.view.figure import contact_sheet, figure, pixels_of
from lexivox.view.html import write_report
from lexivox.view.overlay import draw_boxes, overlay_heat
from lexivox.view.picture import save_png
from lexivox.view.rendered import rendered_sheet
from lexivox.view.scene import Curve, HeatLayer, NamedImage, QueryResult, RunReport, VoxelScene

REPORT_FILE = "report.html"

NO_LOSSES = ("step", "lr", "grad_norm", "seconds")
"""What a row of the log holds beside losses."""

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
    for image in camera_images(sample, grid, 640):
        assert image.pinhole is not None
        place = image.pinhole.image_from_cam, image.pinhole.cam_from_grid
        lit = overlay_heat(pixels_of(image), *place, grid, index.numpy(), heat)
        views.append(NamedImage(image.name, draw_boxes(lit, *place, corners)))
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
        dataset = self.experiment.shown_val()
        maker = scene_maker(self.experiment, dataset, self.model, self.queries, self.refine)
        chosen = np.unique(np.linspace(0, len(dataset) - 1, min(num_scenes, len(dataset))).round().astype(int))
        scenes = [maker.scene(dataset[int(index)]) for index in chosen]
        run_dir = self.experiment.run_dir
        sheets = [rendered_sheet(scene) for scene in scenes]
        made = [write_report(self._report(scenes, sheets), run_dir / REPORT_FILE)]
        made += [save_png(figure(scene), run_dir / f"map_{number}.png") for number, scene in enumerate(scenes)]
        made += [save_png(sheet, run_dir / f"rendered_{number}.png") for number, sheet in enumerate(sheets)]
        made += [
            save_png(figure(scenes[0], truth=True), run_dir / "map_0_truth.png")
            for _ in scenes[:1]
            if scenes[0].truth is not None
        ]
        for text in maker.queries[:3]:
            name = "".join(c if c.isalnum() else "_" for c in text)
            made.append(save_png(figure(scenes[0], text), run_dir / f"query_{name}.png"))
        return made

    def _report(self, scenes: Sequence[VoxelScene], sheets: Sequence[np.ndarray]) -> RunReport:
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
            pictures=tuple(
                NamedImage(f"Image, depth and classes through the cameras: {scene.title}", sheet)
                for scene, sheet in zip(scenes, sheets, strict=True)
            ),
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
        prediction = self.maker.predict(sample)
        if prediction.text_encoder is not None:
            _ = prediction.read_occupied("language")  # now, so that the first query answers at once
        self._predictions = {frame: prediction}
        return self.maker.scene_of(sample, prediction)

    def query(self, frame: int, text: str) -> HeatLayer:
        if frame not in self._predictions:
            self.scene(frame)
        return heat_layer(self._predictions[frame], text)
