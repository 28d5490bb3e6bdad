"""POP-3D's evaluation as one object: each choice on which paper, released code and good practice differ is one field.

The names that it gives to the three scores travel with every number, into JSON, Markdown and HTML.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lexivox.errors import ConfigError

Rays = Literal["exact", "sampled100"]
VoxelNoise = Literal["in_range", "clamped"]
PointSet = Literal["unique", "dup"]
PointNoise = Literal["ignored", "errors"]
Outside = Literal["keep", "clamp", "drop"]
Similarity = Literal["cosine", "dot"]

Headline = tuple[str, str, str]
"""Name in short tables, name of the protocol, metric under it."""


@dataclass(frozen=True, slots=True)
class Pop3dProtocol:
    """How the three scores of POP-3D are made (spec pop3d 7, errata 7 to 13). The default is what we recommend.

    Attributes:
        rays: what LiDAR rays free in the truth: every voxel that they pass, or those of 100 samples towards each
            return, which misses about 4 % of them (erratum 8).
        noise_voxels: which voxels that noise won count as occupied in the class-agnostic score: those by the returns
            inside the grid, or also by those moved onto its border, as published (erratum 7).
        points: each LiDAR point that a camera sees once, or once for every camera that sees it, the last row and column
            of pixels left out, as published (erratum 11). A teacher's features of a point are averaged, or one by one.
        noise_points: points labelled as noise are left out or, as for the published baselines, each is an error of the
            class that is predicted there (erratum 11).
        outside: points outside the grid are asked where they are, moved onto its border as published, or left out as
            later work does (erratum 6, spec 7.4).
        similarity: ranking by direction only, or by the published dot product, which depends on a feature's length
            (erratum 12).
        absent: whether a headline mIoU leaves out classes that are never true or counts each as 1, as published
            (erratum 10). Both are always reported: ``miou_present`` and ``miou``.
        agnostic: the headline of the class-agnostic score: IoU of occupied voxels, or the mean that the published code
            prints (erratum 9). Both are always reported.
    """

    rays: Rays = "exact"
    noise_voxels: VoxelNoise = "in_range"
    points: PointSet = "unique"
    noise_points: PointNoise = "ignored"
    outside: Outside = "keep"
    similarity: Similarity = "cosine"
    absent: Literal["left_out", "one"] = "left_out"
    agnostic: Literal["iou_occupied", "miou_2class"] = "iou_occupied"

    @property
    def name(self) -> str:
        """``"recommended"``, ``"published"``, ... or ``"custom"``."""
        return next((name for name, protocol in PROTOCOLS.items() if protocol == self), "custom")

    @property
    def occupancy(self) -> str:
        return f"pop3d-occupancy/{self.rays}{'+clamped' if self.noise_voxels == 'clamped' else ''}"

    @property
    def lidar(self) -> str:
        noise = "+noise" if self.noise_points == "errors" else ""
        return f"pop3d-lidar/{self.points}{noise}{self._outside}"

    @property
    def retrieval(self) -> str:
        return f"pop3d-retrieval/{self.similarity}{self.retrieval_suffix}"

    @property
    def retrieval_suffix(self) -> str:
        """What the name of a retrieval score says beside the similarity."""
        return f"{'+dup' if self.points == 'dup' else ''}{self._outside}"

    @property
    def _outside(self) -> str:
        return "" if self.outside == "keep" else f"+{self.outside}"

    @property
    def headlines(self) -> tuple[Headline, ...]:
        """The four numbers that a short table shows."""
        miou = "miou" if self.absent == "one" else "miou_present"
        return (
            (self.agnostic, self.occupancy, self.agnostic),
            ("miou", self.occupancy, miou),
            ("lidar_miou", self.lidar, miou),
            ("retrieval_map", self.retrieval, "map"),
        )


PUBLISHED = Pop3dProtocol(
    rays="sampled100", noise_voxels="clamped", points="dup", outside="clamp", similarity="dot", absent="one"
)
"""The released evaluation of POP-3D, for numbers that stand beside the paper's."""

PROTOCOLS = {
    "recommended": Pop3dProtocol(),
    "published": PUBLISHED,
    "published_baselines": Pop3dProtocol(
        rays="sampled100", noise_voxels="clamped", points="dup", noise_points="errors", outside="clamp",
        similarity="dot", absent="one",
    ),
}  # fmt: skip
"""Protocols by the name that the command line knows."""


def protocol_named(name: str) -> Pop3dProtocol:
    """Raises:
    ConfigError: no protocol has this name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol must be one of {', '.join(PROTOCOLS)}; got {name!r}.")
    return PROTOCOLS[name]
