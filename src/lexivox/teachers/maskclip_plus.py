"""MaskCLIP+, the teacher of POP-3D: a segmenter whose last features live in CLIP's space (spec pop3d 5.2, 8.3).

A ResNet at stride 8 and four dilated convolutions, summed (DeepLab v2), were taught by MaskCLIP's answers with CLIP's
texts as frozen classifier. What comes before that classifier is the feature.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from lexivox.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD
from lexivox.backbones.resnet import BLOCKS, FrozenNorm, ResNet
from lexivox.errors import ConfigError, WeightsError
from lexivox.ops.resample import fit_within
from lexivox.teachers.base import TextEncoder
from lexivox.teachers.checkpoint import files_fingerprint
from lexivox.teachers.frozen import frozen
from lexivox.weights.checkpoint import read_checkpoint

DIM = 512
PUBLISHED_FIT_HW = (1024, 2048)
"""Images are enlarged to fit: 900 x 1600 becomes 1024 x 1820 (spec 5.4)."""

_DILATIONS = (6, 12, 18, 24)
_IGNORED = ("decode_head.text_embeddings", "decode_head._iter_counter", "decode_head.clip.", "decode_head.proj.")
"""Names of training's own arrays."""


class MaskClipPlus(nn.Module):
    """Normalised RGB to non-negative features at stride 8; names as published.

    Args:
        depth: of the ResNet, 50 or 101. Its published config says 50, its file name 101 (erratum 20).
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.backbone = ResNet(depth, deep_stem=True, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), out_stages=(4,))
        self.decode_head = nn.ModuleDict({"decode_module": SummedBranches(self.backbone.channels[0], DIM)})

    def forward(self, images: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V D h w"]:
        return self.decode_head["decode_module"](self.backbone(images)[0])


class SummedBranches(nn.Module):
    """The sum of 3x3 convolutions of several dilations, each with norm and ReLU (ASPP of DeepLab v2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.aspp_modules = nn.ModuleList(
            nn.ModuleDict(
                {
                    "conv": nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False),
                    "bn": FrozenNorm(out_channels),
                }
            )
            for dilation in _DILATIONS
        )

    def forward(self, x: Float[Tensor, "V C h w"]) -> Float[Tensor, "V D h w"]:
        return torch.stack([F.relu(part["bn"](part["conv"](x))) for part in self.aspp_modules]).sum(dim=0)  # type: ignore[index]


class MaskClipPlusTeacher:
    """Features of the published checkpoint, as POP-3D extracted them: not normalised, never negative.

    Args:
        words: CLIP ViT-B/16's texts, with which it was taught; the checkpoint itself does not prove it.
        weights: the published ``.pth`` (or its state dict as safetensors), read when first needed.
        fit_hw: images are resized to fit this.

    Raises:
        ConfigError: texts of another width than the features.
    """

    dim = DIM

    def __init__(self, words: TextEncoder, weights: str | Path, fit_hw: tuple[int, int] = PUBLISHED_FIT_HW) -> None:
        if words.dim != DIM:
            raise ConfigError(
                f"texts for MaskCLIP+ must be CLIP ViT-B/16's with {DIM} channels; got {words.dim} of "
                f"'{words.space}'. Choose its checkpoint."
            )
        self.weights, self.space, self.fit_hw = weights, words.space, fit_hw

    @cached_property
    def network(self) -> MaskClipPlus:
        return load_maskclip_plus(self.weights)

    @cached_property
    def fingerprint(self) -> str:
        """Everything besides the images that the features depend on."""
        size = f"{self.fit_hw[0]}x{self.fit_hw[1]}"
        return f"{self.space}-maskclip+-{size}-{files_fingerprint((Path(self.weights),))}"

    def features(self, images: UInt8[Tensor, "V 3 H W"]) -> Float[Tensor, "V D h w"]:
        """Features at an eighth of the enlarged image.

        Raises:
            WeightsError: the checkpoint is not that of MaskCLIP+.
        """
        with torch.no_grad():
            network = self.network.to(images.device)
            return torch.cat([network(self.prepare(image[None])) for image in images])

    def prepare(self, image: UInt8[Tensor, "1 3 H W"]) -> Float[Tensor, "1 3 h w"]:
        """The image enlarged to whole grey levels, as the published pipeline had it, and normalised."""
        height, width = int(image.shape[-2]), int(image.shape[-1])
        size = fit_within((height, width), self.fit_hw)
        enlarged = F.interpolate(image.float(), size=size, mode="bilinear", align_corners=False).round()
        mean, std = (enlarged.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return (enlarged - mean) / std


def load_maskclip_plus(path: str | Path) -> MaskClipPlus:
    """The frozen network of a checkpoint; its depth is counted in the checkpoint (erratum 20).

    Raises:
        WeightsError: the file cannot be read without running code, or holds another network.
    """
    found = read_checkpoint(path)
    arrays = {name: array.float() for name, array in found.items() if not name.startswith(_IGNORED)}
    return frozen(lambda: MaskClipPlus(_depth(arrays, path)), arrays, f"MaskCLIP+ ({path})")


def _depth(arrays: dict[str, Tensor], path: str | Path) -> int:
    blocks = {name.split(".")[2] for name in arrays if name.startswith("backbone.layer3.")}
    for depth, counts in BLOCKS.items():
        if counts[2] == len(blocks):
            return depth
    known = " or ".join(f"{counts[2]} (ResNet-{depth})" for depth, counts in BLOCKS.items())
    raise WeightsError(f"MaskCLIP+ weights must have {known} blocks in layer3; got {len(blocks)}. Check: {path}")
