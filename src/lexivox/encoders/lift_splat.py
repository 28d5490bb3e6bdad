"""Cameras to a volume: every pixel's feature is shared out along its viewing ray (Philion & Fidler 2020).

The encoder of OccFlowNet (spec 1), which is that of BEVDet: a depth network that knows its camera says where along
its ray each pixel lies; features times these probabilities are summed into voxels; a 3D network looks around. Past
keyframes help twice: their images show the depth of what stands still, and their volumes are looked at too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lexivox.data.types import Batch, Cameras
from lexivox.encoders.depth_net import DepthNet, camera_numbers
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.lift_plan import LiftRules, PlanCache
from lexivox.encoders.lifted import LiftedDepth, LiftedField
from lexivox.encoders.norms import NormKind
from lexivox.encoders.volume import VolumeEncoder, volume_stage
from lexivox.errors import ShapeError
from lexivox.geometry.frustum import DepthBins, pixel_motion
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.ops.cost_volume import cost_volume
from lexivox.ops.voxel_pool import voxel_pool


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What the image network made of one keyframe.

    Attributes:
        cameras: of the images that the maps cover, posed in the grid of the current keyframe.
        mounting: where they sit on the car, in the grid of their own keyframe; None where nobody says.
        feature: what is lifted; None where only depth is compared.
        finest: the backbone's finest level, in which two keyframes are compared.
    """

    cameras: Cameras
    mounting: RigidTransform | None
    feature: Float[Tensor, "B V C h w"] | None
    finest: Float[Tensor, "B V _ _ _"]


