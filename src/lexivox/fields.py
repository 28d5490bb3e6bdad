"""The one idea of the library: a feature field. Encoders make one, heads read it at points.

The law of every class, tested: ``sample(voxel centres) == dense()``. Fields differ only in where their
features live: in a volume, on three planes, in the camera images, or nowhere (coordinates). Join them freely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.data.types import Cameras
from lexivox.errors import ShapeError
from lexivox.geometry.camera import image_from_grid, is_visible, project_packed
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.sampling import (
    axis_cells,
    bilinear_cells,
    gather_ragged_rows,
    gather_rows,
    table_from_maps,
    trilinear_gather,
)


@runtime_checkable
class FeatureField(Protocol):
    """Features everywhere in a grid's box, for every sample of a batch."""

    @property
    def grid(self) -> VoxelGrid: ...

    @property
    def channels(self) -> int: ...

    def sample(self, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]) -> Float[Tensor, "P C"]:
        """Features at points in metres of the grid's frame; ``batch`` names the sample of each point."""
        ...

    def dense(self) -> Float[Tensor, "B C X Y Z"]:
        """Features at the centres of all voxels."""
        ...


def dense_by_sampling(field: FeatureField, batch_size: int, like: Tensor) -> Float[Tensor, "B C X Y Z"]:
    """The dense volume of a field that only knows how to be sampled, one sample at a time."""
    centers = field.grid.centers(like.device, like.dtype).reshape(-1, 3)
    owner = torch.zeros(len(centers), dtype=torch.int64, device=like.device)
    volumes = [field.sample(centers, owner + b).T.unflatten(1, field.grid.shape) for b in range(batch_size)]
    return torch.stack(volumes)


@dataclass(frozen=True, slots=True, eq=False)
class DenseField:
    """Features in a volume, read trilinearly; a point beyond the border fades to 0 within half a voxel."""

    grid: VoxelGrid
    volume: Float[Tensor, "B C X Y Z"]

    def __post_init__(self) -> None:
        _require_shape("volume", self.volume, self.grid.shape)

    @property
    def channels(self) -> int:
        return self.volume.shape[1]

    def sample(self, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]) -> Float[Tensor, "P C"]:
        return trilinear_gather(self.volume, self.grid.coordinate_from_xyz(xyz), batch)

    def dense(self) -> Float[Tensor, "B C X Y Z"]:
        return self.volume


@dataclass(frozen=True, slots=True, eq=False)
class TriplaneField:
    """Features on three planes through the box; a point adds up its three projections (POP-3D, TPVFormer).

    Beyond the border a plane fades to 0 within half a cell, as published; clamp points if that is unwanted.
    """

    grid: VoxelGrid
    xy: Float[Tensor, "B C X Y"]
    yz: Float[Tensor, "B C Y Z"]
    xz: Float[Tensor, "B C X Z"]

    def __post_init__(self) -> None:
        X, Y, Z = self.grid.shape
        for name, shape in (("xy", (X, Y)), ("yz", (Y, Z)), ("xz", (X, Z))):
            _require_shape(f"plane {name}", getattr(self, name), shape)

    @property
    def channels(self) -> int:
        return self.xy.shape[1]

    def sample(self, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]) -> Float[Tensor, "P C"]:
        coordinate = self.grid.coordinate_from_xyz(xyz)
        tables, all_rows, weights, start = [], [], [], 0
        for plane, axes in ((self.xy, [1, 0]), (self.yz, [2, 1]), (self.xz, [2, 0])):
            _, _, height, width = plane.shape
            rows, weight = bilinear_cells(coordinate[:, axes], height, width)
            all_rows.append(rows + batch[:, None] * (height * width) + start)
            tables.append(table_from_maps(plane))
            weights.append(weight)
            start += len(tables[-1])
        return gather_rows(torch.cat(tables), torch.cat(all_rows, 1), torch.cat(weights, 1))

    def dense(self) -> Float[Tensor, "B C X Y Z"]:
        return self.xy[..., :, :, None] + self.yz[..., None, :, :] + self.xz[..., :, None, :]

    def upsampled(self, factor: int) -> TriplaneField:
        """The same planes on ``grid.refine(factor)``, each interpolated bilinearly before they are added.

        This is how the published model draws fine pictures (spec POP-3D 2.7). It is not the same as sampling
        this field at the fine voxel centres: interpolated planes are flat beyond the outermost centres.
        """
        planes = (
            F.interpolate(plane, scale_factor=factor, mode="bilinear", align_corners=False)
            for plane in (self.xy, self.yz, self.xz)
        )
        return TriplaneField(self.grid.refine(factor), *planes)


