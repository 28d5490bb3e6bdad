"""Cameras to a volume: every pixel's feature is shared out along its viewing ray (Philion & Fidler 2020).

The encoder of OccFlowNet (spec 1), which is that of BEVDet: a depth network that knows its camera says where along
its ray each pixel lies; features times these probabilities are summed into voxels; a 3D network looks around.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lexivox.data.types import Batch, Cameras
from lexivox.encoders.depth_net import DepthNet, camera_numbers
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.lifted import LiftedDepth, LiftedField
from lexivox.encoders.norms import NormKind
from lexivox.encoders.volume import VolumeEncoder, volume_stage
from lexivox.geometry.frustum import DepthBins, Places, cell_pixels, frustum_points, viewing_rays
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.voxel_pool import PoolPlan, voxel_pool

KEPT_PLANS = 4
"""Geometries whose sorted points are kept: one rig for each moment that is lifted."""


@dataclass(frozen=True, slots=True)
class LiftRules:
    """How pixels are lifted. The defaults are ours; :data:`PUBLISHED_RULES` are those of the released code.

    Attributes:
        places: what cells and bins stand for (A16).
        truncate: count points up to a voxel below the grid's lower bounds as inside.
        is_relative: tell the depth network intrinsics relative to the size of the image.
        native_scale, native_top_px: of :func:`lexivox.encoders.depth_net.camera_numbers`, for published weights.
    """

    places: Places = "centres"
    truncate: bool = False
    is_relative: bool = True
    native_scale: float = 1.0
    native_top_px: float = 0.0


class LiftSplatEncoder(nn.Module):
    """A batch's images to a :class:`~lexivox.encoders.lifted.LiftedField`.

    Args:
        grid: of the volume; the batch must be in its frame.
        image: images to features; the first level given out is lifted.
        depth_net: features of ``image.channels`` to depth and content.
        volume: the network over voxels; its input is what ``frame_block`` gives out.
        bins: as many as the depth network has.
        context_channels: of the depth network.
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
        norm: NormKind = "group",
        rules: LiftRules = LiftRules(),
    ) -> None:
        super().__init__()
        self.grid, self.bins, self.rules = grid, bins, rules
        self.image, self.depth_net, self.volume = image, depth_net, volume
        self.frame_block = volume_stage(context_channels, context_channels, 1, 1, norm)
        self.plans = PlanCache(grid, bins, rules)

    @property
    def channels(self) -> int:
        """Channels of the field, known before any image is seen."""
        return self.volume.channels

    def forward(self, batch: Batch) -> LiftedField:
        cameras = self.image.preprocess.cameras(batch.cameras)  # whose images are what the features cover
        feature = self.image(batch.cameras.images)[0]
        prob, context = self._depth(feature, cameras)
        pooled = self.frame_block(self._splat(prob, context, cameras))
        return LiftedField(self.grid, self.volume(pooled).float(), LiftedDepth(prob, self.bins, cameras))

    def _depth(
        self, feature: Float[Tensor, "B V C h w"], cameras: Cameras
    ) -> tuple[Float[Tensor, "B V D h w"], Float[Tensor, "B V K h w"]]:
        """Probabilities of depth in float32, and content."""
        rules, views = self.rules, feature.shape[:2]
        numbers = camera_numbers(
            cameras,
            is_relative=rules.is_relative,
            native_scale=rules.native_scale,
            native_top_px=rules.native_top_px,
        )
        flat, numbers = feature.flatten(0, 1), numbers.to(feature).flatten(0, 1)
        if len(flat) == 0:  # convolutions refuse an empty batch: one blank view tells the shapes
            flat, numbers = flat.new_zeros(1, *flat.shape[1:]), numbers.new_zeros(1, numbers.shape[1])
        with torch.autocast(flat.device.type, torch.bfloat16, enabled=self.image.autocast):
            logits, context = self.depth_net(flat, numbers)
        prob, count = logits.float().softmax(dim=1), views[0] * views[1]
        return prob[:count].unflatten(0, views), context[:count].unflatten(0, views)

    def _splat(
        self, prob: Float[Tensor, "B V D h w"], context: Float[Tensor, "B V K h w"], cameras: Cameras
    ) -> Float[Tensor, "B K X Y Z"]:
        plan = self.plans(cameras, (prob.shape[-2], prob.shape[-1]))
        content, weight = (x.movedim(2, -1).flatten(0, 3) for x in (context, prob))  # pixel by pixel
        return voxel_pool(content, weight, plan)


class PlanCache:
    """Sorted frustum points of the geometries seen last: a rig that does not change is sorted once."""

    def __init__(self, grid: VoxelGrid, bins: DepthBins, rules: LiftRules) -> None:
        self.grid, self.bins, self.rules = grid, bins, rules
        self._kept: OrderedDict[tuple, PoolPlan] = OrderedDict()

    def __call__(self, cameras: Cameras, cells_hw: tuple[int, int]) -> PoolPlan:
        """The plan for feature maps of this size, pixels in the order (B, V, h, w)."""
        pose = cameras.cam_from_grid
        numbers = (cameras.image_from_cam, pose.rotation, pose.translation)
        key = (cells_hw, cameras.image_hw, pose.rotation.device, *(x.cpu().numpy().tobytes() for x in numbers))
        if key not in self._kept:
            self._kept[key] = self._plan(cameras, cells_hw)
            if len(self._kept) > KEPT_PLANS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _plan(self, cameras: Cameras, cells_hw: tuple[int, int]) -> PoolPlan:
        places = self.rules.places
        uv = cell_pixels(cells_hw, cameras.image_hw, places)
        rays = viewing_rays(uv, cameras.image_from_cam)
        xyz = frustum_points(rays, self.bins.depths_m(places), cameras.cam_from_grid.inverse())
        return PoolPlan.of(xyz, self.grid, truncate=self.rules.truncate)
