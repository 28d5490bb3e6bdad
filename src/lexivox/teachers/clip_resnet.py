"""Dense features from CLIP's ResNets (spec pop3d 5.1): their attention pooling without the attention."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lexivox.errors import ConfigError, WeightsError
from lexivox.teachers.checkpoint import read_config
from lexivox.teachers.clip import CLIP_STATISTICS, IMAGENET_STATISTICS, ScoringTeacher
from lexivox.teachers.clip_vit import DenseTokens
from lexivox.teachers.dense import Statistics
from lexivox.teachers.frozen import frozen

STRIDE_PX = 32


class ClipResNet(nn.Module):
    """CLIP's ResNet: three convolutions and an average as stem, averages instead of strides. Names as published.

    Args:
        blocks: of the four stages.
        width: channels of the stem.
        cells: of the pooling's training grid, with the mean's; its positions are kept, but not used here.
        dim: of the joint space.
    """

    def __init__(self, blocks: Sequence[int], width: int, cells: int, dim: int) -> None:
        super().__init__()
        sizes = ((3, width // 2, 2), (width // 2, width // 2, 1), (width // 2, width, 1))
        for number, (inner, outer, stride) in enumerate(sizes, start=1):
            self.add_module(f"conv{number}", nn.Conv2d(inner, outer, 3, stride, 1, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(outer))
        channels = width
        for stage, count in enumerate(blocks, start=1):
            planes, stride = width * 2 ** (stage - 1), 1 if stage == 1 else 2
            layers = [_Bottleneck(channels, planes, stride)]
            channels = 4 * planes
            self.add_module(
                f"layer{stage}", nn.Sequential(*layers, *(_Bottleneck(channels, planes, 1) for _ in range(count - 1)))
            )
        self.attnpool = _Pooling(cells, channels, dim)

    def forward(self, images: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V C h w"]:
        """The last stage, at stride 32."""
        x = images
        for number in (1, 2, 3):
            x = F.relu(self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(x)))
        x = F.avg_pool2d(x, 2)
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        out = 4 * planes
        self.stride = stride
        self.conv1, self.bn1 = nn.Conv2d(channels, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, out, 1, bias=False), nn.BatchNorm2d(out)
        has_shortcut = stride > 1 or channels != out
        self.downsample = (
            nn.ModuleDict({"0": nn.Conv2d(channels, out, 1, bias=False), "1": nn.BatchNorm2d(out)})
            if has_shortcut
            else None
        )

    def forward(self, x: Float[Tensor, "V _ _ _"]) -> Float[Tensor, "V _ _ _"]:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.avg_pool2d(F.relu(self.bn2(self.conv2(y))), self.stride)
        y = self.bn3(self.conv3(y))
        if self.downsample is not None:
            x = self.downsample["1"](self.downsample["0"](F.avg_pool2d(x, self.stride)))
        return F.relu(y + x)


class _Pooling(nn.Module):
    """The arrays of CLIP's attention pooling."""

    def __init__(self, cells: int, channels: int, dim: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(nn.Linear(channels, cells).weight.detach())
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(channels, channels) for _ in range(3))
        self.c_proj = nn.Linear(channels, dim)


def pool_cells(pooling: Any, features: Float[Tensor, "V C h w"]) -> DenseTokens:
    """Each cell's value in the joint space, and its key: no cell looks at another.

    Args:
        pooling: has ``v_proj``, ``c_proj`` and ``k_proj``, linear.
        features: of the last stage.
    """
    cells = features.flatten(2).transpose(1, 2)  # (V, T, C)
    values = pooling.c_proj(pooling.v_proj(cells))
    return DenseTokens(values.transpose(1, 2).unflatten(2, features.shape[-2:]), pooling.k_proj(cells))


class ClipResNetTeacher(ScoringTeacher):
    """MaskCLIP on a ResNet of CLIP.

    Args:
        folder: made by :func:`lexivox.weights.clip.import_clip`; no other format holds these networks.
        short_side_px, window_px, stride_px: as in :class:`~lexivox.teachers.dense.DenseTeacher`.
        imagenet_statistics: normalise with ImageNet's mean and deviation, as MaskCLIP was published.
    """

    def __init__(
        self,
        folder: str | Path,
        short_side_px: int = 512,
        window_px: int | None = None,
        stride_px: int | None = None,
        imagenet_statistics: bool = False,
    ) -> None:
        super().__init__(folder, short_side_px, window_px, stride_px)
        self.imagenet_statistics = imagenet_statistics

    @property
    def patch_px(self) -> int:
        return STRIDE_PX

    @property
    def statistics(self) -> Statistics:
        return IMAGENET_STATISTICS if self.imagenet_statistics else CLIP_STATISTICS

    @property
    def fingerprint(self) -> str:
        """Everything besides the images that the features depend on."""
        return f"{super().fingerprint}-clip-resnet-{self.imagenet_statistics}"

    @cached_property
    def network(self) -> ClipResNet:
        shape = read_config(self.path).get("visual") or {}
        if shape.get("kind") != "resnet":
            raise ConfigError(f"folder must hold a ResNet of CLIP; got another model. Import one first: {self.path}")
        try:
            arrays = load_file(self.path / "visual.safetensors")
            cells, dim = len(arrays["attnpool.positional_embedding"]), len(arrays["attnpool.c_proj.bias"])
        except (OSError, KeyError, SafetensorError) as error:
            raise WeightsError(
                f"image tower must be whole; got {type(error).__name__}. Import it again: {self.path}"
            ) from error
        return frozen(lambda: ClipResNet(shape["blocks"], shape["width"], cells, dim), arrays, "CLIP ResNet")

    def tokens(self, pixels: Float[Tensor, "1 3 H W"]) -> DenseTokens:
        return pool_cells(self.network.attnpool, self.network(pixels))
