"""The embedded street teacher: a small image network whose pixels speak the language of a sentence model.

It was trained on synthetic drives (``benchmarks/train_street_teacher.py``) with one name per concept; its
dense feature is the probability-weighted mean of the concepts' centred sentence vectors. So it sees its
concepts only, but answers to words it was never trained with. The text matrix is shipped: no text model is
needed to see.
"""

from __future__ import annotations

import copy
import json
from functools import cached_property
from importlib.resources import as_file, files
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lexivox.errors import WeightsError
from lexivox.teachers.frozen import frozen, weights_fingerprint
from lexivox.teachers.text import CenteredTextEncoder, SentenceEncoder, centered_space

_WEIGHTS = files("lexivox.teachers") / "weights"
_TRAINED_HEIGHT_PX = 160
_GREY, _SPREAD = 128.0, 64.0


class StreetTeacher:
    """Dense language features of street images, at stride 4 of the image resized to 160 rows.

    Args:
        network: logits of the concepts.
        text_matrix: (K, D) centred unit vectors of the concept names.
        center: (D,) what was subtracted from the raw text vectors.
        description: the recipe, its concepts, prompts, base space and measured accuracy (``street.json``).
    """

    def __init__(
        self,
        network: StreetNet,
        text_matrix: Float[Tensor, "K D"],
        center: Float[Tensor, "D"],
        description: dict[str, Any],
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.text_matrix, self.center, self.description = text_matrix, center, description

    @property
    def concepts(self) -> tuple[str, ...]:
        """What it can tell apart, in the order of its logits."""
        return tuple(self.description["concepts"])

    @property
    def dim(self) -> int:
        return int(self.text_matrix.shape[1])

    @property
    def space(self) -> str:
        return centered_space(self.description["base_space"], self.center)

    @cached_property
    def fingerprint(self) -> str:
        """Everything besides the images that the features depend on."""
        return f"{self.space}-street-{weights_fingerprint(self.network, self.text_matrix)}"

    def to(self, device: torch.device | str) -> StreetTeacher:
        """The same teacher with its tensors elsewhere."""
        network = copy.deepcopy(self.network).to(device)
        return StreetTeacher(network, self.text_matrix.to(device), self.center.to(device), self.description)

    def text_encoder(self) -> CenteredTextEncoder:
        """The encoder whose vectors fit; needs the extra ``text`` when it is first asked."""
        return CenteredTextEncoder(SentenceEncoder(prompts=self.description["prompts"]), self.center.cpu())

    def probs(self, images: UInt8[Tensor, "V 3 H W"]) -> Float[Tensor, "V K h w"]:
        """Probability of every concept."""
        with torch.no_grad():
            return self.network(resize_to_height(images, _TRAINED_HEIGHT_PX)).softmax(dim=1)

    def features(self, images: UInt8[Tensor, "V 3 H W"]) -> Float[Tensor, "V D h w"]:
        """Probability-weighted mean of the concepts' text vectors; short where the network is unsure."""
        return torch.einsum("vkhw,kd->vdhw", self.probs(images), self.text_matrix)


def street_teacher() -> StreetTeacher:
    """The embedded teacher.

    Raises:
        WeightsError: the installed package lacks its weights.
    """
    try:
        description = json.loads((_WEIGHTS / "street.json").read_text(encoding="utf-8"))
        with as_file(_WEIGHTS / "street.safetensors") as file:
            arrays = {key: value.float() for key, value in load_file(file).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"street teacher must find its weights in the package; got {type(error).__name__}. Install lexivox again."
        ) from error
    text_matrix, center = arrays.pop("text_matrix"), arrays.pop("center")
    widths = tuple(description["widths"])
    network = frozen(lambda: StreetNet(len(text_matrix), widths), arrays, "street teacher")
    return StreetTeacher(network, text_matrix, center, description)


def resize_to_height(images: UInt8[Tensor, "V 3 H W"], height_px: int) -> Float[Tensor, "V 3 h w"]:
    """Images with ``height_px`` rows and the same ratio; unchanged when they already have them."""
    height, width = images.shape[-2:]
    if height == height_px:
        return images.float()
    size = (height_px, max(1, round(width * height_px / height)))
    return F.interpolate(images.float(), size=size, mode="bilinear", align_corners=False, antialias=True)


class StreetNet(nn.Module):
    """RGB to concept logits at stride 4: a residual encoder down to stride 16, a light decoder back.

    Args:
        num_concepts: outputs.
        widths: channels at strides 2, 4, 8 and 16.
    """

    def __init__(self, num_concepts: int, widths: tuple[int, ...] = (16, 32, 48, 80)) -> None:
        super().__init__()
        half, quarter, eighth, deep = widths
        self.stem = nn.Sequential(_conv(3, half, stride=2), _conv(half, quarter, stride=2), Residual(quarter))
        self.stage8 = nn.Sequential(_conv(quarter, eighth, stride=2), Residual(eighth), Residual(eighth))
        self.stage16 = nn.Sequential(_conv(eighth, deep, stride=2), Residual(deep), Residual(deep, dilation=2))
        self.lateral16 = nn.Conv2d(deep, eighth, 1)
        self.fuse8 = Residual(eighth)
        self.lateral8 = nn.Conv2d(eighth, quarter, 1)
        self.fuse4 = Residual(quarter)
        self.classifier = nn.Conv2d(quarter, num_concepts, 1)

    def forward(self, images: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V K h w"]:
        return self.classifier(self.levels(images)[0])

    def levels(self, images: Float[Tensor, "V 3 H W"]) -> list[Tensor]:
        """Features at strides 4, 8 and 16 (as the names tell), coarse context already in the fine ones."""
        x4 = self.stem((images - _GREY) / _SPREAD)
        x8 = self.stage8(x4)
        x16 = self.stage16(x8)
        x8 = self.fuse8(x8 + _up(self.lateral16(x16), x8))
        x4 = self.fuse4(x4 + _up(self.lateral8(x8), x4))
        return [x4, x8, x16]


class StreetBackbone(nn.Module):
    """The street network as the start of a student's image encoder: trainable, its norms frozen.

    The published student starts from a pretrained detector's backbone in the same way (spec pop3d 2.1).
    """

    def __init__(self, network: StreetNet, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.channels = network, widths[1:]

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> list[Tensor]:
        return self.network.levels(images)

    def train(self, mode: bool = True) -> StreetBackbone:
        """Norms keep their statistics: a batch of one rig says little about all streets."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def street_backbone() -> StreetBackbone:
    """A fresh copy of the shipped network without its classifier.

    Raises:
        WeightsError: the installed package lacks its weights.
    """
    teacher = street_teacher()
    network = teacher.network.requires_grad_(True)
    del network.classifier
    return StreetBackbone(network, tuple(teacher.description["widths"]))


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        first, second = (_conv(channels, channels, dilation=dilation) for _ in range(2))
        self.body = nn.Sequential(first, second[0], second[1])

    def forward(self, x: Float[Tensor, "V C H W"]) -> Float[Tensor, "V C H W"]:
        return F.relu(x + self.body(x))


def _conv(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


def _up(x: Float[Tensor, "V C h w"], like: Float[Tensor, "V C H W"]) -> Float[Tensor, "V C H W"]:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
