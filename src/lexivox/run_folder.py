"""What a run folder holds, and the model read back from it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from lexivox.config import ExperimentConfig, build_model
from lexivox.config_text import load_config
from lexivox.errors import DataError
from lexivox.grounding.calibration import Calibration
from lexivox.model import OccupancyModel
from lexivox.teachers.base import TextEncoder
from lexivox.teachers.text import text_encoder_from_spec
from lexivox.train.checkpoint import fill_model, load_weights
from lexivox.train.loop import WEIGHTS_FILE

CONFIG_FILE, TEXT_FILE, TEXT_TENSORS = "config.yaml", "text.json", "text.safetensors"


def run_config(run_dir: Path) -> ExperimentConfig:
    """What the run is.

    Raises:
        DataError: no run there.
    """
    if not (run_dir / CONFIG_FILE).is_file():
        raise DataError(f"a run folder must hold {CONFIG_FILE}; got none. Train first, or check {run_dir}.")
    return load_config(run_dir / CONFIG_FILE)


def load(run: str | Path) -> OccupancyModel:
    """The trained model of a run folder (or of a file of weights inside it), ready to predict.

    Raises:
        DataError: no run there.
        WeightsError: the weights are missing, damaged, or of another recipe.
    """
    path = Path(run)
    run_dir, weights_file = (path.parent, path) if path.is_file() else (path, path / WEIGHTS_FILE)
    config = run_config(run_dir)
    text_encoder = _load_words(run_dir) if (run_dir / TEXT_FILE).exists() else None
    weights = load_weights(weights_file)
    model = build_model(config, text_encoder.dim if text_encoder else 0, text_encoder, fetch_weights=False)
    fill_model(model, weights, config.name)
    model.calibration = Calibration.load(run_dir) if text_encoder else None
    if model.calibration and text_encoder:
        model.calibration.require_space(text_encoder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval()


def _load_words(run_dir: Path) -> TextEncoder:
    try:
        spec = json.loads((run_dir / TEXT_FILE).read_text())
        return text_encoder_from_spec(spec, load_weights(run_dir / TEXT_TENSORS))
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"a run's description of words must be readable; got {reason}. Train again: {run_dir / TEXT_FILE}."
        ) from None
