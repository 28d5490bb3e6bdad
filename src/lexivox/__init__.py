"""lexivox: cameras and LiDAR in, a 3D map that you can ask in words out.

>>> import lexivox as lv
>>> dataset = lv.open_dataset("nuscenes", root="runs/demo/city", split="val")
>>> model = lv.load("runs/demo")
>>> prediction = model.predict(dataset[0])
>>> hits = prediction.query("automobile")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lexivox import recipes
    from lexivox.data.datasets import open_dataset
    from lexivox.geometry.grid import VoxelGrid
    from lexivox.prediction import Prediction
    from lexivox.run_folder import load
    from lexivox.teachers.vocabulary import vocabulary

__version__ = "0.1.0"
__all__ = ["Prediction", "VoxelGrid", "__version__", "load", "open_dataset", "recipes", "vocabulary"]

_HOMES = {
    "Prediction": "lexivox.prediction",
    "VoxelGrid": "lexivox.geometry.grid",
    "load": "lexivox.experiment",
    "open_dataset": "lexivox.data.datasets",
    "vocabulary": "lexivox.teachers.vocabulary",
}


def __getattr__(name: str) -> object:
    """Public names are imported when first used: ``import lexivox`` and ``lexivox --help`` load no torch."""
    if name == "recipes":
        return import_module("lexivox.recipes")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lexivox' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
