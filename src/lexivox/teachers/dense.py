"""What all transformer teachers share: how an image is shown to them, whole or in windows."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lexivox.errors import ConfigError
from lexivox.teachers.checkpoint import joint_dim, model_folder
from lexivox.teachers.prompts import DEFAULT_PROMPTS
from lexivox.teachers.text import ClipTextEncoder, clip_space
from lexivox.teachers.windows import resize_short_side, slide

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and deviation of RGB in 0..1 that a network was trained with."""


class DenseTeacher:
    """A frozen vision transformer read patch by patch; subclasses load the network and read it.

    The network is loaded when it is first needed and follows the images' device.

    Args:
        folder: a local checkpoint folder or hub id; weights are safetensors, no code of the folder is run.
        short_side_px: images are resized to about this, keeping the ratio, to whole patches.
        window_px: the resized image is read in square windows of this side; ``None`` = at once. What a network
            was trained with is best: it never saw larger images.
        stride_px: steps between windows; ``None`` = two thirds of ``window_px``.

    Raises:
        ConfigError: sizes that are not positive, or windows that leave gaps.
    """

    def __init__(
        self, folder: str | Path, short_side_px: int, window_px: int | None = None, stride_px: int | None = None
    ) -> None:
        self.folder, self.short_side_px, self.window_px = folder, short_side_px, window_px
        self.stride_px = stride_px or (window_px and max(1, window_px * 2 // 3))
        sizes = [size for size in (short_side_px, window_px, stride_px) if size is not None]
        if min(sizes) < 1 or (window_px and self.stride_px and self.stride_px > window_px):
            raise ConfigError(
                f"teacher's sizes must be positive and its stride at most its window; got short side {short_side_px}, "
                f"window {window_px}, stride {stride_px} px. Choose e.g. 448, 336 and 224."
            )

    @cached_property
    def path(self) -> Path:
        return model_folder(self.folder)

    @cached_property
    def dim(self) -> int:
        return joint_dim(self.path)

    @property
    def space(self) -> str:
        return clip_space(self.path, self.dim)

    @property
    def fingerprint(self) -> str:
        """Everything besides the images that the features depend on."""
        return f"{self.space}-{self.short_side_px}-{self.window_px}-{self.stride_px}"

    def text_encoder(self, prompts: str | tuple[str, ...] = DEFAULT_PROMPTS) -> ClipTextEncoder:
        """The text tower of the same checkpoint."""
        return ClipTextEncoder(self.folder, prompts)

    def features(self, images: UInt8[Tensor, "V 3 H W"]) -> Float[Tensor, "V D h w"]:
        """One feature per patch of the resized image; unit vectors averaged where there are windows.

        Raises:
            ConfigError: the checkpoint is of another kind or ``transformers`` is missing.
        """
        with torch.no_grad():  # one view at a time: attention is quadratic in the patches
            return torch.cat([self._features(self.prepare(image[None])) for image in images])

    def _features(self, pixels: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 D h w"]:
        if self.window_px is None or self.stride_px is None:
            return self._dense(pixels)
        return slide(self._dense, pixels, self.patch_px, self.window_px, self.stride_px)

    def prepare(self, image: UInt8[Tensor, "1 3 H W"]) -> Float[Tensor, "1 3 h w"]:
        """The image as the network wants it: resized and normalised."""
        self.network.to(image.device)
        resized = resize_short_side(image.float(), self.short_side_px, self.patch_px)
        mean, std = (resized.new_tensor(values)[:, None, None] for values in self.statistics)
        return (resized / 255 - mean) / std

    @property
    def network(self) -> Any:
        raise NotImplementedError

    @property
    def patch_px(self) -> int:
        return int(self.network.config.vision_config.patch_size)

    @property
    def statistics(self) -> Statistics:
        raise NotImplementedError

    def _dense(self, pixels: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 D h w"]:
        raise NotImplementedError
