"""Every config class and typed union: the vocabulary of the library in one place, a file for each slot.

A recipe is a function that returns an :class:`ExperimentConfig`; modules themselves take plain keyword arguments
and never see a config. Each class that stands for an object can ``build()`` it.
"""

from lexivox.config.base import Config
from lexivox.config.data import DataConfig, GridConfig, NuscenesData, PandasetData
from lexivox.config.experiment import EncoderConfig, ExperimentConfig, build_model, semantic_config
from lexivox.config.lifting import DepthBinsConfig, DepthNetConfig, LiftRulesConfig, LiftSplatConfig, VolumeConfig
from lexivox.config.network import CameraEncoderConfig, HeadConfig, HeadsConfig, ImageConfig, TriplaneConfig
from lexivox.config.rays import PlacesConfig, RayQueriesConfig, RaysConfig, RenderingConfig, SamplingConfig
from lexivox.config.supervision import (
    CameraDepthConfig,
    DenseConfig,
    LanguageConfig,
    LidarOccupancyConfig,
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
from lexivox.config.training import AugmentConfig, JitterConfig, TrainConfig

__all__ = [
    "AugmentConfig",
    "CameraDepthConfig",
    "CameraEncoderConfig",
    "ClipTeacherConfig",
    "Config",
    "DataConfig",
    "DenseConfig",
    "DepthBinsConfig",
    "DepthNetConfig",
    "EncoderConfig",
    "EspnetTeacherConfig",
    "ExperimentConfig",
    "FeatureFilesConfig",
    "GridConfig",
    "HeadConfig",
    "HeadsConfig",
    "ImageConfig",
    "JitterConfig",
    "LanguageConfig",
    "LidarOccupancyConfig",
    "LiftRulesConfig",
    "LiftSplatConfig",
    "NuscenesData",
    "PandasetData",
    "PlacesConfig",
    "RayQueriesConfig",
    "RaysConfig",
    "RenderingConfig",
    "SamplingConfig",
    "SemanticConfig",
    "StreetTeacherConfig",
    "SupervisionConfig",
    "TeacherConfig",
    "TrainConfig",
    "TriplaneConfig",
    "VolumeConfig",
    "build_model",
    "semantic_config",
]
