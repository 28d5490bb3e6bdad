"""The main job on a laptop: a synthetic city, label-free targets, training, held-out scores, words, pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lexivox.config import ExperimentConfig
from lexivox.config_text import with_overrides
from lexivox.data.synthetic import DriveSpec, write_nuscenes
from lexivox.experiment import Experiment, OnProgress
from lexivox.files import write_atomically
from lexivox.recipes.pop3d import pop3d_tiny
from lexivox.report import Reporter, headline_scores, query_scores

CITY_DIR, METRICS_FILE = "city", "metrics.json"
SHOWN_QUERIES = ("automobile", "pavement", "foliage", "skyscraper", "lorry", "person walking")


@dataclass(frozen=True, slots=True)
class CitySize:
    """How many drives, and how long. Seeds are disjoint from those the street teacher was trained on."""

    train_drives: int = 8
    val_drives: int = 3
    keyframes: int = 5
    first_seed: int = 100

    def drives(self) -> list[DriveSpec]:
        splits = ["train"] * self.train_drives + ["val"] * self.val_drives
        return [DriveSpec(self.first_seed + number, self.keyframes, split) for number, split in enumerate(splits)]


@dataclass(slots=True)
class Stopwatch:
    """Seconds of each stage, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 1)


def make_city(config: ExperimentConfig, size: CitySize, on_progress: OnProgress) -> Path:
    """Write the synthetic city that the config's data section points to; keyframes already there are kept."""
    image = config.encoder.image
    return write_nuscenes(
        config.data.root,
        size.drives(),
        image_hw=image.image_hw,
        grid=config.grid.build(),
        on_keyframe=lambda done, total: on_progress("building the city", done, total),
    )


def run_demo(
    out: Path, on_progress: OnProgress, size: CitySize | None = None, overrides: Sequence[str] = ()
) -> list[Path]:
    """Everything from nothing; returns the files made. A second run goes on where the first stopped."""
    config = with_overrides(pop3d_tiny(str(out / CITY_DIR)), overrides)
    experiment, watch = Experiment(config, out), Stopwatch()
    with watch.stage("city"):
        make_city(config, size or CitySize(), on_progress)
    with watch.stage("targets"):
        experiment.make_targets(on_progress)
    with watch.stage("train"):
        model = experiment.train(lambda step, steps, terms: on_progress("training", step, steps))
    with watch.stage("calibrate"):
        experiment.calibrate(model, on_progress=on_progress)
    with watch.stage("evaluate"):
        scores = experiment.evaluate(model, baselines=True, on_progress=on_progress)
    with watch.stage("report"):
        facts = {"command": "lexivox demo", "drives": "synthetic, held-out ones are shown"}
        reporter = Reporter(experiment, model, scores, SHOWN_QUERIES, dict(watch.seconds), facts)
        made = reporter.write()
    metrics = {
        **headline_scores(scores),
        "queries": query_scores(scores, "student"),
        "seconds": watch.seconds,
    }
    text = json.dumps(metrics, indent=2)
    made.append(write_atomically(out / METRICS_FILE, lambda file: file.write(text.encode())))
    return made
