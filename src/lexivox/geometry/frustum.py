"""Where the pixels of a camera may lie: bins of depth, cells of a feature map, and their places in the grid's frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.errors import ShapeError
from lexivox.geometry.transform import RigidTransform

Places = Literal["centres", "corners"]
"""Where a cell of a map or a bin of depth stands for: at its middle, or as published (OccFlowNet spec A16): bins at
their near edges, and cells spread from the first to the last pixel, so that only the middle one lies right."""


@dataclass(frozen=True, slots=True)
class DepthBins:
    """Depth along the optical axis, cut into bins; a depth on an edge belongs to the farther bin.

    Attributes:
        near_m, far_m: the outermost edges.
        count: of the bins.
        spacing: equally wide bins, or equally wide in the logarithm of depth.

    Raises:
        ShapeError: no bin, or edges that do not grow.
    """

    near_m: float = 1.0
    far_m: float = 45.0
    count: int = 88
    spacing: Literal["uniform", "log"] = "uniform"

    def __post_init__(self) -> None:
        if self.count < 1 or not 0.0 < self.near_m < self.far_m < math.inf:
            raise ShapeError(
                f"depth bins must be at least one between 0 < near_m < far_m; got {self.count} from {self.near_m} to "
                f"{self.far_m} m. Change them."
            )

    def edges_m(self) -> Float[Tensor, "edges"]:
        """All edges, one more than bins, in float64."""
        number = torch.arange(self.count + 1, dtype=torch.float64)
        if self.spacing == "log":
            return self.near_m * (self.far_m / self.near_m) ** (number / self.count)
        return self.near_m + number * ((self.far_m - self.near_m) / self.count)

    def depths_m(self, places: Places = "centres") -> Float[Tensor, "D"]:
        """The depth that each bin stands for, in float64."""
        edges = self.edges_m()
        return 0.5 * (edges[:-1] + edges[1:]) if places == "centres" else edges[:-1]

    def index(self, depth_m: Float[Tensor, "*points"]) -> Int64[Tensor, "*points"]:
        """The bin of each depth; -1 where it lies in none."""
        if self.spacing == "log":
            place = torch.log(depth_m.clamp_min(1e-9) / self.near_m) / math.log(self.far_m / self.near_m) * self.count
        else:
            place = (depth_m - self.near_m) / ((self.far_m - self.near_m) / self.count)
        bins = torch.floor(place)
        return torch.where((bins >= 0) & (bins < self.count), bins, -1).to(torch.int64)


def cell_pixels(
    cells_hw: tuple[int, int], image_hw: tuple[int, int], places: Places = "centres"
) -> Float[Tensor, "h w 2"]:
    """The pixel (u, v) that each cell of a feature map stands for, in float64."""
    (h, w), (height, width) = cells_hw, image_hw
    if places == "centres":
        u, v = (torch.arange(n, dtype=torch.float64) + 0.5 for n in (w, h))
        u, v = u * (width / w), v * (height / h)
    else:
        u, v = (torch.linspace(0, size - 1, n, dtype=torch.float64) for size, n in ((width, w), (height, h)))
    return torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1)


def viewing_rays(
    uv: Float[Tensor, "h w 2"], image_from_cam: Float[Tensor, "*cams 3 3"]
) -> Float[Tensor, "*cams h w 3"]:
    """For each pixel the camera point at depth 1 m, in float64; that at depth d is d times as far."""
    homogeneous = torch.cat([uv, torch.ones_like(uv[..., :1])], dim=-1).to(image_from_cam.device)
    cam_from_image = torch.linalg.inv(image_from_cam.to(torch.float64))
    return torch.einsum("...ij,hwj->...hwi", cam_from_image, homogeneous)


def frustum_points(
    rays: Float[Tensor, "*cams h w 3"], depths_m: Float[Tensor, "D"], to_from_cam: RigidTransform
) -> Float[Tensor, "*cams h w D 3"]:
    """All points of the cameras' frusta in the frame that the transforms lead to, in metres, in float32.

    Args:
        rays: from :func:`viewing_rays`.
        to_from_cam: one transform per camera.
    """
    turned = torch.einsum("...ij,...hwj->...hwi", to_from_cam.rotation.to(rays), rays).float()
    origin = to_from_cam.translation.float()[..., None, None, None, :]
    return turned[..., None, :] * depths_m.to(turned)[:, None] + origin


def pixel_motion(
    image_from_cam: Float[Tensor, "*cams 3 3"],
    other_from_cam: RigidTransform,
    other_image_from_cam: Float[Tensor, "*cams 3 3"],
) -> tuple[Float[Tensor, "*cams 3 3"], Float[Tensor, "*cams 3"]]:
    """Where a pixel at a depth is seen by another camera: at ``matrix @ (u, v, 1) * depth + shift``, homogeneously.

    Args:
        image_from_cam: intrinsics of the camera that the pixels are of.
        other_from_cam: its pose as the other camera sees it.
        other_image_from_cam: intrinsics of the other.
    """
    other = other_image_from_cam.to(torch.float64)
    matrix = other @ other_from_cam.rotation.double() @ torch.linalg.inv(image_from_cam.to(torch.float64))
    return matrix, torch.einsum("...ij,...j->...i", other, other_from_cam.translation.double())
