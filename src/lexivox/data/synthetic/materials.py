"""Surface programs: from a point on a surface to its colour and concept; doors and windows are painted on.

Every program reads a ``Patch`` (all hits on shapes of one material) and returns colours ``(n, 3)`` and
concepts ``(n,)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from lexivox.data.synthetic.concepts import Concept
from lexivox.data.synthetic.shapes import Array
from lexivox.data.synthetic.street import Street


class Material(IntEnum):
    PLAIN = 0
    GROUND = 1
    SLAB = 2
    FACADE = 3
    ROOF = 4
    CAR_BODY = 5
    CABIN = 6
    TYRE = 7
    BUS = 8
    PANEL = 9
    BARK = 10
    LEAVES = 11
    SIGN = 12
    CONE = 13
    STRIPES = 14


@dataclass(frozen=True, slots=True)
class Patch:
    """Hits on one material; lengths in metres."""

    world: Array  # (3, n)
    local: Array  # (3, n) in the shape's axes, origin at its centre
    normal: Array  # (3, n) in the shape's axes
    half: Array  # (3, n)
    colour: Array  # (n, 3)
    accent: Array  # (n, 3)
    params: Array  # (n, NUM_PARAMS)
    concept: Array  # (n,)
    range_m: Array  # (n,)

    @property
    def detail(self) -> Array:
        """How much fine texture survives at this distance, 1 near to 0 far."""
        return np.clip(1.0 - self.range_m / 30.0, 0.0, 1.0).astype(np.float32)


def _noise_tile(size: int, slope: float) -> Array:
    """A periodic cloud of noise with spectrum 1 / f^slope, mean 0, deviation 1; the same in every process."""
    rng = np.random.Generator(np.random.PCG64(20240229))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :]) * size
    spectrum = np.fft.fft2(rng.standard_normal((size, size))) / np.maximum(frequency, 1.0) ** slope
    tile = np.fft.ifft2(spectrum).real
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


_TILE = 256
_ROUGH, _SOFT = _noise_tile(_TILE, 0.3), _noise_tile(_TILE, 1.2)


def noise(u: Array, v: Array, cells_per_m: float, soft: bool = False) -> Array:
    """Nearest-cell lookup of the noise tile at surface coordinates in metres."""
    tile = _SOFT if soft else _ROUGH
    i = (u * cells_per_m + 8 * _TILE).astype(np.int32) & (_TILE - 1)
    j = (v * cells_per_m + 8 * _TILE).astype(np.int32) & (_TILE - 1)
    return tile[i, j]


def _hash(*keys: Array | float) -> Array:
    """A number in [0, 1) for every tuple of whole numbers."""
    total = sum(np.asarray(k, dtype=np.float64) * w for k, w in zip(keys, (12.9898, 78.233, 37.719), strict=False))
    wave = np.sin(total) * 43758.5453
    return wave - np.floor(wave)


def _painted(base: Array, factor: Array) -> Array:
    return base * (1.0 + factor)[:, None]


def _along(patch: Patch) -> tuple[Array, Array, Array]:
    """Coordinate along the face (sideways), half length of the face, and whether the face is upright."""
    on_x = np.abs(patch.normal[0]) > np.abs(patch.normal[1])
    u = np.where(on_x, patch.local[1], patch.local[0])
    half = np.where(on_x, patch.half[1], patch.half[0])
    return u, half, np.abs(patch.normal[2]) < 0.9


def plain(patch: Patch, street: Street) -> tuple[Array, Array]:
    return _painted(patch.colour, 0.03 * noise(patch.local[0], patch.local[2], 12.0)), patch.concept


def ground(patch: Patch, street: Street) -> tuple[Array, Array]:
    """Asphalt with markings; grass beyond the blocks."""
    x, y = patch.world[0], patch.world[1]
    concept = street.concept_at(x, y)
    concept[(concept != Concept.GRASS)] = Concept.ROAD
    fleck = 0.05 * noise(x, y, 9.0) * patch.detail + 0.06 * noise(x, y, 1.1, soft=True)
    colour = _painted(np.full((x.size, 3), street.asphalt, np.float32), fleck)
    marked = _lane_markings(x, y, street)
    concept[marked & (concept == Concept.ROAD)] = Concept.LANE_MARKING
    worn = 0.82 + 0.08 * noise(x, y, 5.0)
    colour[marked] = worn[marked, None]
    grass = concept == Concept.GRASS
    colour[grass] = _grass(x[grass], y[grass], patch.detail[grass], street)
    return colour, concept


def _grass(x: Array, y: Array, detail: Array, street: Street) -> Array:
    base = np.array([0.30 + 0.5 * (0.33 - street.hue), 0.44, 0.17], np.float32)
    return base * (1.0 + 0.2 * noise(x, y, 7.0) * detail + 0.15 * noise(x, y, 0.9, soft=True))[:, None]


def _lane_markings(x: Array, y: Array, street: Street) -> Array:
    """Centre line, dashes between lanes, parking line, zebra crossings before side streets."""
    gap = street.crossing_gap(x)
    across = np.abs(y)
    inner = street.half_m - street.parking_m
    dash = np.mod(x, 6.0) < 3.0
    lane = np.mod(across + street.lane_m / 2, street.lane_m) - street.lane_m / 2
    lines = (across < 0.08) & ((street.num_lanes > 1) | dash)
    lines |= (np.abs(lane) < 0.07) & dash & (across > 1.0) & (across < inner - 1.0)
    lines |= (np.abs(across - inner) < 0.06) & (gap > 2.0)
    zebra = (gap > 1.0) & (gap < 3.6) & (np.mod(y, 1.1) < 0.55) & (across < street.half_m - 0.3)
    return (lines & (gap > 4.5)) | zebra


def slab(patch: Patch, street: Street) -> tuple[Array, Array]:
    """The raised block beside the road: kerb stones, verge, pavement, garden."""
    x, y = patch.world[0], patch.world[1]
    concept = street.concept_at(x, y)
    side = patch.normal[2] < 0.5
    concept[side | (concept == Concept.ROAD)] = Concept.KERB
    paving = np.asarray(street.paving, np.float32)
    joint = (np.mod(x, 0.9) < 0.06) | (np.mod(y, 0.9) < 0.06)
    tone = 0.06 * noise(np.floor(x / 0.9), np.floor(y / 0.9), 1.0) + 0.03 * noise(x, y, 8.0)
    colour = _painted(np.broadcast_to(paving, (x.size, 3)), tone - 0.18 * joint * patch.detail)
    kerb = concept == Concept.KERB
    stones = (np.mod(x + y, 1.0) < 0.06)[kerb] * patch.detail[kerb]
    colour[kerb] = (np.float32(0.66) * (1.0 + 0.04 * noise(x[kerb], y[kerb], 6.0) - 0.3 * stones))[:, None]
    grass = concept == Concept.GRASS
    colour[grass] = _grass(x[grass], y[grass], patch.detail[grass], street)
    return colour.astype(np.float32), concept


def facade(patch: Patch, street: Street) -> tuple[Array, Array]:
    """Walls of bricks, plaster or slabs with a grid of windows and a few doors on the ground floor."""
    storey, cell_m, window_w, window_h, seed, style = patch.params.T
    u, half, upright = _along(patch)
    height = patch.local[2] + patch.half[2]
    num_cells = np.maximum(1.0, np.floor(2 * half / cell_m))
    width = 2 * half / num_cells
    cell = np.clip(np.floor((u + half) / width), 0, num_cells - 1)
    du = np.abs(u + half - (cell + 0.5) * width)
    floor = np.floor(height / storey)
    dv = height - floor * storey
    side = np.sign(patch.normal[0]) + 2 * np.sign(patch.normal[1])
    is_door_cell = (floor == 0) & (np.mod(cell + np.floor(seed), 4.0) == np.mod(np.floor(seed / 4), 3.0))
    door = upright & is_door_cell & (du < 0.55) & (dv < 2.25)
    frame = upright & is_door_cell & (du < 0.68) & (dv < 2.38) & ~door
    shop = (floor == 0) & (np.mod(seed, 1.0) > 0.6)
    half_w = np.where(shop, 0.42 * width, np.minimum(window_w / 2, 0.40 * width))
    sill = np.where(shop, 0.5, 0.95)
    below_roof = height < 2 * patch.half[2] - 0.5
    pane = upright & ~is_door_cell & below_roof & (du < half_w) & (dv > sill) & (dv < sill + window_h)
    colour = _wall_colour(patch, u, height, style)
    colour[frame] = (0.88, 0.87, 0.84)
    colour[door] = _door_colour(patch, u + half - (cell + 0.5) * width, dv)[door]
    colour[pane] = _pane_colour(half_w - du, dv - sill, window_h, _hash(cell, floor + 7 * side, seed))[pane]
    concept = patch.concept.copy()
    concept[door], concept[pane] = Concept.DOOR, Concept.WINDOW
    return colour, concept


def _wall_colour(patch: Patch, u: Array, height: Array, style: Array) -> Array:
    row = np.floor(height / 0.22)
    shift = np.mod(u + 0.22 * np.mod(row, 2.0), 0.44)
    mortar = (np.mod(height, 0.22) < 0.04) | (shift < 0.04)
    brick = 0.10 * noise(np.floor((u + 0.22 * np.mod(row, 2.0)) / 0.44), row, 1.0) + 0.45 * mortar
    plaster = 0.03 * noise(u, height, 2.0) + 0.05 * noise(u, height, 0.7, soft=True)
    slabs = 0.05 * noise(np.floor(u / 1.5), np.floor(height / 0.75), 1.0)
    slabs = slabs - 0.2 * ((np.mod(u, 1.5) < 0.05) | (np.mod(height, 0.75) < 0.05))
    texture = np.where(style == 0, brick * patch.detail, np.where(style == 1, plaster, slabs * patch.detail))
    return _painted(patch.colour, texture).astype(np.float32)


def _door_colour(patch: Patch, u: Array, v: Array) -> Array:
    panel = (np.abs(np.abs(u) - 0.27) < 0.17) & ((np.abs(v - 0.6) < 0.38) | (np.abs(v - 1.6) < 0.42))
    colour = _painted(patch.accent, np.where(panel, -0.25, 0.0) + 0.03 * noise(u, v, 9.0))
    knob = (np.abs(u - 0.42) < 0.06) & (np.abs(v - 1.05) < 0.07)
    colour[knob] = (0.9, 0.8, 0.4)
    return colour


def _pane_colour(edge_u: Array, v: Array, window_h: Array, chance: Array) -> Array:
    frame = (edge_u < 0.08) | (v < 0.08) | (v > window_h - 0.08) | (np.abs(v - 0.6 * window_h) < 0.03)
    shine = 0.16 + 0.22 * v / window_h + 0.2 * chance
    colour = np.stack([shine * 0.75, shine * 0.95, shine * 1.2], axis=-1).astype(np.float32)
    colour[chance > 0.9] = (0.85, 0.75, 0.5)
    curtain = (chance < 0.2) & (edge_u < 0.35)
    colour[curtain] = (0.8, 0.78, 0.74)
    colour[frame] = (0.9, 0.9, 0.88)
    return colour


def roof(patch: Patch, street: Street) -> tuple[Array, Array]:
    tiles = (np.mod(patch.local[2], 0.3) < 0.06) | (np.mod(patch.local[0], 0.35) < 0.04)
    tone = 0.08 * noise(patch.local[0], patch.local[2], 3.0) - 0.25 * tiles * patch.detail
    return _painted(patch.colour, tone), patch.concept
