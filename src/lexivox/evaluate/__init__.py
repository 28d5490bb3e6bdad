"""The neutral ruler: every benchmark's metric, for arrays and files of any method; no model is needed.

>>> from lexivox.evaluate import DenseScore, occ3d_protocol
>>> score = DenseScore(occ3d_protocol("camera"))
>>> score.update(prediction, label, mask, token="a keyframe")
>>> print(score.report("mine"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lexivox.evaluate.calibration import CalibrationScore
    from lexivox.evaluate.dense import DenseScore, occ3d_protocol
    from lexivox.evaluate.depth import DepthScore
    from lexivox.evaluate.files.base import FileOptions
    from lexivox.evaluate.files.score import score_files
    from lexivox.evaluate.lidar import LidarScore
    from lexivox.evaluate.lidarseg import LidarsegScore
    from lexivox.evaluate.metric import Metric, merge_all
    from lexivox.evaluate.occupancy import OccupancyScore
    from lexivox.evaluate.panoptic import PanopticScore, Segments
    from lexivox.evaluate.rayiou import RayIouScore
    from lexivox.evaluate.raypq import PanopticVolume, RayPqScore
    from lexivox.evaluate.retrieval import RetrievalScore

_HOMES = {
    "CalibrationScore": "calibration",
    "DenseScore": "dense",
    "DepthScore": "depth",
    "FileOptions": "files.base",
    "LidarScore": "lidar",
    "LidarsegScore": "lidarseg",
    "Metric": "metric",
    "OccupancyScore": "occupancy",
    "PanopticScore": "panoptic",
    "PanopticVolume": "raypq",
    "RayIouScore": "rayiou",
    "RayPqScore": "raypq",
    "RetrievalScore": "retrieval",
    "Segments": "panoptic",
    "merge_all": "metric",
    "occ3d_protocol": "dense",
    "score_files": "files.score",
}

__all__ = [
    "CalibrationScore",
    "DenseScore",
    "DepthScore",
    "FileOptions",
    "LidarScore",
    "LidarsegScore",
    "Metric",
    "OccupancyScore",
    "PanopticScore",
    "PanopticVolume",
    "RayIouScore",
    "RayPqScore",
    "RetrievalScore",
    "Segments",
    "merge_all",
    "occ3d_protocol",
    "score_files",
]


def __getattr__(name: str) -> object:
    """Imported when first used."""
    if name in _HOMES:
        return getattr(import_module(f"lexivox.evaluate.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lexivox.evaluate' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
