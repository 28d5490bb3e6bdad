"""Encoders and heads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lexivox.config.base import Config, Share
from lexivox.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from lexivox.encoders.camera import CameraEncoder
    from lexivox.encoders.image import ImageEncoder
    from lexivox.geometry.grid import VoxelGrid
    from lexivox.heads.pointwise import PointwiseHead


class ImageConfig(Config):
    """Images to a pyramid.

    Attributes:
        fit: of :class:`lexivox.data.image_fit.ImageFit`.
        backbone: ``"scratch"`` is a residual network of ``widths`` and ``blocks``; ``"street"`` starts from the shipped
            street network; ``"espnet"`` is a published ESPNet, frozen, from ``weights``; ``"resnet50"`` and
            ``"resnet101"`` start from ``weights``, a checkpoint of FCOS3D or MoCo v2.
        style, dcn_stages, frozen_stages: of :class:`lexivox.backbones.resnet.ResNet`.
        out_stages: of a ResNet, and of :class:`lexivox.backbones.swin.Swin`, where the first stays without its norm if
            levels are skipped.
        skip_levels: so many of the backbone's finest levels are no part of the pyramid.
        convert_weights: fit MoCo's RGB weights to BGR pixels by converting the first convolution. The released trainer
            did not, so its ResNet-50 began on colours it had never seen (errata 23); False reproduces it.
        pixels: what ``scratch`` and the ResNets see: ImageNet's RGB, or BGR with the mean taken off (Caffe).
        scale, pad_multiple: of :class:`lexivox.encoders.preprocess.Preprocessing`.
        separable: False is the published feature pyramid with full 3x3 convolutions.
        joined: make one level of the last two, as OccFlowNet does with Swin, with this norm; None makes a pyramid.
    """

    image_hw: tuple[PositiveInt, PositiveInt]
    fit: Literal["squash", "crop"] = "squash"
    widths: tuple[PositiveInt, ...] = (32, 64, 128)
    backbone: Literal["scratch", "street", "espnet", "resnet50", "resnet101", "swin_tiny", "swin_base"] = "scratch"
    weights: str | None = None
    style: Literal["caffe", "pytorch"] = "pytorch"
    dcn_stages: tuple[PositiveInt, ...] = ()
    frozen_stages: Annotated[int, Field(ge=0, le=4)] = 0
    out_stages: tuple[PositiveInt, ...] = (2, 3, 4)
    skip_levels: Annotated[int, Field(ge=0)] = 0
    convert_weights: bool = True
    blocks: PositiveInt = 1
    channels: PositiveInt = 48
    num_levels: PositiveInt = 2
    separable: bool = True
    joined: Literal["group", "batch"] | None = None
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
            **self.model_dump(
                include={"channels", "num_levels", "widths", "blocks", "skip_levels", "joined", "bfloat16"}
            ),
        )
        if self.backbone.startswith("resnet") and fetch_weights and self.weights:
            from lexivox.weights.backbones import fill_image_encoder

            fill_image_encoder(encoder, self.weights, self.convert_weights)
        return encoder

    @property
    def skip_halvings(self) -> int:
        """How many times twice as fine the backbone's finest level is as the pyramid's."""
        stages = self.out_stages
        has_stages = self.backbone.startswith(("resnet", "swin"))
        return stages[self.skip_levels] - stages[0] if has_stages else self.skip_levels

    def _backbone(self, fetch_weights: bool) -> nn.Module | None:
        if self.backbone.startswith("resnet"):
            from lexivox.backbones.resnet import ResNet

            options = self.model_dump(include={"style", "dcn_stages", "frozen_stages", "out_stages"})
            return ResNet(int(self.backbone.removeprefix("resnet")), **options)
        if self.backbone.startswith("swin"):
            from lexivox.backbones.swin import Swin

            raw = self.out_stages[: bool(self.skip_levels)]
            return Swin(self.backbone.removeprefix("swin_"), out_stages=self.out_stages, raw_stages=raw)  # type: ignore[arg-type]
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

    @property
    def image_offsets(self) -> tuple[int, ...]:
        """The past keyframes whose images the encoder looks at: none."""
        return ()

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
    """An MLP; ``decoder_channels`` is the width before the classifier, ``hidden`` if None.

    Other options are those of :class:`lexivox.heads.pointwise.PointwiseHead`.
    """

    hidden: PositiveInt = 128
    num_layers: PositiveInt = 2
    decoder_channels: PositiveInt | None = None
    activation: Literal["softplus", "relu"] = "softplus"
    last_activation: bool = False
    glorot: bool = False
    output_prob: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None

    def build(self, in_channels: int, out_channels: int) -> PointwiseHead:
        from lexivox.heads.pointwise import PointwiseHead

        return PointwiseHead(in_channels, out_channels=out_channels, **self.model_dump())


class HeadsConfig(Config):
    """The heads a model has; ``semantic`` needs labels to learn from.

    Attributes:
        occupancy, density: geometry, by two logits or by one.
        threshold: predictions call a voxel occupied where its probability is above it.
    """

    occupancy: HeadConfig | None = HeadConfig()
    density: HeadConfig | None = None
    language: HeadConfig | None = HeadConfig()
    semantic: HeadConfig | None = None
    threshold: Share = 0.5
