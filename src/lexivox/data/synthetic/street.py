"""The plan of the ground: where road, kerb, pavement and grass lie.

World frame of a drive: the street runs along x, its middle is y = 0, the road surface is z = 0. Traffic keeps
right, so the ego drives along +x at y < 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lexivox.data.synthetic.concepts import Concept
from lexivox.data.synthetic.shapes import Array

SLAB_DEPTH_M = 70.0
KERB_M = 0.3
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Street:
    """Measures in metres. ``crossings (k, 2)``: middle and half width of the side streets along x."""

    lane_m: float
    num_lanes: int  # per direction
    parking_m: float
    crossings: Array
    kerb_height_m: float
    verge_m: float
    sidewalk_m: float
    setback_m: float
    has_plaza: bool
    asphalt: float
    hue: float  # of the grass and the leaves
    paving: tuple[float, float, float]

    @property
    def half_m(self) -> float:
        return self.lane_m * self.num_lanes + self.parking_m

    def crossing_gap(self, x: Array) -> Array:
        """Distance along x to the nearest side street's edge; below 0 inside one."""
        return np.min(np.abs(x[..., None] - self.crossings[:, 0]) - self.crossings[:, 1], axis=-1)

    def concept_at(self, x: Array, y: Array) -> Array:
        """The ground's concept at world points: road (0 m) or what lies on the raised blocks beside it."""
        gap, edge = self.crossing_gap(x), np.abs(y) - self.half_m
        inner = np.minimum(gap, edge)
        near_corner = (gap < 7.0) & (edge < KERB_M + self.verge_m)
        concept = np.full(x.shape, Concept.SIDEWALK if self.has_plaza else Concept.GRASS, dtype=np.uint8)
        walk_end = KERB_M + self.verge_m + self.sidewalk_m
        concept[inner < walk_end] = Concept.SIDEWALK
        concept[(inner < KERB_M + self.verge_m) & ~near_corner] = Concept.GRASS
        concept[inner < KERB_M] = Concept.KERB
        concept[inner < 0] = Concept.ROAD
        concept[(edge > SLAB_DEPTH_M) & (gap > 0)] = Concept.GRASS
        return concept


def make_street(rng: Rng, length_m: float) -> Street:
    """Draw a street; side streets come every 45 to 90 m from 90 m behind the start to 90 m past the end."""
    lanes = int(rng.choice([1, 1, 2]))
    middle, crossings = -100.0 + rng.uniform(0, 40), []
    while middle < length_m + 110:
        crossings.append((middle, rng.uniform(3.0, 5.0)))
        middle += rng.uniform(48, 95)
    has_verge = rng.random() < 0.7
    grey = rng.uniform(0.5, 0.68)
    return Street(
        lane_m=rng.uniform(3.1, 3.8),
        num_lanes=lanes,
        parking_m=rng.uniform(2.1, 2.5),
        crossings=np.array(crossings),
        kerb_height_m=rng.uniform(0.10, 0.16),
        verge_m=rng.uniform(1.2, 2.6) if has_verge else 0.0,
        sidewalk_m=rng.uniform(2.4, 4.2),
        setback_m=rng.uniform(0.0, 6.0),
        has_plaza=rng.random() < 0.35,
        asphalt=rng.uniform(0.24, 0.42),
        hue=rng.uniform(0.20, 0.33),
        paving=(grey * rng.uniform(0.98, 1.1), grey, grey * rng.uniform(0.85, 1.0)),
    )


def block_intervals(street: Street) -> list[tuple[float, float]]:
    """The stretches of x between side streets."""
    ends = street.crossings
    return [(a[0] + a[1], b[0] - b[1]) for a, b in pairwise(ends)]
