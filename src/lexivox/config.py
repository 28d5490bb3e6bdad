"""Every config class and typed union: the vocabulary of the library on one page.

A recipe is a function that returns an :class:`ExperimentConfig`; modules themselves take plain keyword arguments
and never see a config. Each class that stands for an object can ``build()`` it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from lexivox.errors import ConfigError
from lexivox.evaluate.protocol import Pop3dProtocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lexivox.data.transforms import Augment
    from lexivox.data.types import Sample, SampleDataset
    from lexivox.encoders.camera import CameraEncoder
    from lexivox.encoders.image import ImageEncoder
    from lexivox.geometry.grid import VoxelGrid
    from lexivox.heads.pointwise import PointwiseHead
    from lexivox.model import OccupancyModel
    from lexivox.supervision.base import Supervision
    from lexivox.teachers.base import ImageTeacher, TextEncoder
    from lexivox.train.loop import OptimOptions

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0)]
FineLabels = tuple[Sequence[str], Callable[[int, "Sample"], "Tensor"]]


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# --------------------------------------------------------------------------------------------------- where


class GridConfig(Config):
    lower_m: tuple[float, float, float]
    voxel_size_m: tuple[float, float, float]
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    frame: Literal["ego", "lidar"]

    def build(self) -> VoxelGrid:
        from lexivox.geometry.grid import VoxelGrid

        return VoxelGrid(self.lower_m, self.voxel_size_m, self.shape, self.frame)


class NuscenesData(Config):
    """A nuScenes dataroot. Splits are names in ``splits.json`` or lists of scenes.

    Attributes:
        train_every: train on every n-th keyframe in order of time only (2: the paper's ablations).
        synthetic: the dataroot is a synthetic city, whose extras hold the fine class of every point and the complete
            truth of every voxel; both are read for scoring only.
    """

    kind: Literal["nuscenes"] = "nuscenes"
    root: str
    version: str | None = None
    train_split: str | list[str] = "train"
    val_split: str | list[str] = "val"
    train_every: PositiveInt = 1
    synthetic: bool = False

    def open(self, part: Literal["train", "val"], labels: bool) -> SampleDataset:
        from lexivox.data.datasets import open_dataset

        split = self.train_split if part == "train" else self.val_split
        kind = "lidarseg" if labels else None
        options = {"every": self.train_every} if part == "train" else {"voxel_labels": labels and self.synthetic}
        return open_dataset("nuscenes", self.root, split, version=self.version, labels=kind, **options)

    def fine_labels(self, dataset: Any) -> FineLabels | None:
        """Names of the finest classes of points, and how to read them."""
        if not self.synthetic:
            return None
        return dataset.fine_names, lambda index, sample: dataset.fine_labels(index)


class PandasetData(Config):
    """One PandaSet sequence, cut into training and held-out keyframes."""

    kind: Literal["pandaset"] = "pandaset"
    root: str
    sequence: str
    train_keyframes: list[int]
    val_keyframes: list[int]

    def open(self, part: Literal["train", "val"], labels: bool) -> SampleDataset:
        from lexivox.data.datasets import open_dataset

        keyframes = self.train_keyframes if part == "train" else self.val_keyframes
        kind = "semseg" if labels else None
        return open_dataset("pandaset", self.root, [self.sequence], keyframes=keyframes, labels=kind)

    def fine_labels(self, dataset: Any) -> FineLabels | None:
        """PandaSet has nothing finer than its point labels."""
        return None


DataConfig = Annotated[NuscenesData | PandasetData, Field(discriminator="kind")]


# ------------------------------------------------------------------------------------------------- network


class ImageConfig(Config):
    """Images to a pyramid.

    Attributes:
        backbone: ``"scratch"`` is a residual network of ``widths`` and ``blocks``; ``"street"`` starts from the shipped
            street network; ``"espnet"`` is a published ESPNet, frozen, from ``weights``; ``"resnet50"`` and
            ``"resnet101"`` start from ``weights``, a checkpoint of FCOS3D or MoCo v2.
        style, dcn_stages, frozen_stages: of :class:`lexivox.backbones.resnet.ResNet`.
        convert_weights: fit MoCo's RGB weights to BGR pixels by converting the first convolution. The released trainer
            did not, so its ResNet-50 began on colours it had never seen (errata 23); False reproduces it.
        pixels: what ``scratch`` and the ResNets see: ImageNet's RGB, or BGR with the mean taken off (Caffe).
        scale, pad_multiple: of :class:`lexivox.encoders.preprocess.Preprocessing`.
        separable: False is the published feature pyramid with full 3x3 convolutions.
    """

    image_hw: tuple[PositiveInt, PositiveInt]
    widths: tuple[PositiveInt, ...] = (32, 64, 128)
    backbone: Literal["scratch", "street", "espnet", "resnet50", "resnet101"] = "scratch"
    weights: str | None = None
    style: Literal["caffe", "pytorch"] = "pytorch"
    dcn_stages: tuple[PositiveInt, ...] = ()
    frozen_stages: Annotated[int, Field(ge=0, le=4)] = 0
    convert_weights: bool = True
    blocks: PositiveInt = 1
    channels: PositiveInt = 48
    num_levels: PositiveInt = 2
    separable: bool = True
    pixels: Literal["rgb", "bgr"] = "rgb"
    scale: PositiveFloat = 1.0
    pad_multiple: PositiveInt = 1
    bfloat16: bool = True

    def build(self, fetch_weights: bool = True) -> ImageEncoder:
        """``fetch_weights=False`` builds the same network for weights that come from elsewhere."""
        from lexivox.encoders.image import ImageEncoder
        from lexivox.encoders.preprocess import PREPROCESSING

        pixels = "as_is" if self.backbone in ("street", "espnet") else self.pixels  # they standardise by themselves
        encoder = ImageEncoder(
            backbone=self._backbone(fetch_weights),
            preprocess=replace(PREPROCESSING[pixels], scale=self.scale, pad_multiple=self.pad_multiple),
            is_separable=self.separable,
            **self.model_dump(include={"channels", "num_levels", "widths", "blocks", "bfloat16"}),
        )
        if self.backbone.startswith("resnet") and fetch_weights and self.weights:
            from lexivox.weights.backbones import fill_image_encoder

            fill_image_encoder(encoder, self.weights, self.convert_weights)
        return encoder

    def _backbone(self, fetch_weights: bool) -> nn.Module | None:
        if self.backbone.startswith("resnet"):
            from lexivox.backbones.resnet import ResNet

            options = self.model_dump(include={"style", "dcn_stages", "frozen_stages"})
            return ResNet(int(self.backbone.removeprefix("resnet")), **options)
        if self.backbone == "street":
            from lexivox.teachers.street import street_backbone

            return street_backbone()
        if self.backbone == "espnet":
            from lexivox.teachers.espnet import EspNet, EspNetBackbone, load_espnet

            if fetch_weights and self.weights is None:
                raise ConfigError("backbone 'espnet' must have weights; got none. Set encoder.image.weights.")
            return EspNetBackbone(load_espnet(self.weights or "") if fetch_weights else EspNet())
        return None


class TriplaneConfig(Config):
    """Planes of the published encoder; ``coarsen`` makes them on a grid with so many times larger voxels.

    Attributes:
        spread_self_attention: False starts its points at one place, as released, whence they never part.
    """

    coarsen: PositiveInt = 1
    num_heads: PositiveInt = 4
    num_layers: PositiveInt = 1
    anchors: tuple[PositiveInt, PositiveInt, PositiveInt] = (4, 8, 8)
    points_per_anchor: PositiveInt = 1
    self_attention_points: PositiveInt = 4
    spread_self_attention: bool = True
    ffn_channels: PositiveInt | None = None
    num_cameras: PositiveInt | None = None
    dropout: Share = 0.0


class CameraEncoderConfig(Config):
    """Images to triplanes, joined with features read at the exact pixels, and depths, of each point."""

    kind: Literal["camera"] = "camera"
    image: ImageConfig
    triplane: TriplaneConfig | None = TriplaneConfig()
    pixel_aligned: bool = True
    depth_bins: Annotated[int, Field(ge=0)] = 32
    depth_channels: PositiveInt = 8
    num_frequencies: Annotated[int, Field(ge=0)] | None = 4

    def build(self, grid: VoxelGrid, fetch_weights: bool = True) -> CameraEncoder:
        from lexivox.encoders.camera import CameraEncoder
        from lexivox.encoders.triplane import TriplaneEncoder

        planes, image = self.triplane, self.image
        triplane = planes and TriplaneEncoder(
            grid.coarsen(planes.coarsen),
            channels=image.channels,
            num_levels=image.num_levels,
            **planes.model_dump(exclude={"coarsen"}),
        )
        options = self.model_dump(exclude={"kind", "image", "triplane"})
        return CameraEncoder(grid, image=image.build(fetch_weights), triplane=triplane, **options)


class HeadConfig(Config):
    """An MLP; ``decoder_channels`` is the width before the classifier, ``hidden`` if None."""

    hidden: PositiveInt = 128
    num_layers: PositiveInt = 2
    decoder_channels: PositiveInt | None = None

    def build(self, in_channels: int, out_channels: int) -> PointwiseHead:
        from lexivox.heads.pointwise import PointwiseHead

        return PointwiseHead(in_channels, out_channels=out_channels, **self.model_dump())


class HeadsConfig(Config):
    """The heads a model has; ``semantic`` needs labels to learn from."""

    occupancy: HeadConfig | None = HeadConfig()
    language: HeadConfig | None = HeadConfig()
    semantic: HeadConfig | None = None


# ------------------------------------------------------------------------------------------------ teachers


class StreetTeacherConfig(Config):
    """The small street network that ships with the package."""

    kind: Literal["street"] = "street"

    def build(self) -> tuple[ImageTeacher, TextEncoder]:
        from lexivox.teachers.street import street_teacher

        teacher = street_teacher()
        return teacher, teacher.text_encoder()


class EspnetTeacherConfig(Config):
    """Class probabilities of a published ESPNet times sentence vectors of the class names."""

    kind: Literal["espnet"] = "espnet"
    weights: str

    def build(self) -> tuple[ImageTeacher, TextEncoder]:
        from lexivox.data.classes import CITYSCAPES19
        from lexivox.teachers.class_text import ClassTextTeacher
        from lexivox.teachers.espnet import EspNetSegmenter
        from lexivox.teachers.text import SentenceEncoder

        teacher = ClassTextTeacher(EspNetSegmenter(self.weights), CITYSCAPES19.names, SentenceEncoder())
        return teacher, teacher.text_encoder()


class ClipTeacherConfig(Config):
    """Dense features of a ``transformers`` checkpoint: CLIP (MaskCLIP and its successors), TIPSv2 or SigLIP; or
    MaskCLIP+ from its published ``weights``, with a CLIP ViT-B/16 checkpoint for the words.

    Options mean what :mod:`lexivox.teachers` says of their kind; ``None`` = the kind's own choice.
    """

    kind: Literal["clip", "tips", "siglip", "clip_resnet", "maskclip_plus"] = "clip"
    checkpoint: str
    weights: str | None = None
    prompts: Literal["photo", "clip85"] = "photo"
    attention: Literal["plain", "value", "sclip", "clearclip", "naclip"] | None = None
    use_values: bool | None = None
    short_side_px: PositiveInt | None = None
    window_px: PositiveInt | None = None
    stride_px: PositiveInt | None = None
    legacy_gelu: bool | None = None
    imagenet_statistics: bool | None = None

    def build(self) -> tuple[ImageTeacher, TextEncoder]:
        from lexivox.teachers.open import open_teacher

        return open_teacher(**self.model_dump())


class FeatureFilesConfig(Config):
    """Features in the files of the published extraction, and the text tower of their space."""

    kind: Literal["files"] = "files"
    features: str
    projections: str
    checkpoint: str
    prompts: Literal["photo", "clip85"] = "clip85"
    missing: Literal["error", "skip"] = "error"

    def build(self) -> tuple[ImageTeacher, TextEncoder]:
        from lexivox.teachers.open import open_feature_files

        return open_feature_files(**self.model_dump(exclude={"kind"}))


TeacherConfig = Annotated[
    StreetTeacherConfig | EspnetTeacherConfig | ClipTeacherConfig | FeatureFilesConfig, Field(discriminator="kind")
]


# --------------------------------------------------------------------------------------------- supervision


class LidarOccupancyConfig(Config):
    kind: Literal["lidar_occupancy"] = "lidar_occupancy"
    target: Literal["exact", "sampled100", "dense"] = "exact"
    weight: Weight = 1.0
    lovasz: Weight = 1.0
    unobserved_weight: Weight = 0.1
    max_voxels: Annotated[int, Field(ge=0)] = 24_000
    occupied_weight: PositiveFloat = 1.0
    outside: Literal["clamp", "drop"] = "clamp"
    enet_share: Share = 0.0
    balance: Share = 0.0

    def build(self) -> Supervision:
        from lexivox.supervision.occupancy import LidarOccupancy

        return LidarOccupancy(**self.model_dump(exclude={"kind"}))


class LanguageConfig(Config):
    kind: Literal["language"] = "language"
    loss: Literal["cosine", "mse"] = "cosine"
    weight: Weight = 1.0
    voxel_weight: Weight = 0.0
    outside: Literal["keep", "clamp", "drop"] = "keep"
    views: Literal["mean", "each"] = "mean"
    pixels: Literal["bilinear", "nearest", "chained"] = "bilinear"
    unit: bool = True
    max_points: Annotated[int, Field(ge=0)] = 30_000
    storage: Literal["points-float16", "points-pca", "maps", "maps-pca"] = "points-float16"
    storage_rank: PositiveInt = 64
    storage_pool: PositiveInt = 1

    def build(self) -> Supervision:
        from lexivox.supervision.language import LanguageDistillation

        return LanguageDistillation(self.loss, self.weight, self.voxel_weight, self.outside)


class SemanticConfig(Config):
    """Human labels: the supervised reference. Classes are those of the data set's table."""

    kind: Literal["semantic"] = "semantic"
    num_classes: PositiveInt
    free_label: int
    ignore_label: int = 0
    weight: Weight = 1.0
    unobserved_weight: Weight = 0.1
    max_voxels: Annotated[int, Field(ge=0)] = 24_000
    max_points: Annotated[int, Field(ge=0)] = 8_000

    def build(self) -> Supervision:
        from lexivox.supervision.semantic import LabelledSemantics

        return LabelledSemantics(**self.model_dump(exclude={"kind"}))


SupervisionConfig = Annotated[LidarOccupancyConfig | LanguageConfig | SemanticConfig, Field(discriminator="kind")]


# ------------------------------------------------------------------------------------------------ training


class AugmentConfig(Config):
    mirror_prob: Share = 0.5
    turn_deg: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    color: Share = 0.2
    drop_view_prob: Share = 0.0
    distort: bool = False
    grid_mask_prob: Share = 0.0

    def build(self) -> Augment:
        from lexivox.data.transforms import Augment

        return Augment(turn_rad=math.radians(self.turn_deg), **self.model_dump(exclude={"turn_deg"}))


class TrainConfig(Config):
    """AdamW, warm-up, cosine decay, clipping (spec pop3d 6); see :class:`lexivox.train.loop.OptimOptions`."""

    steps: PositiveInt
    batch_size: PositiveInt = 1
    micro_batch: PositiveInt = 1
    lr: PositiveFloat = 2e-3
    lr_for_batch: PositiveInt | None = None
    lr_min: Annotated[float, Field(ge=0.0)] = 1e-5
    warmup_steps: Annotated[int, Field(ge=0)] = 30
    weight_decay: Weight = 0.01
    decay_all: bool = False
    backbone_lr_scale: Weight = 1.0
    clip_norm: PositiveFloat = 10.0
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpointing: Literal["none", "heads", "all"] = "none"
    seed: int = 0
    checkpoint_every: PositiveInt = 100
    workers: Annotated[int, Field(ge=0)] = 0
    points_per_sample: Annotated[int, Field(ge=0)] = 8000
    balance_power: Share = 0.5

    def options(self) -> OptimOptions:
        from lexivox.train.loop import OptimOptions

        return OptimOptions(**{field.name: getattr(self, field.name) for field in fields(OptimOptions)})


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
    queries: dict[str, list[str]] = {}
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
