"""How a run is scored, as objects: each choice on which papers, released code and good practice differ is one field.

The names that a protocol gives to its scores travel with every number, into JSON, Markdown and HTML.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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
    kind: Literal["pop3d"] = "pop3d"

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


@dataclass(frozen=True, slots=True)
class Occ3dProtocol:
    """Maps against complete voxels: those of a simulator, or labels of Occ3D's kind (spec occflownet 6.1, 6.2).

    mIoU under the masks ``none``, ``lidar`` and ``camera``, RayIoU, and what moves apart from what stands.

    Attributes:
        moving_m_s: voxels faster than this move.
        path_s: so long before and after, what moves leaves or takes the free voxels of its path.
    """

    moving_m_s: float = 0.5
    path_s: float = 1.5
    kind: Literal["occ3d"] = "occ3d"

    @property
    def name(self) -> str:
        return "occ3d" if self == Occ3dProtocol() else "custom"

    @property
    def headlines(self) -> tuple[Headline, ...]:
        """Under the camera mask, as published numbers are; RayIoU needs none."""
        camera = f"{VOXELS}/camera"
        return (
            ("iou_occupied", camera, "iou_occupied"),
            ("miou", camera, "miou"),
            ("miou_dynamic", camera, "miou_dynamic"),
            ("rayiou", RAYS, "rayiou"),
        )


VOXELS, RAYS, MOVING = "occ3d", "rayiou/occ3d", "occ3d-moving/camera"
"""Names of the scores of :class:`Occ3dProtocol`; the first is followed by ``/`` and the mask."""


@dataclass(frozen=True, slots=True)
class DepthProtocol:
    """Distances along LiDAR rays, read from a map, against those measured; needs no label.

    Only returns inside the grid and seen by a camera count.

    Attributes:
        min_depth_m, max_depth_m: returns nearer or farther do not count.
    """

    min_depth_m: float = 1.0
    max_depth_m: float = 80.0
    kind: Literal["depth"] = "depth"

    @property
    def name(self) -> str:
        return "depth" if self == DepthProtocol() else "custom"

    @property
    def scores(self) -> tuple[str, str]:
        """Names of the scores of rendered depth and of the first voxel that is occupied."""
        span = f"{self.min_depth_m:g}-{self.max_depth_m:g}m"
        return f"depth-rendered/{span}", f"depth-first/{span}"

    @property
    def headlines(self) -> tuple[Headline, ...]:
        rendered, first = self.scores
        return (
            ("abs_rel", rendered, "abs_rel"),
            ("rmse_m", rendered, "rmse_m"),
            ("delta_1", rendered, "delta_1"),
            ("first_abs_rel", first, "abs_rel"),
        )


RunProtocol = Pop3dProtocol | Occ3dProtocol | DepthProtocol


def protocol_from(fields: dict[str, Any]) -> RunProtocol:
    """A protocol from its fields, as a file holds them; without a kind it is POP-3D's.

    Raises:
        TypeError: fields that it does not have.
        KeyError: no such kind.
    """
    return {"pop3d": Pop3dProtocol, "occ3d": Occ3dProtocol, "depth": DepthProtocol}[fields.get("kind", "pop3d")](
        **fields
    )


PROTOCOLS = {
    "recommended": Pop3dProtocol(),
    "published": PUBLISHED,
    "published_baselines": Pop3dProtocol(
        rays="sampled100", noise_voxels="clamped", points="dup", noise_points="errors", outside="clamp",
        similarity="dot", absent="one",
    ),
}  # fmt: skip
"""Variants of POP-3D's by name."""

RUN_PROTOCOLS: dict[str, RunProtocol] = {**PROTOCOLS, "occ3d": Occ3dProtocol(), "depth": DepthProtocol()}
"""Protocols by the name that the command line knows."""


def protocol_named(name: str) -> RunProtocol:
    """Raises:
    ConfigError: no protocol has this name.
    """
    if name not in RUN_PROTOCOLS:
        raise ConfigError(f"protocol must be one of {', '.join(RUN_PROTOCOLS)}; got {name!r}.")
    return RUN_PROTOCOLS[name]
