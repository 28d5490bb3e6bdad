"""Builders of vehicles; each returns solids around its own origin on the ground, x forward, and its size."""

from __future__ import annotations

import numpy as np

from lexivox.data.synthetic.concepts import Concept
from lexivox.data.synthetic.materials import Material
from lexivox.data.synthetic.objects import person
from lexivox.data.synthetic.parts import BLACK, STEEL, Rng, ball, box, hsv, paint
from lexivox.data.synthetic.shapes import ROUND, Shape, Xyz

_ON_SIDE = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # a cylinder's axis along y


def wheel(x: float, y: float, radius: float, width: float, concept: Concept = Concept.TYRE) -> Shape:
    return Shape(
        ROUND,
        (x, y, radius),
        (radius, radius, width / 2),
        Material.TYRE,
        concept,
        BLACK,
        STEEL,
        rotation=_ON_SIDE,
    )


def car(rng: Rng) -> tuple[list[Shape], Xyz]:
    """A saloon, hatchback or van."""
    length, width, height = rng.uniform(3.9, 4.9), rng.uniform(1.72, 1.9), rng.uniform(1.42, 1.72)
    colour, radius = paint(rng), rng.uniform(0.30, 0.35)
    belt, base = height * rng.uniform(0.56, 0.62), 0.24
    cabin_length = length * rng.uniform(0.52, 0.72)
    cabin_x = -length * rng.uniform(0.02, 0.10)
    body = box(
        Concept.CAR, colour, (0, 0, (base + belt) / 2), (length, width, belt - base), Material.CAR_BODY,
        taper=(0.04, 0.06),
    )  # fmt: skip
    cabin = box(
        Concept.CAR, colour, (cabin_x, 0, (belt + height) / 2), (cabin_length, width * 0.93, height - belt),
        Material.CABIN, taper=(rng.uniform(0.15, 0.42), 0.18),
    )  # fmt: skip
    axle, track = length * 0.31, width / 2 - 0.09
    wheels = [wheel(x, y, radius, 0.22) for x in (-axle, axle) for y in (-track, track)]
    return [body, cabin, *wheels], (length, width + 0.06, height)


def truck(rng: Rng) -> tuple[list[Shape], Xyz]:
    """A lorry: cab, box body, six wheels."""
    length, width, height = rng.uniform(6.5, 9.5), rng.uniform(2.2, 2.5), rng.uniform(2.8, 3.6)
    cab = rng.uniform(1.7, 2.1)
    load_length = length - cab - 0.25
    colour, load = paint(rng), hsv(rng.random(), rng.choice([0.05, 0.5]), rng.uniform(0.6, 0.95))
    cab_height = height * 0.78
    parts = [
        box(Concept.TRUCK, colour, (length / 2 - cab / 2, 0, (0.5 + cab_height) / 2),
            (cab, width * 0.97, cab_height - 0.5), Material.BUS, params=(1.0,), taper=(0.08, 0.04)),
        box(Concept.TRUCK, load, (-length / 2 + load_length / 2, 0, (0.85 + height) / 2),
            (load_length, width, height - 0.85), Material.PANEL, accent=colour),
        box(Concept.TRUCK, (0.15, 0.15, 0.16), (-0.2, 0, 0.7), (length - 0.8, width * 0.6, 0.3)),
    ]  # fmt: skip
    for x in (length / 2 - cab / 2, -length * 0.22, -length * 0.37):
        parts += [wheel(x, y, 0.46, 0.3) for y in (-width / 2 + 0.17, width / 2 - 0.17)]
    return parts, (length, width, height)


def bus(rng: Rng) -> tuple[list[Shape], Xyz]:
    length, width, height = rng.uniform(10.0, 12.5), 2.5, rng.uniform(2.9, 3.3)
    colour = hsv(rng.random(), rng.uniform(0.5, 0.95), rng.uniform(0.5, 0.95))
    parts = [
        box(Concept.BUS, colour, (0, 0, (0.32 + height) / 2), (length, width - 0.04, height - 0.32),
            Material.BUS,
            accent=hsv(rng.random(), 0.3, 0.95), params=(0.0,)),
    ]  # fmt: skip
    for x in (length * 0.32, -length * 0.27):
        parts += [wheel(x, y, 0.48, 0.3) for y in (-width / 2 + 0.14, width / 2 - 0.14)]
    return parts, (length, width, height)


def _two_wheeler(rng: Rng, concept: Concept, length: float, radius: float, thick: float, rider: bool) -> list[Shape]:
    colour = hsv(rng.random(), rng.uniform(0.7, 1.0), rng.uniform(0.5, 0.95))
    reach = length / 2 - radius
    parts = [wheel(x, 0.0, radius, thick, concept) for x in (-reach, reach)]
    parts += [
        box(concept, colour, (0, 0, radius + 0.22), (length * 0.5, thick, 0.12 + thick)),
        box(concept, colour, (-0.05, 0, radius + 0.05), (length * 0.35, thick, 0.2)),
        box(concept, BLACK, (-0.18, 0, radius + 0.48), (0.3 + thick, thick + 0.08, 0.1)),
        box(concept, BLACK, (-0.18, 0, radius + 0.36), (0.06, 0.06, 0.3)),
        box(concept, STEEL, (reach * 0.8, 0, radius + 0.35), (0.07, 0.07, 0.6)),
        box(concept, BLACK, (reach * 0.72, 0, radius + 0.66), (0.08, 0.55, 0.06)),
    ]
    if rider:
        parts += person(rng, height=1.35, base=radius + 0.15, lean=0.1)
    return parts


def bicycle(rng: Rng, rider: bool = False) -> tuple[list[Shape], Xyz]:
    parts = _two_wheeler(rng, Concept.BICYCLE, 1.75, 0.34, 0.07, rider)
    return parts, (1.8, 0.62, 1.95 if rider else 1.1)


def motorcycle(rng: Rng, rider: bool = False) -> tuple[list[Shape], Xyz]:
    parts = _two_wheeler(rng, Concept.MOTORCYCLE, 2.1, 0.32, 0.2, rider)
    parts.append(ball(Concept.MOTORCYCLE, hsv(rng.random(), 0.9, 0.7), (0.12, 0, 0.7), (0.38, 0.19, 0.22)))
    return parts, (2.2, 0.66, 1.95 if rider else 1.12)
