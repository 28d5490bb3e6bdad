"""Do outlines of things in the sweep lie on edges of the images? The one question behind every check of a calibration.

Where the depth of neighbouring returns jumps, something near ends, and its outline is an edge of the image. The
gradient of the image under such places, less that beside them, is the *agreement* of a view: 0 by chance and about
0.4 where pose, intrinsics and time are right. A degree or ten centimetres halve it, so it answers sharply; and it
needs neither labels nor a network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from lexivox.data.types import CameraView, Sample
from lexivox.geometry.transform import RigidTransform

ROW_RAD, GAP_RAD, DEPTH_RATIO, NEAREST_M = 0.005, 0.02, 0.8, 2.5
"""Neighbours are returns of one elevation, closer than the gap; a jump leaves less than the ratio of the depth."""

MAX_EDGES = 2000
"""Of a keyframe; further ones change nothing and cost time."""

GRADIENT_WIDTH = 800
BESIDE_PX = (10, 14, 18, 23, 28, 32)
"""Left and right of a pixel of the shrunk image: too far to be the same edge, near enough to be alike."""

NUM_SECTORS = 360
"""Edges of one direction from the car are witnesses of one event."""


@dataclass(frozen=True, slots=True)
class EdgeView:
    """What a camera of a keyframe has to say about its calibration; a suspicion is a changed copy.

    Intrinsics and pose may have a leading dimension: as many calibrations that are asked about at once.

    Attributes:
        camera: its name.
        token: of the keyframe.
        edges: outlines of near things in the ego frame, metres.
        sector: direction of each from the car.
        prominence: sideways gradient of the image, shrunk and logarithmic, less that of its surroundings.
        image_hw: pixels of the image that the intrinsics are for.
        image_from_cam: intrinsics.
        ego_from_cam: pose, with the motion between exposure and sweep inside.
        ego_from_lidar: pose of the LiDAR that measured the edges.
    """

    camera: str
    token: str
    edges: Float[Tensor, "E 3"]
    sector: Int64[Tensor, "E"]
    prominence: Float[Tensor, "h w"]
    image_hw: tuple[int, int]
    image_from_cam: Float[Tensor, "*k 3 3"]
    ego_from_cam: RigidTransform
    ego_from_lidar: RigidTransform

    def at(self, k: int) -> EdgeView:
        """The view with one of its calibrations."""
        intrinsics = self.image_from_cam[k] if self.image_from_cam.ndim > 2 else self.image_from_cam
        pose = self.ego_from_cam[k] if self.ego_from_cam.translation.ndim > 1 else self.ego_from_cam
        return replace(self, image_from_cam=intrinsics, ego_from_cam=pose)


def edge_views(sample: Sample) -> tuple[EdgeView, ...]:
    """One for each camera of a keyframe."""
    edges, sector = edges_of(sample.lidar.xyz.double(), sample.ego_from_lidar)
    return tuple(_edge_view(sample, view, edges, sector) for view in sample.views)


def edges_of(
    xyz: Float[Tensor, "P 3"], ego_from_lidar: RigidTransform
) -> tuple[Float[Tensor, "E 3"], Int64[Tensor, "E"]]:
    """Outlines of a sweep of points around the LiDAR, in the ego frame, and the direction of each from the car."""
    edges = ego_from_lidar.apply(_outlines(xyz))
    turn = torch.atan2(edges[:, 1], edges[:, 0]) / (2 * torch.pi) + 0.5
    return edges, (turn * NUM_SECTORS).long().clamp_max(NUM_SECTORS - 1)


def _edge_view(sample: Sample, view: CameraView, edges: Tensor, sector: Tensor) -> EdgeView:
    intrinsics = view.image_from_cam.double()
    prominence = _prominence(view.image.float())
    pose = view.ego_from_cam.to(torch.float64)
    lidar = sample.ego_from_lidar.to(torch.float64)
    return EdgeView(view.name, sample.token, edges, sector, prominence, view.image_hw, intrinsics, pose, lidar)


def _outlines(xyz: Float[Tensor, "P 3"]) -> Float[Tensor, "E 3"]:
    """The nearer one of two neighbours of one elevation between which the range jumps."""
    range_m = xyz.norm(dim=1)
    xyz, range_m = xyz[range_m > 0.1], range_m[range_m > 0.1]
    azimuth, row = torch.atan2(xyz[:, 1], xyz[:, 0]), torch.floor(torch.asin(xyz[:, 2] / range_m) / ROW_RAD)
    order = (row * 10 + azimuth).argsort()
    xyz, range_m, azimuth, row = xyz[order], range_m[order], azimuth[order], row[order]
    nearer, farther = torch.minimum(range_m[1:], range_m[:-1]), torch.maximum(range_m[1:], range_m[:-1])
    jumps = (row[1:] == row[:-1]) & (azimuth[1:] - azimuth[:-1] < GAP_RAD)
    jumps &= (nearer < DEPTH_RATIO * farther) & (nearer > NEAREST_M)
    found = torch.where((range_m[1:] > range_m[:-1])[:, None], xyz[:-1], xyz[1:])[jumps]
    return found[torch.linspace(0, len(found) - 1, MAX_EDGES).long()] if len(found) > MAX_EDGES else found


def _prominence(image: Float[Tensor, "3 H W"]) -> Float[Tensor, "h w"]:
    height = max(round(image.shape[-2] * GRADIENT_WIDTH / image.shape[-1]), 1)
    gray = F.interpolate(image.mean(0)[None, None], size=(height, GRADIENT_WIDTH), mode="area")
    steps = F.pad((gray[..., 2:] - gray[..., :-2]).abs(), (1, 1))
    smooth = F.avg_pool2d(F.pad(steps, (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0, 0]
    strength = 2 * torch.log1p(smooth / smooth.mean().clamp_min(1e-6))  # one lamp must not outvote a street
    far = max(BESIDE_PX)
    wide = F.pad(strength[None], (far, far), mode="replicate")[0]
    beside = [wide[:, far + k : far + k + GRADIENT_WIDTH] for px in BESIDE_PX for k in (-px, px)]
    return strength - torch.stack(beside).mean(0)
