"""Every config class and typed union: the vocabulary of the library in one place, a file for each slot.

A recipe is a function that returns an :class:`ExperimentConfig`; modules themselves take plain keyword arguments
and never see a config. Each class that stands for an object can ``build()`` it.
"""

from lexivox.config.base import Config
from lexivox.config.data import DataConfig, GridConfig, NuscenesData, PandasetData
from lexivox.config.experiment import ExperimentConfig, build_model, semantic_config
from lexivox.config.network import CameraEncoderConfig, HeadConfig, HeadsConfig, ImageConfig, TriplaneConfig
from lexivox.config.supervision import (
    LanguageConfig,
    LidarOccupancyConfig,
    PlacesConfig,
    RayQueriesConfig,
    SemanticConfig,
    SupervisionConfig,
)
from lexivox.config.teacher import (
    ClipTeacherConfig,
    EspnetTeacherConfig,
    FeatureFilesConfig,
    StreetTeacherConfig,
    TeacherConfig,
)
from lexivox.config.training import AugmentConfig, TrainConfig

__all__ = [
    "AugmentConfig",
    "CameraEncoderConfig",
    "ClipTeacherConfig",
    "Config",
    "DataConfig",
    "EspnetTeacherConfig",
    "ExperimentConfig",
    "FeatureFilesConfig",
    "GridConfig",
    "HeadConfig",
    "HeadsConfig",
    "ImageConfig",
    "LanguageConfig",
    "LidarOccupancyConfig",
    "NuscenesData",
    "PandasetData",
    "PlacesConfig",
    "RayQueriesConfig",
    "SemanticConfig",
    "StreetTeacherConfig",
    "SupervisionConfig",
    "TeacherConfig",
    "TrainConfig",
    "TriplaneConfig",
    "build_model",
    "semantic_config",
]
