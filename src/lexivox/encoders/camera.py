"""Cameras to a feature field: image features, lifted by triplane attention, read pixel by pixel, or both."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from lexivox.data.types import Batch
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.triplane import TriplaneEncoder
from lexivox.errors import ConfigError
from lexivox.fields import (
    CoordinateField,
    FeatureField,
    FrustumField,
    JoinedField,
    PixelField,
    TriplaneField,
    coordinate_channels,
)
from lexivox.geometry.grid import VoxelGrid


class CameraEncoder(nn.Module):
    """A batch's images to a field of all parts that are switched on, joined.

    Args:
        grid: the box of the field; the batch must be in its frame.
        image: images to a pyramid of features, fine to coarse.
        triplane: pyramid to three planes on ``grid``, or on ``grid.coarsen(k)``, which costs about k * k
            times less; coarse planes are interpolated. None leaves them out.
        pixel_aligned: read the finest level at the pixels of a point, with depth.
        depth_bins: give every pixel of the finest level a profile of so many depth bins; 0 leaves it out.
        depth_channels: features of each bin.
        num_frequencies: of the appended coordinates; None leaves them out, 0 appends x, y, z alone.

    Raises:
        ConfigError: neither triplane nor pixel-aligned nor depth features are switched on, or the planes' grid
            is not ``grid`` coarsened.
    """

    def __init__(
        self,
        grid: VoxelGrid,
        *,
        image: ImageEncoder,
        triplane: TriplaneEncoder | None = None,
        pixel_aligned: bool = True,
        depth_bins: int = 0,
        depth_channels: int = 8,
        num_frequencies: int | None = None,
    ):
        super().__init__()
        if triplane is None and not pixel_aligned and not depth_bins:
            raise ConfigError("a camera encoder must have triplane, pixel_aligned or depth features; got none.")
        self.plane_factor = 1 if triplane is None else _coarsening(grid, triplane.grid)
        self.grid, self.image, self.triplane = grid, image, triplane
        self.pixel_aligned, self.num_frequencies = pixel_aligned, num_frequencies
        self.depth_bins, self.depth_channels = depth_bins, depth_channels
        self.profile = nn.Conv2d(image.channels, depth_bins * depth_channels, 1) if depth_bins else None

    @property
    def channels(self) -> int:
        """Channels of the field, known before any image is seen."""
        planes = self.triplane.channels if self.triplane else 0
        pixels = self.image.channels + 2 if self.pixel_aligned else 0
        depths = self.depth_channels if self.depth_bins else 0
        places = 0 if self.num_frequencies is None else coordinate_channels(self.num_frequencies)
        return planes + pixels + depths + places

    def forward(self, batch: Batch) -> FeatureField:
        pyramid = self.image(batch.cameras.images)
        cameras = self.image.preprocess.cameras(batch.cameras)  # whose images are what the pyramid covers
        parts: list[FeatureField] = []
        if self.triplane is not None:
            parts.append(self._planes(self.triplane(pyramid, cameras)))
        if self.pixel_aligned:
            parts.append(PixelField(self.grid, pyramid[0], cameras, with_depth=True))
        if self.profile is not None:
            profiles = self.profile(pyramid[0].flatten(0, 1)).unflatten(0, pyramid[0].shape[:2])
            parts.append(FrustumField(self.grid, profiles, cameras, self.depth_bins))
        if self.num_frequencies is not None:
            device = batch.cameras.images.device
            parts.append(CoordinateField(self.grid, self.num_frequencies, batch.size, device))
        return parts[0] if len(parts) == 1 else JoinedField(tuple(parts))

    def _planes(self, field: TriplaneField) -> TriplaneField:
        # The grid stated once wins: refine(k) of coarsen(k) may differ from it in the last bit.
        return replace(field.upsampled(self.plane_factor), grid=self.grid) if self.plane_factor > 1 else field


def _coarsening(grid: VoxelGrid, planes: VoxelGrid) -> int:
    """The k for which ``planes`` is ``grid.coarsen(k)``."""
    factor = max(grid.shape[0] // planes.shape[0], 1)
    divides = all(n % factor == 0 for n in grid.shape)
    if not divides or grid.coarsen(factor) != planes:
        raise ConfigError(
            f"the triplane's grid must be the encoder's, coarsened by a whole number; got {planes} "
            f"for {grid}. Make it on grid.coarsen(k)."
        )
    return factor
