"""Short-hands with which the builders of objects write down solids, and the paint box."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from lexivox.data.synthetic.concepts import Concept
from lexivox.data.synthetic.materials import Material
from lexivox.data.synthetic.shapes import BALL, BOX, ROUND, Colour, Number, Shape, Xyz

Rng = np.random.Generator

BLACK: Colour = (0.06, 0.06, 0.07)
STEEL: Colour = (0.45, 0.46, 0.48)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))


def box(
    concept: Concept,
    colour: Colour,
    center: Xyz,
    size: Xyz,
    material: Material = Material.PLAIN,
    *,
    accent: Colour = (0.5, 0.5, 0.5),
    taper: tuple[Number, Number] = (0.0, 0.0),
    params: Sequence[Number] = (),
) -> Shape:
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    return Shape(BOX, center, half, material, concept, colour, accent, taper, params=tuple(params))


def post(
    concept: Concept,
    colour: Colour,
    base: Xyz,
    radius: float,
    height: float,
    material: Material = Material.PLAIN,
    *,
    accent: Colour = (0.5, 0.5, 0.5),
    taper: float = 0.0,
) -> Shape:
    center = (base[0], base[1], base[2] + height / 2)
    return Shape(ROUND, center, (radius, radius, height / 2), material, concept, colour, accent, (taper, 0.0))


def ball(concept: Concept, colour: Colour, center: Xyz, half: Xyz, material: Material = Material.PLAIN) -> Shape:
    return Shape(BALL, center, half, material, concept, colour)


def paint(rng: Rng) -> Colour:
    if rng.random() < 0.45:
        grey = float(rng.choice([0.1, 0.3, 0.55, 0.75, 0.93]))
        return (grey, grey, min(1.0, grey * 1.03))
    return hsv(rng.random(), rng.uniform(0.55, 0.95), rng.uniform(0.35, 0.9))
