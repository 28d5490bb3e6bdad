"""Cameras to a feature field: image features, lifted by triplane attention, read pixel by pixel, or both."""

from __future__ import annotations

from torch import nn

from lexivox.data.types import Batch
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.triplane import TriplaneEncoder
from lexivox.errors import ConfigError
from lexivox.fields import CoordinateField, FeatureField, JoinedField, PixelField, coordinate_channels
from lexivox.geometry.grid import VoxelGrid


class CameraEncoder(nn.Module):
    """A batch's images to a field of all parts that are switched on, joined.

    Args:
        grid: the box of the field; the batch must be in its frame.
        image: images to a pyramid of features, fine to coarse.
        triplane: pyramid to three planes on the same grid; None leaves them out.
        pixel_aligned: read the finest level at the pixels of a point, with depth.
        num_frequencies: of the appended coordinates; None leaves them out, 0 appends x, y, z alone.

    Raises:
        ConfigError: neither triplane nor pixel-aligned features are switched on.
    """

    def __init__(
        self,
        grid: VoxelGrid,
        *,
        image: ImageEncoder,
        triplane: TriplaneEncoder | None = None,
        pixel_aligned: bool = True,
        num_frequencies: int | None = None,
    ):
        super().__init__()
        if triplane is None and not pixel_aligned:
            raise ConfigError("a camera encoder must have triplane or pixel_aligned features; got neither.")
        self.grid, self.image, self.triplane = grid, image, triplane
        self.pixel_aligned, self.num_frequencies = pixel_aligned, num_frequencies

    @property
    def channels(self) -> int:
        """Channels of the field, known before any image is seen."""
        planes = self.triplane.channels if self.triplane else 0
        pixels = self.image.channels + 2 if self.pixel_aligned else 0
        places = 0 if self.num_frequencies is None else coordinate_channels(self.num_frequencies)
        return planes + pixels + places

    def forward(self, batch: Batch) -> FeatureField:
        pyramid = self.image(batch.cameras.images)
        parts: list[FeatureField] = []
        if self.triplane is not None:
            parts.append(self.triplane(pyramid, batch.cameras))
        if self.pixel_aligned:
            parts.append(PixelField(self.grid, pyramid[0], batch.cameras, with_depth=True))
        if self.num_frequencies is not None:
            device = batch.cameras.images.device
            parts.append(CoordinateField(self.grid, self.num_frequencies, batch.size, device))
        return parts[0] if len(parts) == 1 else JoinedField(tuple(parts))
