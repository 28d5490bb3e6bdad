"""ESPNet: a small published street segmenter (efficient spatial pyramid, p = 2, q = 8; Cityscapes, 0.37 M).

Its class probabilities become a language feature in :mod:`lexivox.teachers.class_text`. The layer names are
those of the published weights, so a state dict of them loads strictly.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from lexivox.errors import WeightsError
from lexivox.teachers.frozen import frozen, weights_fingerprint

CITYSCAPES_NAMES: tuple[str, ...] = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
"""The 19 classes in the order of the network; its twentieth output is the background."""

# Published preprocessing, in the order blue, green, red.
_MEAN_BGR, _STD_BGR = (72.39, 82.91, 73.16), (45.32, 46.15, 44.91)
_NORM_EPS = 1e-3
_DILATIONS = (1, 2, 4, 8, 16)


class EspNet(nn.Module):
    """Image statistics to logits at full size: encoder at 1/8, two light decoder steps back.

    Attributes follow the published names: ``b*`` norm + PReLU after a concatenation, ``level*`` the stages.
    """

    def __init__(self, num_classes: int = 20, p: int = 2, q: int = 8) -> None:
        super().__init__()
        self.encoder = EspEncoder(num_classes, p, q)
        self.level3_C = _ConvHolder(131, num_classes, 1)
        self.br = nn.BatchNorm2d(num_classes, eps=_NORM_EPS)
        self.up_l3 = nn.Sequential(_deconv(num_classes))
        self.combine_l2_l3 = nn.Sequential(
            _NormAct(2 * num_classes), EspBlock(2 * num_classes, num_classes, has_shortcut=False)
        )
        self.up_l2 = nn.Sequential(_deconv(num_classes), _NormAct(num_classes))
        self.conv = _ConvNormAct(num_classes + 16, num_classes, 3)
        self.classifier = _deconv(num_classes)

    def forward(self, image: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V K H W"]:
        return self.classifier(self.decode(*self.encoder.stages(image)))

    def decode(self, half: Tensor, quarter: Tensor, eighth: Tensor) -> Float[Tensor, "V K h w"]:
        """Class evidence at stride 2 from the encoder's stages at strides 2, 4 and 8."""
        deep = self.up_l3(self.br(self.encoder.classifier(eighth)))
        middle = self.up_l2(self.combine_l2_l3(torch.cat([self.level3_C(quarter), deep], dim=1)))
        return self.conv(torch.cat([middle, half], dim=1))


class EspEncoder(nn.Module):
    """Three stages; the picture itself, averaged down, is fed in again at strides 2 and 4."""

    def __init__(self, num_classes: int, p: int, q: int) -> None:
        super().__init__()
        self.level1 = _ConvNormAct(3, 16, 3, stride=2)
        self.b1 = _NormAct(16 + 3)
        self.level2_0 = EspDown(16 + 3, 64)
        self.level2 = nn.ModuleList(EspBlock(64, 64) for _ in range(p))
        self.b2 = _NormAct(128 + 3)
        self.level3_0 = EspDown(128 + 3, 128)
        self.level3 = nn.ModuleList(EspBlock(128, 128) for _ in range(q))
        self.b3 = _NormAct(256)
        self.classifier = _ConvHolder(256, num_classes, 1)

    def stages(self, image: Float[Tensor, "V 3 H W"]) -> tuple[Tensor, Tensor, Tensor]:
        """Features at strides 2, 4 and 8: 16, 131 and 256 channels."""
        half_image = F.avg_pool2d(image, 3, stride=2, padding=1)
        quarter_image = F.avg_pool2d(half_image, 3, stride=2, padding=1)
        first_half = self.level1(image)
        first = stage = self.level2_0(self.b1(torch.cat([first_half, half_image], dim=1)))
        for block in self.level2:
            stage = block(stage)
        quarter = self.b2(torch.cat([stage, first, quarter_image], dim=1))
        first = stage = self.level3_0(quarter)
        for block in self.level3:
            stage = block(stage)
        return first_half, quarter, self.b3(torch.cat([first, stage], dim=1))


