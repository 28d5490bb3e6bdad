"""The lift-splat encoder of OccFlowNet, mono and stereo, at any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lexivox.config.base import Config, Share
from lexivox.config.network import ImageConfig

if TYPE_CHECKING:
    from lexivox.encoders.depth_net import DepthNet
    from lexivox.encoders.lift_splat import LiftSplatEncoder
    from lexivox.encoders.volume import VolumeEncoder
    from lexivox.geometry.frustum import DepthBins
    from lexivox.geometry.grid import VoxelGrid


class DepthBinsConfig(Config):
    """Bins of depth along the optical axis; see :class:`lexivox.geometry.frustum.DepthBins`."""

    near_m: PositiveFloat = 1.0
    far_m: PositiveFloat = 45.0
    count: PositiveInt = 88
    spacing: Literal["uniform", "log"] = "uniform"

    def build(self) -> DepthBins:
        from lexivox.geometry.frustum import DepthBins

        return DepthBins(**self.model_dump())


class DepthNetConfig(Config):
    """The camera-aware depth network; see :class:`lexivox.encoders.depth_net.DepthNet`."""

    channels: PositiveInt = 256
    aspp_channels: PositiveInt = 96
    dropout: Share = 0.0


class VolumeConfig(Config):
    """The network over voxels; see :class:`lexivox.encoders.volume.VolumeEncoder`."""

    widths: tuple[PositiveInt, ...] = (32, 64, 128)
    blocks: tuple[PositiveInt, ...] = (1, 2, 4)
    joined_channels: PositiveInt = 32
    channels: PositiveInt = 64


class LiftRulesConfig(Config):
    """How pixels are lifted; see :class:`lexivox.encoders.lift_plan.LiftRules`."""

    places: Literal["centres", "corners"] = "centres"
    truncate: bool = False
    is_relative: bool = True
    native_scale: PositiveFloat = 1.0
    native_top_px: float = 0.0
    learn_past: bool = False
    own_mounting: bool = True
    past_statistics: bool = False


class LiftSplatConfig(Config):
    """Images to a volume by depth (OccFlowNet spec 1 and 8). The finest level that ``image`` gives out is lifted.

    Attributes:
        weights: a checkpoint of BEVDet's family to start from; see docs/lifting.md.
        past: keyframes before the current one whose volumes are looked at too; 1 as published.
        stereo: compare each keyframe with the one before it, in the finest level of the image backbone; as published
            the two finest are no part of the pyramid (``image.skip_levels``).
        norm: ``"batch"`` as published, ``"group"`` for small batches.
        align_corners: of the enlarged coarse volumes, as published.
        rules: defaults are ours; docs/lifting.md lists the published ones.
    """

    kind: Literal["lift_splat"] = "lift_splat"
    image: ImageConfig
    weights: str | None = None
    bins: DepthBinsConfig = DepthBinsConfig()
    depth_net: DepthNetConfig = DepthNetConfig()
    context_channels: PositiveInt = 32
    volume: VolumeConfig = VolumeConfig()
    past: Annotated[int, Field(ge=0)] = 0
    stereo: bool = False
    norm: Literal["group", "batch"] = "group"
    align_corners: bool = False
    rules: LiftRulesConfig = LiftRulesConfig()

    @property
    def image_offsets(self) -> tuple[int, ...]:
        """The past keyframes whose images the encoder looks at."""
        return tuple(range(-self.past - self.stereo, 0))

    def build(self, grid: VoxelGrid, fetch_weights: bool = True) -> LiftSplatEncoder:
        from lexivox.encoders.lift_plan import LiftRules
        from lexivox.encoders.lift_splat import LiftSplatEncoder

        encoder = LiftSplatEncoder(
            grid,
            image=self.image.build(fetch_weights),
            depth_net=self._depth_net(),
            volume=self._volume(),
            bins=self.bins.build(),
            context_channels=self.context_channels,
            past=self.past,
            norm=self.norm,
            rules=LiftRules(**self.rules.model_dump()),
        )
        if self.weights and fetch_weights:
            from lexivox.weights.checkpoint import read_checkpoint
            from lexivox.weights.lift import fill_lift_encoder

            fill_lift_encoder(encoder, read_checkpoint(self.weights), self.weights)
        return encoder

    def _depth_net(self) -> DepthNet:
        from lexivox.encoders.depth_net import DepthNet

        return DepthNet(
            self.image.channels,
            context_channels=self.context_channels,
            num_bins=self.bins.count,
            halvings=self.image.skip_halvings if self.stereo else None,
            norm=self.norm,
            **self.depth_net.model_dump(),
        )

    def _volume(self) -> VolumeEncoder:
        from lexivox.encoders.volume import VolumeEncoder

        options = self.volume.model_dump()
        return VolumeEncoder(
            (self.past + 1) * self.context_channels, norm=self.norm, align_corners=self.align_corners, **options
        )
