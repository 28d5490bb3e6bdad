"""How far away is what a pixel shows, and what is it? A network that also knows its camera (OccFlowNet spec 1.3).

After BEVDepth (Li et al. 2022): numbers of the camera gate the channels of the image features, one gate for depth
and one for content. A cost volume of two keyframes, where there is one, joins in before depth is decided.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lexivox.data.types import Cameras
from lexivox.encoders.norms import NormKind, norm2d

CAMERA_NUMBERS = 27


def camera_numbers(
    cameras: Cameras, *, is_relative: bool = True, native_scale: float = 1.0, native_top_px: float = 0.0
) -> Float[Tensor, "B V 27"]:
    """What the network is told of each camera.

    In this order: fx, fy, cx, cy; the image's augmentation (two rows of a 2 x 3 matrix); five entries of the world's
    augmentation; grid-from-camera (three rows of 3 x 4). The house folds augmentation into calibration, so that the
    second and third group say "none".

    Args:
        is_relative: divide intrinsics by the size of the image: all numbers are then about 1, and a camera of another
            resolution says the same.
        native_scale, native_top_px: with ``is_relative`` False, for published weights: state the intrinsics of the
            image as recorded, and that it was scaled and then cut off at the top by so many pixels.
    """
    height, width = cameras.image_hw
    matrix = cameras.image_from_cam.double()
    fx, fy, cx, cy = matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 0, 2], matrix[..., 1, 2]
    if is_relative:
        fx, fy, cx, cy = fx / width, fy / height, cx / width, cy / height
    else:
        fx, fy, cx, cy = (x / native_scale for x in (fx, fy, cx, cy + native_top_px))
    scale, shift = (1.0, 0.0) if is_relative else (native_scale, -native_top_px)
    image = fx.new_tensor([scale, 0.0, 0.0, 0.0, scale, shift]).expand(*fx.shape, 6)
    world = fx.new_tensor([1.0, 0.0, 0.0, 1.0, 1.0]).expand(*fx.shape, 5)
    pose = cameras.cam_from_grid.inverse().matrix()[..., :3, :].flatten(-2)
    return torch.cat([torch.stack([fx, fy, cx, cy], dim=-1), image, world, pose.to(fx)], dim=-1).float()


class DepthNet(nn.Module):
    """Image features to depth logits and content.

    Args:
        in_channels: of the features.
        channels: inside.
        context_channels: of the content.
        num_bins: of depth.
        halvings: expect the cost volume of two keyframes, so many times twice as fine; None expects none.
        norm: of all convolutions; ``"batch"`` also standardises the camera's numbers by their statistics.
        aspp_channels: of each branch of the pyramid of dilated convolutions.
        dropout: at its end.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        context_channels: int,
        num_bins: int,
        *,
        halvings: int | None = None,
        norm: NormKind = "group",
        aspp_channels: int = 96,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(in_channels, channels, 3, 1, 1), norm2d(norm, channels), nn.ReLU())
        self.camera_norm = nn.BatchNorm1d(CAMERA_NUMBERS) if norm == "batch" else nn.Identity()
        self.context_gate, self.depth_gate = CameraGate(channels), CameraGate(channels)
        self.context = nn.Conv2d(channels, context_channels, 1)
        self.is_stereo = halvings is not None
        self.cost = nn.Sequential(*(layer for _ in range(halvings or 0) for layer in _halving(num_bins, norm)))
        self.depth = nn.Sequential(
            BasicBlock(channels + num_bins * self.is_stereo, channels, norm),
            BasicBlock(channels, channels, norm),
            BasicBlock(channels, channels, norm),
            DilatedPyramid(channels, aspp_channels, norm, dropout),
            nn.Conv2d(channels, num_bins, 1),
        )

    def forward(
        self,
        feature: Float[Tensor, "N C h w"],
        camera: Float[Tensor, "N 27"],
        cost_volume: Float[Tensor, "N D _ _"] | None = None,
    ) -> tuple[Float[Tensor, "N D h w"], Float[Tensor, "N K h w"]]:
        """Logits of the bins, and content."""
        known = self.camera_norm(camera)
        x = self.reduce(feature)
        context = self.context(self.context_gate(x, known))
        depth = self.depth_gate(x, known)
        if cost_volume is not None:
            depth = torch.cat([depth, self.cost(cost_volume)], dim=1)
        return self.depth(depth), context


class CameraGate(nn.Module):
    """Channels opened and closed by the camera's numbers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(CAMERA_NUMBERS, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.gate = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Float[Tensor, "N C h w"], camera: Float[Tensor, "N 27"]) -> Float[Tensor, "N C h w"]:
        return x * self.gate(self.mlp(camera)[..., None, None]).sigmoid()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is a 1x1 where the width changes."""

    def __init__(self, in_channels: int, channels: int, norm: NormKind) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False)
        self.norm1 = norm2d(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = norm2d(norm, channels)
        self.shortcut = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Float[Tensor, "N _ h w"]) -> Float[Tensor, "N _ h w"]:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class DilatedPyramid(nn.Module):
    """ASPP (Chen et al. 2017): one 1x1, three 3x3 convolutions of growing dilation and the image's mean, joined."""

    DILATIONS = (6, 12, 18)

    def __init__(self, channels: int, width: int, norm: NormKind, dropout: float) -> None:
        super().__init__()
        convs = [nn.Conv2d(channels, width, 1, bias=False)]
        convs += [nn.Conv2d(channels, width, 3, padding=d, dilation=d, bias=False) for d in self.DILATIONS]
        self.branches = nn.ModuleList(nn.Sequential(conv, norm2d(norm, width), nn.ReLU()) for conv in convs)
        self.mean = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), norm2d(norm, width), nn.ReLU())
        self.join = nn.Sequential(
            nn.Conv2d((len(convs) + 1) * width, channels, 1, bias=False),
            norm2d(norm, channels),
            nn.ReLU(),
            nn.Dropout(dropout),
        )

    def forward(self, x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h w"]:
        parts = [branch(x) for branch in self.branches]
        mean = self.mean(x.mean(dim=(2, 3), keepdim=True))
        return self.join(torch.cat([*parts, mean.expand_as(parts[0])], dim=1))


def _halving(channels: int, norm: NormKind) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, 2, 1), norm2d(norm, channels)]