@dataclass(frozen=True, slots=True, eq=False)
class PixelField:
    """Image features at the pixels where a point appears: the mean over the views that see it, else 0.

    All points along a viewing ray share their pixel, so ``with_depth`` appends what tells them apart: the
    mean depth (logarithmic, 0..1 over the box's diagonal) and the share of the views that see the point.

    Attributes:
        grid: the box the field is asked about; its frame is the one ``cameras.cam_from_grid`` starts from.
        features: one map per view, covering the whole image.
        cameras: where the views stand; their images are not looked at.
        with_depth: append the two channels.
    """

    grid: VoxelGrid
    features: Float[Tensor, "B V C h w"]
    cameras: Cameras
    with_depth: bool = False

    @property
    def channels(self) -> int:
        return self.features.shape[2] + 2 * self.with_depth

    def sample(self, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]) -> Float[Tensor, "P C"]:
        seen = Sightings.of(self.cameras, xyz, batch)
        rows, weight = seen.cells(self.features.shape[-2:])
        table = table_from_maps(self.features.flatten(0, 1))
        mean_weight = (weight * seen.share[:, None]).flatten()
        pixel = gather_ragged_rows(table, rows.flatten(), mean_weight, seen.count * 4)
        if not self.with_depth:
            return pixel
        # The mean over the views of a point, as for the features.
        depth = torch.zeros_like(xyz[:, 0]).index_add(0, seen.point, seen.depth_m.log1p() * seen.share)
        part = seen.count.to(xyz.dtype) / max(self.features.shape[1], 1)
        extra = torch.stack([depth / math.log1p(_diagonal_m(self.grid)), part], dim=1)
        return torch.cat([pixel, extra.to(pixel.dtype)], dim=1)

    def dense(self) -> Float[Tensor, "B C X Y Z"]:
        return dense_by_sampling(self, self.features.shape[0], self.features)


@dataclass(frozen=True, slots=True, eq=False)
class FrustumField:
    """Features at pixel *and* depth: every pixel holds a profile along its viewing ray (lift, Philion & Fidler).

    A point reads the profiles of the pixels where it appears at its own depth, trilinearly, and takes the mean
    over the views that see it; 0 where none does. Depth bins are logarithmic: near things need finer ones.

    Attributes:
        grid: the box the field is asked about; its frame is the one ``cameras.cam_from_grid`` starts from.
        profiles: channel ``d * C + c`` is feature c of depth bin d.
        cameras: where the views stand; their images are not looked at.
        num_bins: depth bins D.
        depth_range_m: start of the first bin and end of the last.
    """

    grid: VoxelGrid
    profiles: Float[Tensor, "B V DC h w"]
    cameras: Cameras
    num_bins: int
    depth_range_m: tuple[float, float] = (1.0, 64.0)

    @property
    def channels(self) -> int:
        return self.profiles.shape[2] // self.num_bins

    def sample(self, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]) -> Float[Tensor, "P C"]:
        seen = Sightings.of(self.cameras, xyz, batch)
        pixel, pixel_weight = seen.cells(self.profiles.shape[-2:])
        bins, bin_weight = axis_cells(self._bin_coordinate(seen.depth_m), self.num_bins)
        rows = pixel[:, :, None] * self.num_bins + bins[:, None, :]
        weight = pixel_weight[:, :, None] * bin_weight[:, None, :] * seen.share[:, None, None]
        table = table_from_maps(self.profiles.flatten(0, 1)).reshape(-1, self.channels)
        return gather_ragged_rows(table, rows.flatten(), weight.flatten(), seen.count * 8)

    def _bin_coordinate(self, depth_m: Float[Tensor, "R"]) -> Float[Tensor, "R"]:
        near, far = self.depth_range_m
        # Beyond the middles of the outermost bins a point reads these, instead of fading out.
        share = (depth_m / near).log() / math.log(far / near)
        return (share * self.num_bins).clamp(0.5, self.num_bins - 0.5)

    def dense(self) -> Float[Tensor, "B C X Y Z"]:
        return dense_by_sampling(self, self.profiles.shape[0], self.profiles)


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """All pairs of a point and a view that sees it, those of a point together.

    Attributes:
        point: number of the point of every pair.
        view: number of its map among those of all views of all samples.
        share: one over the number of views that see the point.
        uv: pixels in shares of the image.
        depth_m: along the optical axis.
        count: views that see each point.
    """

    point: Int64[Tensor, "R"]
    view: Int64[Tensor, "R"]
    share: Float[Tensor, "R"]
    uv: Float[Tensor, "R 2"]
    depth_m: Float[Tensor, "R"]
    count: Int64[Tensor, "P"]

    @classmethod
    def of(cls, cameras: Cameras, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]) -> Sightings:
        matrix = image_from_grid(cameras.image_from_cam, cameras.cam_from_grid)
        uv, depth_m = project_packed(xyz, batch, matrix)
        visible = is_visible(uv, depth_m, cameras.image_hw)  # (P, V)
        count = visible.sum(1)
        point, view = visible.nonzero(as_tuple=True)
        height, width = cameras.image_hw
        return cls(
            point,
            batch[point] * visible.shape[1] + view,
            1.0 / count[point].to(xyz.dtype),
            uv[point, view] / uv.new_tensor([width, height]),
            depth_m[point, view],
            count,
        )

    def cells(self, map_hw: tuple[int, int] | torch.Size) -> tuple[Int64[Tensor, "R 4"], Float[Tensor, "R 4"]]:
        """Rows in the table of all maps, and bilinear weights."""
        height, width = map_hw
        rows, weight = bilinear_cells(self.uv * self.uv.new_tensor([width, height]), height, width)
        return rows + (self.view * (height * width))[:, None], weight


