"""Segment Anything through ``transformers``: the mask of the object in a box (spec pop3d 7.4)."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lexivox.annotate.masks import PixelBox
from lexivox.errors import ConfigError
from lexivox.teachers.checkpoint import model_folder, read_config, silent_loading

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SamSegmenter:
    """A frozen Segment Anything model.

    The image is embedded once (seconds on a CPU); further boxes on it take milliseconds.

    Args:
        folder: a checkpoint folder or hub id of model type sam, as ``transformers`` reads it.

    Raises:
        ConfigError: no checkpoint there, or one of another kind.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = model_folder(folder)
        kind = read_config(self.path).get("model_type")
        if kind != "sam":
            raise ConfigError(f"segmenter must be a checkpoint of model type 'sam'; got '{kind}'. Check {self.path}")
        self.name = f"Segment Anything ({self.path.name})"
        self._seen: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def mask(self, image: UInt8[Tensor, "3 H W"], box: PixelBox) -> Bool[Tensor, "H W"]:
        """True on the object that fills ``box``; one mask is asked for, as is usual for boxes.

        Raises:
            ConfigError: ``transformers`` is missing, or the box lies outside the image.
        """
        image_hw = (int(image.shape[1]), int(image.shape[2]))
        corners = torch.tensor(box.inside(image_hw).corners) * self._scale(image_hw)
        output = self._model(
            image_embeddings=self._embed(image), input_boxes=corners[None, None], multimask_output=False
        )
        return self._enlarge(output.pred_masks[0, 0], image_hw)

    @cached_property
    def _model(self) -> Any:
        try:
            import transformers
        except ImportError as error:
            raise ConfigError(
                "package transformers must be installed to run Segment Anything; got none. "
                'Run: pip install "lexivox[annotate]".'
            ) from error
        with silent_loading():
            model = transformers.SamModel.from_pretrained(
                self.path, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        return model.eval().requires_grad_(False)

    @property
    def _side_px(self) -> int:
        return int(self._model.config.vision_config.image_size)

    def _scale(self, image_hw: tuple[int, int]) -> float:
        return self._side_px / max(image_hw)

    def _small_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        height, width = (int(side * self._scale(image_hw) + 0.5) for side in image_hw)
        return height, width

    def _embed(self, image: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "1 C h w"]:
        if self._seen is None or self._seen[0] is not image:
            self._seen = (image, self._model.get_image_embeddings(self._prepare(image)))
        return self._seen[1]

    def _prepare(self, image: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "1 3 S S"]:
        """The longer side fills the model's square; below or beside the image are zeros."""
        height, width = self._small_hw((int(image.shape[1]), int(image.shape[2])))
        small = F.interpolate(image[None].float(), size=(height, width), mode="bilinear", antialias=True)
        mean, std = (small.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        pixels = (small.round() / 255 - mean) / std
        return F.pad(pixels, (0, self._side_px - width, 0, self._side_px - height))

    def _enlarge(self, logits: Float[Tensor, "1 m m"], image_hw: tuple[int, int]) -> Bool[Tensor, "H W"]:
        """From the model's square to the image: enlarged, cut, enlarged again."""
        side, (height, width) = (self._side_px,) * 2, self._small_hw(image_hw)
        square = F.interpolate(logits[None], size=side, mode="bilinear", align_corners=False)
        cut = square[..., :height, :width]
        return F.interpolate(cut, size=image_hw, mode="bilinear", align_corners=False)[0, 0] > 0
