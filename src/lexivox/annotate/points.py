"""From a mask on an image to the LiDAR points of the object: those inside, without what lies behind or in front.

The steps of the POP-3D retrieval benchmark (paper 4.1, spec pop3d 7.4): project the sweep, take the points in the
mask, cluster them in 3D, keep the largest cluster. The published parameters are not known; ours were chosen on the
synthetic city, where the truth is (docs/annotate.md), and a person looks at every result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.errors import ConfigError

MIN_CLUSTER_SIZE = 5
REACH_M = 1.0
MAX_CLUSTERED = 20_000
"""Clustering takes time with the square of the points; no object of a street has more."""


@dataclass(frozen=True, slots=True)
class Clean:
    """How points inside a mask are cleaned up.

    Attributes:
        enabled: False keeps every point inside the mask.
        min_cluster_size: of HDBSCAN; smaller groups are noise.
        reach_m: points inside the mask within this distance of a cluster, or of points so reached, join it, and so do
            other clusters: HDBSCAN alone cuts objects where their rings of points lie apart. 0 = HDBSCAN alone.
        rank: which cluster to keep: 0 the largest, 1 the next, ...; after the smallest comes the largest again.

    Raises:
        ConfigError: a value out of range.
    """

    enabled: bool = True
    min_cluster_size: int = MIN_CLUSTER_SIZE
    reach_m: float = REACH_M
    rank: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.min_cluster_size <= 10_000:
            raise ConfigError(f"min_cluster_size must lie in 2..10000; got {self.min_cluster_size}.")
        if not 0 <= self.reach_m <= 100:
            raise ConfigError(f"reach_m must lie in 0..100; got {self.reach_m}.")
        if self.rank < 0:
            raise ConfigError(f"rank of a cluster must be at least 0; got {self.rank}.")


@dataclass(frozen=True, slots=True)
class Proposal:
    """The points that a mask suggests.

    Attributes:
        index: rows of the sweep that project into the mask, ascending.
        is_kept: True for those of the chosen cluster.
        num_clusters: clusters found; 0 where there is none or none was looked for: then every point is kept.
    """

    index: Int64[Tensor, "N"]
    is_kept: Bool[Tensor, "N"]
    num_clusters: int

    @property
    def kept(self) -> Int64[Tensor, "_"]:
        """Rows of the sweep that are kept."""
        return self.index[self.is_kept]


def propose_points(
    xyz: Float[Tensor, "P 3"],
    uv: Float[Tensor, "P 2"],
    visible: Bool[Tensor, "P"],
    mask: Bool[Tensor, "H W"],
    clean: Clean | None = None,
) -> Proposal:
    """The points of a sweep that lie in a mask, and which of them to keep.

    Args:
        xyz: the sweep, metres, in any frame.
        uv: its pixels in the camera of the mask, and
        visible: True where that camera sees a point (:func:`lexivox.supervision.targets.project_lidar`).
        mask: True on the object.
        clean: default: the largest cluster.

    Raises:
        ConfigError: too many points to cluster, or scikit-learn is missing.
    """
    clean, index = clean or Clean(), points_in_mask(uv, visible, mask)
    everything = torch.ones_like(index, dtype=torch.bool)
    if not clean.enabled:
        return Proposal(index, everything, 0)
    cluster = join_clusters(xyz[index], find_clusters(xyz[index], clean.min_cluster_size), clean.reach_m)
    count = int(cluster.max()) + 1 if len(cluster) else 0
    if not count:
        return Proposal(index, everything, 0)
    return Proposal(index, cluster == clean.rank % count, count)


def points_in_mask(
    uv: Float[Tensor, "P 2"], visible: Bool[Tensor, "P"], mask: Bool[Tensor, "H W"]
) -> Int64[Tensor, "N"]:
    """Rows of the visible points whose pixel the mask holds, ascending."""
    rows = visible.nonzero()[:, 0]
    column, row = uv[rows].floor().long().unbind(-1)
    height, width = mask.shape  # a pixel just inside may be rounded onto the border
    return rows[mask[row.clamp_max(height - 1), column.clamp_max(width - 1)]]


def matching_points(visible: Bool[Tensor, "V P"]) -> Int64[Tensor, "S"]:
    """Rows of the points that cameras see, camera after camera: a point once for each camera that sees it."""
    return visible.nonzero()[:, 1]


def find_clusters(xyz: Float[Tensor, "N 3"], min_cluster_size: int = MIN_CLUSTER_SIZE) -> Int64[Tensor, "N"]:
    """HDBSCAN's cluster of every point, the largest 0, the next 1, ...; -1 is noise.

    Fewer points than a cluster needs are all noise. All points may form one cluster: a mask often holds nothing
    but the object.

    Raises:
        ConfigError: too many points, or scikit-learn is missing.
    """
    if len(xyz) < min_cluster_size:
        return torch.full((len(xyz),), -1)
    if len(xyz) > MAX_CLUSTERED:
        raise ConfigError(
            f"points to clean up must be at most {MAX_CLUSTERED}; got {len(xyz)}. "
            "Draw a smaller box, or switch the clean-up off."
        )
    try:
        from sklearn.cluster import HDBSCAN
    except ImportError as error:
        raise ConfigError(
            'package scikit-learn must be installed to clean up points; got none. Run: pip install "lexivox[annotate]".'
        ) from error
    model = HDBSCAN(min_cluster_size=min_cluster_size, allow_single_cluster=True, copy=True)  # type: ignore[arg-type]
    return _by_size(torch.from_numpy(model.fit_predict(xyz.double().numpy())).long())


def _by_size(cluster: Int64[Tensor, "N"]) -> Int64[Tensor, "N"]:
    """Clusters renumbered, the largest first; of equal ones the one that was first. Noise stays -1."""
    sizes = torch.bincount(cluster[cluster >= 0])  # empty ones come last
    rank = sizes.argsort(descending=True, stable=True).argsort()
    return torch.where(cluster >= 0, rank[cluster.clamp_min(0)], -1) if len(sizes) else cluster


def join_clusters(xyz: Float[Tensor, "N 3"], cluster: Int64[Tensor, "N"], reach_m: float) -> Int64[Tensor, "N"]:
    """Clusters with the points that they reach; those that reach each other are one. Numbered by size again."""
    joined = torch.full_like(cluster, -1)
    for number in range(int(cluster.max()) + 1 if len(cluster) else 0):
        own = cluster == number
        if (joined[own] < 0).all():  # no larger one has reached it
            joined[grow(xyz, own, reach_m)] = number
    return _by_size(joined)


def grow(xyz: Float[Tensor, "N 3"], chosen: Bool[Tensor, "N"], reach_m: float) -> Bool[Tensor, "N"]:
    """``chosen`` and all points that steps of at most ``reach_m`` metres lead to from there."""
    found, front = chosen.clone(), chosen
    while reach_m > 0 and front.any() and not found.all():
        left = (~found).nonzero()[:, 0]
        is_near = [(torch.cdist(part, xyz[front]) <= reach_m).any(dim=1) for part in xyz[left].split(1024)]
        front = torch.zeros_like(found)
        front[left[torch.cat(is_near)]] = True
        found |= front
    return found