class LiftSplatEncoder(nn.Module):
    """A batch's images to a :class:`~lexivox.encoders.lifted.LiftedField`.

    Args:
        grid: of the volume; the batch must be in its frame.
        image: images to features; the first level given out is lifted.
        depth_net: features of ``image.channels`` to depth and content; with ``halvings`` it compares keyframes.
        volume: the network over voxels, for ``context_channels`` of each of ``past + 1`` keyframes.
        bins: as many as the depth network has.
        context_channels: of the depth network.
        past: keyframes before the current one whose volumes are looked at too, lifted straight into its grid.
        norm: of the residual block that every keyframe's volume passes.
        rules: how pixels are lifted.
    """

    def __init__(
        self,
        grid: VoxelGrid,
        *,
        image: ImageEncoder,
        depth_net: DepthNet,
        volume: VolumeEncoder,
        bins: DepthBins,
        context_channels: int,
        past: int = 0,
        norm: NormKind = "group",
        rules: LiftRules = LiftRules(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        self.grid, self.bins, self.rules, self.past = grid, bins, rules, past
        self.image, self.depth_net, self.volume = image, depth_net, volume
        self.frame_block = volume_stage(context_channels, context_channels, 1, 1, norm)
        self.plans = PlanCache(grid, bins, rules)

    @property
    def channels(self) -> int:
        """Channels of the field, known before any image is seen."""
        return self.volume.channels

    @property
    def image_offsets(self) -> tuple[int, ...]:
        """The keyframes whose images it wants beside the current ones; without them it repeats the current ones."""
        return tuple(range(-self.past - self.depth_net.is_stereo, 0))

    def forward(self, batch: Batch) -> LiftedField:
        """Raises:
        ShapeError: a past keyframe has other cameras than the current one.
        """
        looks = self._looks(batch)
        volumes = [self._volume_of(looks, age)[0] for age in range(self.past, 0, -1)]
        now, prob = self._volume_of(looks, 0)
        volume = self.volume(torch.cat([*volumes, now], dim=1))
        return LiftedField(self.grid, volume.float(), LiftedDepth(prob, self.bins, looks[0].cameras))

    # ----------------------------------------------------------------------------------------------- images

    def _looks(self, batch: Batch) -> list[Look]:
        """The current keyframe, the one before it, and so on; the current one again where there is none."""
        now = self._look(batch.cameras, is_lifted=True)
        looks = [now]
        for offset in reversed(self.image_offsets):
            moment = batch.at(offset)
            if moment is None or not moment.cameras.has_images:
                looks.append(now)
                continue
            _require_same_cameras(moment.cameras, batch.cameras)
            with self._as_past(-offset):
                looks.append(self._look(moment.cameras, -offset <= self.past, moment.grid_from_own))
        return looks

    def _look(self, cameras: Cameras, is_lifted: bool, grid_from_own: RigidTransform | None = None) -> Look:
        own = self.image.preprocess.cameras(cameras)  # whose images are what the features cover
        mounting = None if grid_from_own is None else own.cam_from_grid @ grid_from_own[:, None]
        if not is_lifted:
            return Look(own, mounting, None, self.image.finest(cameras.images))
        pyramid, finest = self.image.with_finest(cameras.images)
        return Look(own, mounting, pyramid[0], finest)

    @contextmanager
    def _as_past(self, age: int) -> Iterator[None]:
        """How keyframes are treated that are older than the current one, whose age is 0."""
        is_frozen = age > 0 and self.training and not self.rules.past_statistics
        modes = {module: module.training for module in self.modules()} if is_frozen else {}
        for module in modes:
            module.training = False
        try:
            with torch.set_grad_enabled(torch.is_grad_enabled() and (age == 0 or self.rules.learn_past)):
                yield
        finally:
            for module, mode in modes.items():
                module.training = mode

    # ---------------------------------------------------------------------------------------------- volumes

    def _volume_of(
        self, looks: Sequence[Look], age: int
    ) -> tuple[Float[Tensor, "B K X Y Z"], Float[Tensor, "B V D h w"]]:
        """A keyframe's volume in the grid of the current one, and its depth."""
        look = looks[age]
        assert look.feature is not None, "only the oldest is not lifted"
        with self._as_past(age):
            costs = self._costs(look, looks[age + 1]) if self.depth_net.is_stereo else None
            # Where the car went afterwards says nothing about depth: a camera is told by its place on the car.
            own = look.mounting if self.rules.own_mounting else None
            mounted = replace(look.cameras, cam_from_grid=own or looks[0].cameras.cam_from_grid)
            prob, context = self._depth(look.feature, mounted, costs)
            return self.frame_block(self._splat(prob, context, look.cameras)), prob

    def _costs(self, look: Look, older: Look) -> Float[Tensor, "N D _ _"]:
        """Probabilities of depth by comparing two keyframes of each camera."""
        cameras, other = look.cameras, older.cameras
        other_from_cam = other.cam_from_grid @ cameras.cam_from_grid.inverse()
        matrix, shift = pixel_motion(cameras.image_from_cam, other_from_cam, other.image_from_cam)
        return cost_volume(
            look.finest.flatten(0, 1),
            older.finest.flatten(0, 1),
            (matrix.flatten(0, 1), shift.flatten(0, 1)),
            self.bins.depths_m(self.rules.places),
            cameras.image_hw,
            self.rules.places,
        )

    def _depth(
        self, feature: Float[Tensor, "B V C h w"], cameras: Cameras, costs: Float[Tensor, "N D _ _"] | None = None
    ) -> tuple[Float[Tensor, "B V D h w"], Float[Tensor, "B V K h w"]]:
        """Probabilities of depth in float32, and content."""
        rules, views = self.rules, feature.shape[:2]
        numbers = camera_numbers(
            cameras,
            is_relative=rules.is_relative,
            native_scale=rules.native_scale,
            native_top_px=rules.native_top_px,
        ).to(feature)
        inputs = [feature.flatten(0, 1), numbers.flatten(0, 1), *([] if costs is None else [costs])]
        count = len(inputs[0])
        if count == 0:  # convolutions refuse an empty batch: one blank view tells the shapes
            inputs = [x.new_zeros(1, *x.shape[1:]) for x in inputs]
        with torch.autocast(feature.device.type, torch.bfloat16, enabled=self.image.autocast):
            logits, context = self.depth_net(*inputs)
        prob = logits.float().softmax(dim=1)
        return prob[:count].unflatten(0, views), context[:count].unflatten(0, views)

    def _splat(
        self, prob: Float[Tensor, "B V D h w"], context: Float[Tensor, "B V K h w"], cameras: Cameras
    ) -> Float[Tensor, "B K X Y Z"]:
        plan = self.plans(cameras, (prob.shape[-2], prob.shape[-1]))
        content, weight = (x.movedim(2, -1).flatten(0, 3) for x in (context, prob))  # pixel by pixel
        return voxel_pool(content, weight, plan)


def _require_same_cameras(past: Cameras, current: Cameras) -> None:
    if past.names != current.names or past.image_hw != current.image_hw:
        raise ShapeError(
            f"cameras of neighbouring keyframes must be the same; got {past.names} at {past.image_hw} for "
            f"{current.names} at {current.image_hw}. Bring them into one order and size."
        )
