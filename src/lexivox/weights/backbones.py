"""Start values of an image encoder: the detector FCOS3D, or MoCo v2 and other classifiers (spec POP-3D 2.1)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from lexivox.backbones.pixels import IMAGENET_STD, NO_STD, convert_first_convolution
from lexivox.errors import WeightsError
from lexivox.weights.checkpoint import read_checkpoint
from lexivox.weights.keys import modern_name
from lexivox.weights.match import fill

logger = logging.getLogger(__name__)

OFFSETS = ".conv_offset."
"""In the names of deformable convolutions' own arrays, which start at zero where a file has none."""


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of file.

    Attributes:
        backbone: prefix of the backbone's arrays, all of which must fit; a classifier ``fc`` is left out.
        neck: prefix of the neck's; None where there is no neck, and no deformable convolution either.
        std, is_bgr: the pixels it was shown.
    """

    name: str
    backbone: str
    neck: str | None = None
    std: tuple[float, float, float] = IMAGENET_STD
    is_bgr: bool = False


SOURCES = (
    Source("FCOS3D", "img_backbone.", "img_neck.", NO_STD, is_bgr=True),
    Source("FCOS3D", "backbone.", "neck.", NO_STD, is_bgr=True),
    Source("MoCo v2", "encoder_q."),
    Source("ResNet", ""),
)
"""The first whose ``conv1.weight`` is in the file."""


def fill_image_encoder(encoder: nn.Module, path: str | Path, convert: bool = True) -> tuple[str, ...]:
    """Fill the backbone, and from a detector the neck, of a :class:`lexivox.encoders.image.ImageEncoder`.

    Args:
        convert: where the file's network was shown other pixels than ``encoder.preprocess`` makes, convert the
            first convolution so that it answers the same.

    Returns:
        Names in the file that were left out: the detector's head, a classifier, further pyramid levels.

    Raises:
        WeightsError: no array fits, one is missing, or one has another shape.
    """
    given = {modern_name(name): tensor for name, tensor in read_checkpoint(path).items()}
    source = next((kind for kind in SOURCES if f"{kind.backbone}conv1.weight" in given), None)
    if source is None:
        raise WeightsError(
            "weights of an image backbone must be those of FCOS3D, MoCo v2 or a ResNet classifier; got no conv1.weight "
            f"of any, so 0 arrays fit; the first name is {next(iter(given))}. Check: {path}"
        )
    names = _names(encoder, source, has_offsets=any(OFFSETS in name for name in given))
    taken = {name: t for name, t in given.items() if name in names.values() or _is_of_backbone(name, source)}
    if convert:
        _convert(taken, f"{source.backbone}conv1.weight", source, encoder)
    advice = f"Set backbone, style and deformable stages as the file has them: {path}"
    fill(encoder, names, taken, f"{source.name} weights", advice)
    left_out = tuple(name for name in given if name not in taken)
    logger.info("%s: %d arrays taken, %d left out (%s)", path, len(taken), len(left_out), ", ".join(left_out[:3]))
    return left_out


def _names(encoder: nn.Module, source: Source, has_offsets: bool) -> dict[str, str]:
    """Own name -> name in the file."""
    names = {}
    for ours in encoder.state_dict():
        part, _, rest = ours.partition(".")
        if part == "backbone" and (source.neck or has_offsets or OFFSETS not in ours):
            names[ours] = source.backbone + rest
        elif part == "pyramid" and source.neck:
            kind, number, rest = rest.split(".", 2)
            names[ours] = f"{source.neck}{'lateral' if kind == 'lateral' else 'fpn'}_convs.{number}.conv.{rest}"
    return names


def _is_of_backbone(name: str, source: Source) -> bool:
    return name.startswith(source.backbone) and not name.startswith(f"{source.backbone}fc.")


def _convert(taken: dict[str, Tensor], first: str, source: Source, encoder: nn.Module) -> None:
    taken[first] = convert_first_convolution(taken[first], source, encoder.preprocess)  # type: ignore[arg-type]
