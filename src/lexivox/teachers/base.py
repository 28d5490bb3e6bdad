"""The two small protocols behind which every frozen image-text model stands.

An image teacher turns pictures into dense features, a text encoder turns words into vectors. Both name the
``space`` their vectors live in; they fit together if and only if these names are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from lexivox.data.types import PointFeatures, Sample
from lexivox.errors import ConfigError


@runtime_checkable
class ImageTeacher(Protocol):
    """A frozen image model with language-aligned dense features; it never receives a gradient."""

    @property
    def space(self) -> str:
        """Readable id and fingerprint of the embedding space."""
        ...

    @property
    def dim(self) -> int:
        """Channels D of a feature."""
        ...

    def features(self, images: UInt8[Tensor, "V 3 H W"]) -> Float[Tensor, "V D h w"]:
        """Dense features of RGB images 0..255; their length is free, their direction is the meaning.

        Cell (row, col) is centred at image pixel ``((col + 0.5) * W / w, (row + 0.5) * H / h)``.
        """
        ...


@runtime_checkable
class PointTeacher(Protocol):
    """A teacher whose features at LiDAR points were computed elsewhere."""

    def point_features(self, sample: Sample) -> PointFeatures:
        """Features of the points of a keyframe that cameras see.

        Raises:
            DataError: they are missing or not finite.
        """
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Words to unit vectors."""

    @property
    def space(self) -> str:
        """Readable id and fingerprint of the embedding space."""
        ...

    @property
    def dim(self) -> int:
        """Channels D of a vector."""
        ...

    def encode(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[Tensor, "M D"]:
        """Unit vectors, one row per text. ``prompts`` replaces the encoder's own sentence templates."""
        ...


def check_same_space(teacher: ImageTeacher, encoder: TextEncoder) -> None:
    """Refuse a text encoder whose vectors mean nothing to this teacher.

    Raises:
        ConfigError: the spaces differ.
    """
    if teacher.space != encoder.space:
        raise ConfigError(
            f"text encoder must share the image teacher's space '{teacher.space}'; got '{encoder.space}'. "
            "Query with the text encoder that belongs to the teacher."
        )
