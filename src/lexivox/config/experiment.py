"""A whole run, and the network it builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import Field

from lexivox.config.base import Config
from lexivox.config.data import DataConfig, GridConfig
from lexivox.config.network import CameraEncoderConfig, HeadsConfig
from lexivox.config.supervision import SemanticConfig, SupervisionConfig
from lexivox.config.teacher import TeacherConfig
from lexivox.config.training import AugmentConfig, TrainConfig
from lexivox.errors import ConfigError
from lexivox.evaluate.protocol import Pop3dProtocol

if TYPE_CHECKING:
    from lexivox.model import OccupancyModel
    from lexivox.teachers.base import TextEncoder


class ExperimentConfig(Config):
    """A whole run. ``lexivox show RECIPE`` prints one, every run folder holds one, ``train`` accepts it back.

    Attributes:
        vocabulary: class of the data set's table -> the phrases that ask for it (zero-shot evaluation).
        queries: free phrase -> the fine classes of the data set that it means (retrieval evaluation).
        protocol: how scores are made; see :class:`~lexivox.evaluate.protocol.Pop3dProtocol`.
    """

    name: str
    grid: GridConfig
    data: DataConfig
    encoder: CameraEncoderConfig
    heads: HeadsConfig = HeadsConfig()
    teacher: TeacherConfig
    supervision: Annotated[list[SupervisionConfig], Field(min_length=1)]
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig
    vocabulary: dict[str, list[str]]
    queries: dict[str, list[str]] = Field(default_factory=dict)
    protocol: Pop3dProtocol = Pop3dProtocol()

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=110)

    def changed(self, **parts: Any) -> ExperimentConfig:
        """A copy with whole parts replaced."""
        return self.model_copy(update=parts)


def build_model(
    config: ExperimentConfig, language_channels: int, text_encoder: TextEncoder | None, fetch_weights: bool = True
) -> OccupancyModel:
    """The network of an experiment, freshly initialised from ``train.seed``, its backbone pretrained if it says so."""
    import torch

    from lexivox.model import OccupancyModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        grid = config.grid.build()
        encoder = config.encoder.build(grid, fetch_weights)
        semantic = semantic_config(config)
        wanted = {
            "occupancy": (config.heads.occupancy, 2),
            "language": (config.heads.language, language_channels),
            "semantic": (config.heads.semantic, semantic.num_classes if semantic else 0),
        }
        heads = {name: head.build(encoder.channels, out) for name, (head, out) in wanted.items() if head}
    return OccupancyModel(
        grid,
        encoder,
        heads,
        image_hw=config.encoder.image.image_hw,
        text_encoder=text_encoder,
        free_class=semantic.free_label if semantic else None,
    )


def semantic_config(config: ExperimentConfig) -> SemanticConfig | None:
    found = [s for s in config.supervision if isinstance(s, SemanticConfig)]
    if config.heads.semantic and not found:
        raise ConfigError("a semantic head must have semantic supervision; got none. Add it to the recipe.")
    return found[0] if found else None
