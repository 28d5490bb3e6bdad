"""A closed segmenter made askable: class probabilities times the text vectors of the class names.

Such a teacher is **closed in what it sees, open in how it is asked**: it knows only the classes of its
segmenter, but any word near one of their names finds them. Say so wherever its results are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lexivox.errors import ConfigError
from lexivox.teachers.base import TextEncoder
from lexivox.teachers.text import CenteredTextEncoder


@runtime_checkable
class Segmenter(Protocol):
    """Anything with class probabilities per cell."""

    @property
    def fingerprint(self) -> str: ...

    def probs(self, images: UInt8[Tensor, "V 3 H W"]) -> Float[Tensor, "V K h w"]: ...


class ClassTextTeacher:
    """Per cell: the probability-weighted mean of the class names' centred text vectors.

    Args:
        segmenter: probabilities of K classes.
        class_names: K names, as they should be understood by the text encoder.
        text_encoder: encodes the names once, here; queries go through :meth:`text_encoder`.

    Raises:
        ConfigError: fewer than two names (nothing remains after centring).
    """

    def __init__(self, segmenter: Segmenter, class_names: Sequence[str], text_encoder: TextEncoder) -> None:
        if len(class_names) < 2:
            raise ConfigError(f"class names must be at least two; got {list(class_names)}. Name every class.")
        self.segmenter, self.class_names = segmenter, tuple(class_names)
        center = text_encoder.encode(self.class_names).mean(dim=0)
        self._text_encoder = CenteredTextEncoder(text_encoder, center)
        self.class_vectors = self._text_encoder.encode(self.class_names)  # (K, D)

    @property
    def space(self) -> str:
        return self._text_encoder.space

    @property
    def dim(self) -> int:
        return self._text_encoder.dim

    @property
    def fingerprint(self) -> str:
        """Everything besides the images that the features depend on."""
        return f"{self.space}-{self.segmenter.fingerprint}"

    def text_encoder(self) -> CenteredTextEncoder:
        """The encoder whose vectors fit these features."""
        return self._text_encoder

    def features(self, images: UInt8[Tensor, "V 3 H W"]) -> Float[Tensor, "V D h w"]:
        """Mixed text vectors; short where the segmenter is unsure."""
        probs = self.segmenter.probs(images)
        if probs.shape[1] != len(self.class_names):
            raise ConfigError(
                f"class names must name every class of the segmenter ({probs.shape[1]}); "
                f"got {len(self.class_names)}. Give one name per class."
            )
        return torch.einsum("vkhw,kd->vdhw", probs, self.class_vectors.to(probs))
