"""Surface programs of vehicles, trees and street furniture, and the table of all programs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lexivox.data.synthetic import materials as m
from lexivox.data.synthetic.concepts import Concept
from lexivox.data.synthetic.materials import Material, Patch
from lexivox.data.synthetic.shapes import Array
from lexivox.data.synthetic.street import Street

Program = Callable[[Patch, Street], tuple[Array, Array]]
_GLASS = np.array([0.10, 0.13, 0.17], np.float32)


def _glass(patch: Patch) -> Array:
    shine = np.clip(0.5 + patch.local[2] / (2 * patch.half[2]), 0, 1)
    return _GLASS * (0.7 + 1.3 * shine)[:, None].astype(np.float32)


def car_body(patch: Patch, street: Street) -> tuple[Array, Array]:
    """Paint with lamps at both ends, number plates, a dark sill, door gaps."""
    x, y, z = patch.local
    colour = patch.colour.copy()
    rise = z / patch.half[2]
    colour[rise < -0.72] = 0.08
    gap = (np.abs(np.abs(x + 0.1) - 0.55) < 0.02) & (np.abs(patch.normal[1]) > 0.5) & (rise < 0.9)
    colour[gap] *= 0.4
    front, back = patch.normal[0] > 0.7, patch.normal[0] < -0.7
    lamp = (np.abs(y) > 0.58 * patch.half[1]) & (np.abs(rise - 0.35) < 0.25)
    colour[front & lamp] = (0.96, 0.96, 0.88)
    colour[back & lamp] = (0.80, 0.06, 0.05)
    grille = (np.abs(y) < 0.5 * patch.half[1]) & (np.abs(rise - 0.2) < 0.22)
    colour[front & grille] = 0.10
    plate = (np.abs(y) < 0.27) & (np.abs(rise + 0.3) < 0.16)
    colour[(front | back) & plate] = (0.92, 0.92, 0.88)
    return colour, patch.concept


def cabin(patch: Patch, street: Street) -> tuple[Array, Array]:
    """The upper part of a car: glass on four sides between pillars, painted roof."""
    x, y, z = patch.local
    rise = z / patch.half[2]
    upright = np.abs(patch.normal[2]) < 0.93
    on_side = np.abs(patch.normal[1]) > np.abs(patch.normal[0])
    room = 1.0 - 0.5 * np.abs(rise + 1.0) * 0.2
    pillar = np.where(on_side, np.abs(x) < 0.05, np.abs(y) > (room - 0.12) * patch.half[1])
    glass = upright & (np.abs(rise) < 0.8) & ~pillar
    colour = patch.colour.copy()
    colour[glass] = _glass(patch)[glass]
    concept = patch.concept.copy()
    concept[glass] = Concept.CAR_WINDOW
    return colour, concept


def tyre(patch: Patch, street: Street) -> tuple[Array, Array]:
    """Rubber with a bright rim on the flat sides."""
    radius = np.hypot(patch.local[0], patch.local[1]) / patch.half[0]
    rim = (np.abs(patch.normal[2]) > 0.9) & (radius < 0.62)
    spokes = np.sin(5 * np.arctan2(patch.local[1], patch.local[0])) > -0.4
    colour = patch.colour.copy()
    colour[rim & (spokes | (radius < 0.2))] = patch.accent[rim & (spokes | (radius < 0.2))] * 1.4
    return colour, patch.concept


def bus(patch: Patch, street: Street) -> tuple[Array, Array]:
    """A coach body with a band of windows, or (params[0] = 1) the cab of a lorry."""
    is_cab = patch.params[:, 0] > 0.5
    u, half, upright = m._along(patch)
    rise = patch.local[2] / patch.half[2]
    front, back = patch.normal[0] > 0.7, patch.normal[0] < -0.7
    pillar = ~front & (np.mod(u + half, 1.6) < 0.12)
    band = np.where(front, (rise > -0.1) & (rise < 0.75), (rise > 0.05) & (rise < 0.68))
    inside = np.abs(u) < 0.92 * half
    side_glass = np.where(is_cab, u > -0.3 * half, True) | front | back
    glass = upright & band & inside & ~pillar & side_glass & ~(back & is_cab)
    colour = patch.colour.copy()
    stripe = ~is_cab & upright & (np.abs(rise + 0.25) < 0.12)
    colour[stripe] = patch.accent[stripe]
    colour[upright & (rise < -0.82)] = 0.1
    lamp = (np.abs(patch.local[1]) > 0.65 * patch.half[1]) & (np.abs(rise + 0.62) < 0.09)
    colour[front & lamp], colour[back & lamp] = (0.96, 0.96, 0.88), (0.8, 0.06, 0.05)
    colour[glass] = _glass(patch)[glass]
    concept = patch.concept.copy()
    concept[glass] = Concept.CAR_WINDOW
    return colour, concept


def panel(patch: Patch, street: Street) -> tuple[Array, Array]:
    """The box of a lorry: ribs, a coloured stripe, rear doors."""
    u, half, upright = m._along(patch)
    rise = patch.local[2] / patch.half[2]
    colour = patch.colour * (1.0 - 0.12 * (np.mod(u, 0.6) < 0.07))[:, None].astype(np.float32)
    stripe = upright & (np.abs(rise) < 0.2) & (np.abs(u) < 0.7 * half)
    colour[stripe] = patch.accent[stripe]
    back = patch.normal[0] < -0.7
    colour[back & ((np.abs(patch.local[1]) < 0.03) | (rise < -0.93))] = 0.12
    lamp = back & (np.abs(patch.local[1]) > 0.8 * patch.half[1]) & (rise < -0.85)
    colour[lamp] = (0.8, 0.06, 0.05)
    return colour, patch.concept


def bark(patch: Patch, street: Street) -> tuple[Array, Array]:
    turn = np.arctan2(patch.local[1], patch.local[0])
    tone = 0.22 * m.noise(turn, patch.local[2] * 0.25, 9.0) * patch.detail
    return m._painted(patch.colour, tone), patch.concept


def leaves(patch: Patch, street: Street) -> tuple[Array, Array]:
    x, y, z = patch.local
    layer = np.floor(z * 7.0) * 0.61  # every layer of leaves reads the noise somewhere else
    clump = np.floor(z * 2.0) * 3.7
    tone = 0.26 * m.noise(x + 5.0 * layer, y + 3.0 * layer, 7.0) + 0.16 * m.noise(x + clump, y - clump, 2.5)
    depth = 0.25 * z / patch.half[2]  # darker underneath
    return m._painted(patch.colour, np.clip(tone + depth, -0.7, 0.7)), patch.concept


def sign(patch: Patch, street: Street) -> tuple[Array, Array]:
    """A coloured plate with a pale bar; grey from behind."""
    front = patch.world[0] * 0 + np.where(patch.half[2] < 0.1, patch.normal[2] < -0.5, patch.normal[0] < -0.5)
    across = np.where(patch.half[2] < 0.1, patch.local[1], patch.local[2])
    width = np.where(patch.half[2] < 0.1, patch.local[0], patch.local[1])
    bar = (np.abs(across) < 0.09) & (np.abs(width) < 0.26)
    colour = patch.colour.copy()
    colour[bar] = patch.accent[bar]
    colour[front < 0.5] = 0.5
    return colour, patch.concept


def cone(patch: Patch, street: Street) -> tuple[Array, Array]:
    rise = patch.local[2] / patch.half[2]
    band = (np.abs(rise - 0.15) < 0.2) | (np.abs(rise + 0.6) < 0.1)
    return np.where(band[:, None], patch.accent, patch.colour), patch.concept


def stripes(patch: Patch, street: Street) -> tuple[Array, Array]:
    pale = np.mod(patch.local[1] + patch.local[2], 0.44) < 0.22
    return np.where(pale[:, None], patch.accent, patch.colour), patch.concept


PROGRAMS: dict[Material, Program] = {
    Material.PLAIN: m.plain,
    Material.GROUND: m.ground,
    Material.SLAB: m.slab,
    Material.FACADE: m.facade,
    Material.ROOF: m.roof,
    Material.CAR_BODY: car_body,
    Material.CABIN: cabin,
    Material.TYRE: tyre,
    Material.BUS: bus,
    Material.PANEL: panel,
    Material.BARK: bark,
    Material.LEAVES: leaves,
    Material.SIGN: sign,
    Material.CONE: cone,
    Material.STRIPES: stripes,
}