@dataclass(frozen=True, slots=True, eq=False)
class CoordinateField:
    """Where a point lies: its normalised coordinates and their Fourier features.

    Channels: x, y, z in [-1, 1] of the box (clamped), then sine and cosine of ``pi * 2**k`` times them for k
    below ``num_frequencies``. Join it to a field that cannot tell places apart.
    """

    grid: VoxelGrid
    num_frequencies: int
    batch_size: int
    device: torch.device | str = "cpu"

    @property
    def channels(self) -> int:
        return coordinate_channels(self.num_frequencies)

    def sample(self, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]) -> Float[Tensor, "P C"]:
        place = self.grid.normalized_from_xyz(xyz).clamp(-1.0, 1.0)
        frequency = math.pi * 2.0 ** torch.arange(self.num_frequencies, dtype=xyz.dtype, device=xyz.device)
        phase = (place[:, None, :] * frequency[:, None]).flatten(1)
        return torch.cat([place, phase.sin(), phase.cos()], dim=1)

    def dense(self) -> Float[Tensor, "B C X Y Z"]:
        return dense_by_sampling(self, self.batch_size, torch.zeros((), device=self.device))


def coordinate_channels(num_frequencies: int) -> int:
    """Channels of a :class:`CoordinateField`."""
    return 3 + 6 * num_frequencies


@dataclass(frozen=True, slots=True, eq=False)
class JoinedField:
    """Several fields of one grid as one, their channels side by side."""

    fields: tuple[FeatureField, ...]

    def __post_init__(self) -> None:
        grids = [field.grid for field in self.fields]
        if not grids or any(grid != grids[0] for grid in grids):
            raise ShapeError(f"joined fields must be one or more and share one grid; got {grids}.")

    @property
    def grid(self) -> VoxelGrid:
        return self.fields[0].grid

    @property
    def channels(self) -> int:
        return sum(field.channels for field in self.fields)

    def sample(self, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]) -> Float[Tensor, "P C"]:
        return torch.cat([field.sample(xyz, batch) for field in self.fields], dim=1)

    def dense(self) -> Float[Tensor, "B C X Y Z"]:
        return torch.cat([field.dense() for field in self.fields], dim=1)


def _diagonal_m(grid: VoxelGrid) -> float:
    return math.dist(grid.lower_m, grid.upper_m)


def _require_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape[2:]) != tuple(shape):
        raise ShapeError(
            f"{name} of a field must have the grid's size {tuple(shape)}; got {tuple(tensor.shape[2:])}. "
            "Build it on the same grid."
        )