class EspNetBackbone(nn.Module):
    """The published network as the frozen start of a student's image encoder: RGB 0..255 to strides 4 and 8.

    Nothing in it is trained, which costs no backward pass and leaves nothing to overfit on a short recording.
    """

    def __init__(self, network: EspNet) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.channels = (131 + network.level3_C.conv.out_channels, 256)

    def train(self, mode: bool = True) -> EspNetBackbone:
        """Stays in evaluation mode, norms included."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "N 3 H W"]) -> list[Tensor]:
        half, quarter, eighth = self.network.encoder.stages(standardize(images))
        evidence = F.avg_pool2d(self.network.decode(half, quarter, eighth), 2)
        return [torch.cat([quarter, evidence], dim=1), eighth]


class _PyramidBranches(nn.Module):
    """Reduce, look at five dilations at once, and add them up from the second on (hierarchical fusion)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        thin = out_channels // len(_DILATIONS)
        self.c1 = _ConvHolder(in_channels, thin, kernel, stride)
        for dilation in _DILATIONS:
            wide = out_channels - 4 * thin if dilation == 1 else thin
            self.add_module(f"d{dilation}", _ConvHolder(thin, wide, 3, dilation=dilation))

    def branches(self, x: Float[Tensor, "V C H W"]) -> Float[Tensor, "V D h w"]:
        reduced = self.c1(x)
        own, *wider = (self.get_submodule(f"d{dilation}")(reduced) for dilation in _DILATIONS)
        sums = [wider[0]]
        for branch in wider[1:]:
            sums.append(sums[-1] + branch)
        return torch.cat([own, *sums], dim=1)


class EspDown(_PyramidBranches):
    """Pyramid at half the resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel=3, stride=2)
        self.bn = nn.BatchNorm2d(out_channels, eps=_NORM_EPS)
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Float[Tensor, "V C H W"]) -> Float[Tensor, "V D h w"]:
        return self.act(self.bn(self.branches(x)))


class EspBlock(_PyramidBranches):
    """Pyramid at the same resolution, usually with a shortcut around it."""

    def __init__(self, in_channels: int, out_channels: int, has_shortcut: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel=1, stride=1)
        self.bn = _NormAct(out_channels)
        self.has_shortcut = has_shortcut

    def forward(self, x: Float[Tensor, "V C H W"]) -> Float[Tensor, "V D H W"]:
        out = self.branches(x)
        return self.bn(x + out if self.has_shortcut else out)


class _ConvHolder(nn.Module):
    """A convolution without bias under the published name ``conv``."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = (kernel - 1) // 2 * dilation
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False)

    def forward(self, x: Float[Tensor, "V C H W"]) -> Float[Tensor, "V D h w"]:
        return self.conv(x)


class _NormAct(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=_NORM_EPS)
        self.act = nn.PReLU(channels)

    def forward(self, x: Float[Tensor, "V C H W"]) -> Float[Tensor, "V C H W"]:
        return self.act(self.bn(x))


class _ConvNormAct(_NormAct):
    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(out_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - 1) // 2, bias=False)

    def forward(self, x: Float[Tensor, "V C H W"]) -> Float[Tensor, "V D h w"]:
        return super().forward(self.conv(x))


def _deconv(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)


class EspNetSegmenter:
    """Class probabilities of street images from the published weights.

    Args:
        weights: an ``.npz`` of the whole network under its published key names.
        image_hw: images are resized to this for the network.
        stride: output cells per input pixel of the resized image, averaged.
    """

    names = CITYSCAPES_NAMES

    def __init__(self, weights: str | Path, image_hw: tuple[int, int] = (512, 1024), stride: int = 8) -> None:
        self.network = load_espnet(weights)
        self.image_hw, self.stride = image_hw, stride

    @property
    def fingerprint(self) -> str:
        """Everything besides the images that the probabilities depend on."""
        return f"espnet-{self.image_hw[0]}x{self.image_hw[1]}-{self.stride}-{weights_fingerprint(self.network)}"

    def probs(self, images: UInt8[Tensor, "V 3 H W"]) -> Float[Tensor, "V K h w"]:
        """Probabilities of the 19 classes: the background is dropped and the rest made to sum to 1."""
        with torch.no_grad():
            return torch.cat([self._probs(image[None]) for image in images])

    def _probs(self, image: UInt8[Tensor, "1 3 H W"]) -> Float[Tensor, "1 K h w"]:
        logits = self.network(preprocess(image, self.image_hw))[:, : len(self.names)]
        return F.avg_pool2d(logits.softmax(dim=1), self.stride)


def preprocess(images: UInt8[Tensor, "V 3 H W"], image_hw: tuple[int, int]) -> Float[Tensor, "V 3 h w"]:
    """RGB 0..255 to what the network was trained on: BGR, standardised, then divided by 255 once more."""
    return standardize(
        F.interpolate(images.float(), size=image_hw, mode="bilinear", align_corners=False, antialias=True)
    )


def standardize(images: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V 3 H W"]:
    mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN_BGR, _STD_BGR))
    return (images.flip(1) - mean) / std / 255


def load_espnet(weights: str | Path) -> EspNet:
    """The frozen network with its published weights.

    Raises:
        WeightsError: the file is missing, is no plain ``.npz``, or holds other arrays than the network needs.
    """
    try:
        with np.load(weights, allow_pickle=False) as archive:
            arrays = {key: torch.from_numpy(archive[key]) for key in archive.files}
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"ESPNet weights must be its published npz; got {reason}. Check: {weights}") from error
    return frozen(EspNet, arrays, "ESPNet (p = 2, q = 8)")
