"""Builders of the things in the street; each returns solids around its own origin on the ground, x forward."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from lexivox.data.synthetic.concepts import Concept
from lexivox.data.synthetic.materials import Material
from lexivox.data.synthetic.shapes import BALL, BOX, ROUND, Shape

Rng = np.random.Generator
Colour = tuple[float, float, float]
Xyz = tuple[float, float, float]

_ON_SIDE = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # a cylinder's axis along y
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
    taper: tuple[float, float] = (0.0, 0.0),
    params: Sequence[float] = (),
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


def ball(
    concept: Concept, colour: Colour, center: Xyz, half: Xyz, material: Material = Material.PLAIN
) -> Shape:
    return Shape(BALL, center, half, material, concept, colour)


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


def _paint(rng: Rng) -> Colour:
    if rng.random() < 0.45:
        grey = float(rng.choice([0.1, 0.3, 0.55, 0.75, 0.93]))
        return (grey, grey, min(1.0, grey * 1.03))
    return hsv(rng.random(), rng.uniform(0.55, 0.95), rng.uniform(0.35, 0.9))


def car(rng: Rng) -> tuple[list[Shape], Xyz]:
    """A saloon, hatchback or van."""
    length, width, height = rng.uniform(3.9, 4.9), rng.uniform(1.72, 1.9), rng.uniform(1.42, 1.72)
    paint, radius = _paint(rng), rng.uniform(0.30, 0.35)
    belt, base = height * rng.uniform(0.56, 0.62), 0.24
    cabin_length = length * rng.uniform(0.52, 0.72)
    cabin_x = -length * rng.uniform(0.02, 0.10)
    body = box(
        Concept.CAR, paint, (0, 0, (base + belt) / 2), (length, width, belt - base), Material.CAR_BODY,
        taper=(0.04, 0.06),
    )  # fmt: skip
    cabin = box(
        Concept.CAR, paint, (cabin_x, 0, (belt + height) / 2), (cabin_length, width * 0.93, height - belt),
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
    paint, load = _paint(rng), hsv(rng.random(), rng.choice([0.05, 0.5]), rng.uniform(0.6, 0.95))
    cab_height = height * 0.78
    parts = [
        box(Concept.TRUCK, paint, (length / 2 - cab / 2, 0, (0.5 + cab_height) / 2),
            (cab, width * 0.97, cab_height - 0.5), Material.BUS, params=(1.0,), taper=(0.08, 0.04)),
        box(Concept.TRUCK, load, (-length / 2 + load_length / 2, 0, (0.85 + height) / 2),
            (load_length, width, height - 0.85), Material.PANEL, accent=paint),
        box(Concept.TRUCK, (0.15, 0.15, 0.16), (-0.2, 0, 0.7), (length - 0.8, width * 0.6, 0.3)),
    ]  # fmt: skip
    for x in (length / 2 - cab / 2, -length * 0.22, -length * 0.37):
        parts += [wheel(x, y, 0.46, 0.3) for y in (-width / 2 + 0.17, width / 2 - 0.17)]
    return parts, (length, width, height)


def bus(rng: Rng) -> tuple[list[Shape], Xyz]:
    length, width, height = rng.uniform(10.0, 12.5), 2.5, rng.uniform(2.9, 3.3)
    paint = hsv(rng.random(), rng.uniform(0.5, 0.95), rng.uniform(0.5, 0.95))
    parts = [
        box(Concept.BUS, paint, (0, 0, (0.32 + height) / 2), (length, width - 0.04, height - 0.32), Material.BUS,
            accent=hsv(rng.random(), 0.3, 0.95), params=(0.0,)),
    ]  # fmt: skip
    for x in (length * 0.32, -length * 0.27):
        parts += [wheel(x, y, 0.48, 0.3) for y in (-width / 2 + 0.14, width / 2 - 0.14)]
    return parts, (length, width, height)


def _two_wheeler(
    rng: Rng, concept: Concept, length: float, radius: float, thick: float, rider: bool
) -> list[Shape]:
    paint = hsv(rng.random(), rng.uniform(0.7, 1.0), rng.uniform(0.5, 0.95))
    reach = length / 2 - radius
    parts = [wheel(x, 0.0, radius, thick, concept) for x in (-reach, reach)]
    parts += [
        box(concept, paint, (0, 0, radius + 0.22), (length * 0.5, thick, 0.12 + thick)),
        box(concept, paint, (-0.05, 0, radius + 0.05), (length * 0.35, thick, 0.2)),
        box(concept, BLACK, (-0.18, 0, radius + 0.48), (0.3 + thick, thick + 0.08, 0.1)),
        box(concept, BLACK, (-0.18, 0, radius + 0.36), (0.06, 0.06, 0.3)),
        box(concept, STEEL, (reach * 0.8, 0, radius + 0.35), (0.07, 0.07, 0.6)),
        box(concept, BLACK, (reach * 0.72, 0, radius + 0.66), (0.08, 0.55, 0.06)),
    ]
    if rider:
        parts += _person(rng, height=1.35, base=radius + 0.15, lean=0.1)
    return parts


def bicycle(rng: Rng) -> tuple[list[Shape], Xyz]:
    rider = rng.random() < 0.6
    parts = _two_wheeler(rng, Concept.BICYCLE, 1.75, 0.34, 0.07, rider)
    return parts, (1.8, 0.62, 1.95 if rider else 1.1)


def motorcycle(rng: Rng) -> tuple[list[Shape], Xyz]:
    rider = rng.random() < 0.5
    parts = _two_wheeler(rng, Concept.MOTORCYCLE, 2.1, 0.32, 0.2, rider)
    parts.append(ball(Concept.MOTORCYCLE, hsv(rng.random(), 0.9, 0.7), (0.12, 0, 0.7), (0.38, 0.19, 0.22)))
    return parts, (2.2, 0.66, 1.95 if rider else 1.12)


def _person(rng: Rng, height: float, base: float = 0.0, lean: float = 0.0) -> list[Shape]:
    shirt, trousers = _paint(rng), hsv(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.12, 0.5))
    skin = hsv(rng.uniform(0.04, 0.09), rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.95))
    hair = hsv(0.08, rng.uniform(0.2, 0.7), rng.uniform(0.05, 0.45))
    leg, torso = 0.47 * height, 0.36 * height
    stride, who = rng.uniform(0.03, 0.16), Concept.PEDESTRIAN
    parts = [post(who, trousers, (s * stride, s * 0.09, base), 0.085, leg) for s in (-1, 1)]
    parts += [
        ball(who, shirt, (lean, 0, base + leg + torso * 0.45), (0.16, 0.24, torso * 0.62)),
        ball(who, skin, (lean * 1.3, 0, base + height - 0.115), (0.11, 0.10, 0.125)),
        ball(who, hair, (lean * 1.3 - 0.03, 0, base + height - 0.07), (0.105, 0.105, 0.09)),
    ]
    parts += [
        post(who, shirt, (lean - s * stride * 0.8, s * 0.27, base + leg - 0.08), 0.055, torso * 0.95)
        for s in (-1, 1)
    ]
    return parts


def pedestrian(rng: Rng) -> tuple[list[Shape], Xyz]:
    height = rng.uniform(1.5, 1.92)
    return _person(rng, height), (0.66, 0.70, height + 0.02)


def cone(rng: Rng) -> tuple[list[Shape], Xyz]:
    height = rng.uniform(0.65, 0.95)
    orange = hsv(rng.uniform(0.03, 0.07), 0.95, 0.95)
    parts = [
        post(Concept.CONE, orange, (0, 0, 0.03), 0.17, height - 0.03, Material.CONE, accent=(0.95, 0.95, 0.95),
             taper=0.85),
        box(Concept.CONE, orange, (0, 0, 0.02), (0.4, 0.4, 0.04)),
    ]  # fmt: skip
    return parts, (0.42, 0.42, height)


def barrier(rng: Rng) -> tuple[list[Shape], Xyz]:
    """A striped fence on two feet; its long side is y, as in nuScenes."""
    length, dark = rng.uniform(1.6, 2.2), hsv(rng.choice([0.0, 0.05]), 0.9, 0.85)
    white = (0.93, 0.93, 0.9)
    parts = [
        box(Concept.BARRIER, dark, (0, 0, z), (0.10, length, 0.26), Material.STRIPES, accent=white)
        for z in (0.5, 0.87)
    ]
    parts += [box(Concept.BARRIER, STEEL, (0, s * length * 0.4, 0.5), (0.08, 0.08, 1.0)) for s in (-1, 1)]
    parts += [box(Concept.BARRIER, BLACK, (0, s * length * 0.4, 0.05), (0.5, 0.16, 0.1)) for s in (-1, 1)]
    return parts, (0.5, length, 1.02)


# ------------------------------------------------------------------------------------------- things that stay


def tree(rng: Rng, hue: float) -> list[Shape]:
    height, trunk = rng.uniform(4.5, 9.0), rng.uniform(0.13, 0.26)
    bark = hsv(rng.uniform(0.05, 0.10), rng.uniform(0.3, 0.55), rng.uniform(0.22, 0.42))
    bole = height * rng.uniform(0.32, 0.45)
    parts = [post(Concept.TRUNK, bark, (0, 0, 0), trunk, bole + 0.8, Material.BARK)]
    green = hsv(hue + rng.uniform(-0.03, 0.03), rng.uniform(0.5, 0.75), rng.uniform(0.3, 0.5))
    if rng.random() < 0.25:
        parts.append(
            post(
                Concept.CROWN,
                green,
                (0, 0, bole * 0.7),
                height * 0.24,
                height * 0.8,
                Material.LEAVES,
                taper=0.95,
            )
        )
        return parts
    spread = height * rng.uniform(0.2, 0.3)
    parts.append(
        ball(
            Concept.CROWN,
            green,
            (0, 0, (bole + height) / 2),
            (spread, spread, (height - bole) / 2),
            Material.LEAVES,
        )
    )
    for _ in range(3):
        x, y = rng.uniform(-0.55, 0.55, 2) * spread
        z = bole + rng.uniform(0.3, 0.75) * (height - bole)
        size = spread * rng.uniform(0.5, 0.75)
        parts.append(ball(Concept.CROWN, green, (x, y, z), (size, size, size * 0.85), Material.LEAVES))
    return parts


def bush(rng: Rng, hue: float) -> list[Shape]:
    green, size = hsv(hue + rng.uniform(-0.04, 0.04), 0.6, rng.uniform(0.25, 0.45)), rng.uniform(0.5, 1.0)
    return [ball(Concept.CROWN, green, (0, 0, size * 0.45), (size, size, size * 0.75), Material.LEAVES)]


def lamp(rng: Rng, colour: Colour) -> list[Shape]:
    """A street lamp whose arm reaches along +x."""
    height, arm = rng.uniform(6.0, 8.5), rng.uniform(1.2, 2.2)
    return [
        post(Concept.POLE, colour, (0, 0, 0), 0.15, 0.9),
        post(Concept.POLE, colour, (0, 0, 0.85), 0.085, height - 0.85),
        box(Concept.POLE, colour, (arm / 2, 0, height - 0.06), (arm, 0.11, 0.11)),
        box(Concept.POLE, (0.92, 0.91, 0.8), (arm, 0, height - 0.13), (0.75, 0.28, 0.14)),
    ]


def sign(rng: Rng) -> list[Shape]:
    """A traffic sign that faces -x."""
    height, style = rng.uniform(2.3, 3.0), int(rng.integers(3))
    colour = (hsv(0.0, 0.9, 0.85), hsv(0.6, 0.85, 0.75), hsv(0.14, 0.9, 0.95))[style]
    parts = [post(Concept.POLE, STEEL, (0, 0, 0), 0.04, height)]
    if style == 0:
        axis = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # a disc that looks along x
        face = Shape(
            ROUND, (-0.05, 0, height - 0.1), (0.38, 0.38, 0.025), Material.SIGN, Concept.SIGN, colour,
            (0.95, 0.95, 0.95), rotation=axis,
        )  # fmt: skip
    else:
        face = box(
            Concept.SIGN,
            colour,
            (-0.05, 0, height - 0.1),
            (0.05, 0.75, 0.75),
            Material.SIGN,
            accent=(0.95, 0.95, 0.95),
        )
    return [*parts, face]
