"""What the benchmarks that train share: one run per folder, trained and scored once, and read ever after."""

from __future__ import annotations

from pathlib import Path

from lexivox.config import ExperimentConfig
from lexivox.config_text import load_config
from lexivox.errors import ConfigError
from lexivox.evaluate.report import ScoreTable
from lexivox.experiment import Experiment, OnProgress
from lexivox.report import headline_scores
from lexivox.run_folder import CONFIG_FILE
from lexivox.scoring import SCORES_FILE


def seeded(config: ExperimentConfig, seed: int) -> ExperimentConfig:
    return config.changed(train=config.train.model_copy(update={"seed": seed}))


def finished_run(config: ExperimentConfig, out: Path, on_progress: OnProgress) -> dict[str, dict[str, float]]:
    """Headline scores of one training per method, from the run folder when it is already there.

    Teacher features are shared by all runs under ``out``.
    """
    folder = out / f"{config.name}_seed{config.train.seed}"
    if (folder / CONFIG_FILE).exists() and load_config(folder / CONFIG_FILE) != config:
        raise ConfigError(f"a folder of runs must keep one config each; got another. Choose another --out: {folder}.")
    if not (folder / SCORES_FILE).exists():
        experiment = Experiment(config, folder, cache_dir=out / "cache")
        work = folder.name
        experiment.make_targets(lambda _, done, total: on_progress(f"targets {work}", done, total))
        model = experiment.train(lambda step, steps, terms: on_progress(f"training {work}", step, steps))
        experiment.evaluate(model, on_progress=lambda _, d, n: on_progress(f"scoring {work}", d, n))
    return headline_scores(ScoreTable.from_json((folder / SCORES_FILE).read_text()))
