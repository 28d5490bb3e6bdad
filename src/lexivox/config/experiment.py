"""A whole run, and the network it builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import Discriminator, Field, Tag

from lexivox.config.base import Config
from lexivox.config.data import DataConfig, GridConfig
from lexivox.config.lifting import LiftSplatConfig
from lexivox.config.network import CameraEncoderConfig, HeadsConfig
from lexivox.config.supervision import LanguageConfig, SemanticConfig, SupervisionConfig
from lexivox.config.teacher import TeacherConfig
from lexivox.config.training import AugmentConfig, TrainConfig
from lexivox.errors import ConfigError
from lexivox.evaluate.protocol import DepthProtocol, Occ3dProtocol, Pop3dProtocol

if TYPE_CHECKING:
    from lexivox.data.clips import Horizon
    from lexivox.data.image_fit import ImageFit
    from lexivox.model import OccupancyModel
    from lexivox.teachers.base import TextEncoder


EncoderConfig = Annotated[CameraEncoderConfig | LiftSplatConfig, Field(discriminator="kind")]


def _protocol_kind(protocol: Any) -> str:
    """Runs from before there were several do not say it."""
    return protocol.get("kind", "pop3d") if isinstance(protocol, dict) else getattr(protocol, "kind", "pop3d")


ProtocolConfig = Annotated[
    Annotated[Pop3dProtocol, Tag("pop3d")]
    | Annotated[Occ3dProtocol, Tag("occ3d")]
    | Annotated[DepthProtocol, Tag("depth")],
    Discriminator(_protocol_kind),
]


class ExperimentConfig(Config):
    """A whole run. ``lexivox show RECIPE`` prints one, every run folder holds one, ``train`` accepts it back.

    Attributes:
        teacher: who knows words; a run that learns classes from labels alone needs none.
        vocabulary: class of the data set's table -> the phrases that ask for it (zero-shot evaluation).
        queries: free phrase -> the fine classes of the data set that it means (retrieval evaluation).
        protocol: how scores are made; see :mod:`lexivox.evaluate.protocol`.
    """

    name: str
    grid: GridConfig
    data: DataConfig
    encoder: EncoderConfig
    heads: HeadsConfig = HeadsConfig()
    teacher: TeacherConfig | None = None
    supervision: Annotated[list[SupervisionConfig], Field(min_length=1)]
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig
    vocabulary: dict[str, list[str]] = Field(default_factory=dict)
    queries: dict[str, list[str]] = Field(default_factory=dict)
    protocol: ProtocolConfig = Pop3dProtocol()

    @property
    def horizon(self) -> Horizon:
        """The neighbouring keyframes that training looks at."""
        from lexivox.data.clips import Horizon

        asked = [offset for signal in self.supervision for offset in signal.horizon]
        return Horizon.of(asked, self.encoder.image_offsets)

    @property
    def language(self) -> LanguageConfig | None:
        """How the teacher is listened to, if it is: as the language signal says, else in the usual way.

        Raises:
            ConfigError: two signals want its features in different ways; they are made once.
        """
        said = [signal for signal in self.supervision if isinstance(signal, LanguageConfig)]
        if any(signal.reading != said[0].reading for signal in said):
            raise ConfigError(
                "language signals of a run must read the teacher in one way; got different ones. "
                f"Give all the same {', '.join(said[0].reading)}."
            )
        if said:
            return said[0]
        return LanguageConfig() if any(signal.uses_features for signal in self.supervision) else None

    @property
    def finds_boxes(self) -> bool:
        """What moves is found in the sweeps.

        Raises:
            ConfigError: another signal wants labelled boxes; a clip has one kind.
        """
        finds = any(signal.finds_boxes for signal in self.supervision)
        if finds and any(signal.uses_boxes for signal in self.supervision):
            raise ConfigError(
                "signals of a run must agree on where boxes come from; got flow 'sweeps' beside labelled boxes. "
                "Set flow to 'sweeps' or 'boxes' in all, and moving to 'speed' only beside one of them."
            )
        return finds

    @property
    def image_fit(self) -> ImageFit:
        """How images become the network's input."""
        from lexivox.data.image_fit import ImageFit

        image, jitter = self.encoder.image, self.augment.jitter
        return ImageFit(image.image_hw, image.fit, jitter and jitter.build())

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
        num_classes, free_class = semantic_classes(config)
        wanted = {
            "occupancy": (config.heads.occupancy, 2),
            "density": (config.heads.density, 1),
            "language": (config.heads.language, language_channels),
            "semantic": (config.heads.semantic, num_classes),
        }
        heads = {name: head.build(encoder.channels, out) for name, (head, out) in wanted.items() if head}
    return OccupancyModel(
        grid,
        encoder,
        heads,
        fit=config.image_fit,
        text_encoder=text_encoder,
        free_class=free_class,
        threshold=config.heads.threshold,
    )


def semantic_config(config: ExperimentConfig) -> SemanticConfig | None:
    """The supervision that learns all classes, free among them, if there is one."""
    return next((s for s in config.supervision if isinstance(s, SemanticConfig)), None)


def semantic_classes(config: ExperimentConfig) -> tuple[int, int | None]:
    """Outputs of the semantic head, and the class that means free; 0 and None without that head.

    A head that learns from :class:`SemanticConfig` has all classes. Others stand beside a head for geometry, which
    says what is free, and have one output less: free is the last class of its table.

    Raises:
        ConfigError: nothing teaches the head, or free is not the last class.
    """
    if not config.heads.semantic:
        return 0, None
    whole = semantic_config(config)
    if whole:
        return whole.num_classes, whole.free_label
    if not any(s.teaches_classes for s in config.supervision):
        raise ConfigError("a semantic head must have semantic supervision; got none. Add it to the recipe.")
    table = config.data.table
    if table.free is None or table.free != table.num_classes - 1:
        raise ConfigError(f"a semantic head beside geometry must have free as the last class; got {table.name}.")
    return table.free, table.free
