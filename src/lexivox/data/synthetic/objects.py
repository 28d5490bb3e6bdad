"""Builders of people, street furniture and plants; solids around an origin on the ground, x forward."""

from __future__ import annotations

import numpy as np

from lexivox.data.synthetic.concepts import Concept
from lexivox.data.synthetic.materials import Material
from lexivox.data.synthetic.parts import BLACK, STEEL, Rng, ball, box, hsv, paint, post
from lexivox.data.synthetic.shapes import ROUND, Colour, Shape, Xyz


def person(rng: Rng, height: float, base: float = 0.0, lean: float = 0.0) -> list[Shape]:
    """Legs, trunk, arms, head; ``base`` lifts the feet (riders), ``lean`` bends forward, metres."""
    shirt, trousers = paint(rng), hsv(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.12, 0.5))
    skin = hsv(rng.uniform(0.04, 0.09), rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.95))
    hair = hsv(0.08, rng.uniform(0.2, 0.7), rng.uniform(0.05, 0.45))
    leg, torso = 0.47 * height, 0.36 * height
    stride, who = rng.uniform(0.03, 0.16), Concept.PEDESTRIAN
    parts = [post(who, trousers, (s * stride, s * 0.09, base), 0.078, leg) for s in (-1, 1)]
    parts += [
        ball(who, shirt, (lean, 0, base + leg + torso * 0.45), (0.16, 0.24, torso * 0.62)),
        ball(who, skin, (lean * 1.3, 0, base + height - 0.115), (0.11, 0.10, 0.125)),
        ball(who, hair, (lean * 1.3 - 0.03, 0, base + height - 0.07), (0.105, 0.105, 0.09)),
    ]
    parts += [
        post(who, shirt, (lean - s * stride * 0.8, s * 0.27, base + leg - 0.08), 0.055, torso * 0.95) for s in (-1, 1)
    ]
    return parts


def pedestrian(rng: Rng) -> tuple[list[Shape], Xyz]:
    height = rng.uniform(1.5, 1.92)
    return person(rng, height), (0.66, 0.70, height + 0.02)


def cone(rng: Rng) -> tuple[list[Shape], Xyz]:
    height = rng.uniform(0.65, 0.95)
    orange = hsv(rng.uniform(0.03, 0.07), 0.95, 0.95)
    parts = [
        post(Concept.CONE, orange, (0, 0, 0.03), 0.17, height - 0.03, Material.CONE,
             accent=(0.95, 0.95, 0.95),
             taper=0.85),
        box(Concept.CONE, orange, (0, 0, 0.02), (0.4, 0.4, 0.04)),
    ]  # fmt: skip
    return parts, (0.42, 0.42, height)


def barrier(rng: Rng) -> tuple[list[Shape], Xyz]:
    """A striped fence on two feet; its long side is y, as in nuScenes."""
    length, dark = rng.uniform(1.6, 2.2), hsv(rng.choice([0.0, 0.05]), 0.9, 0.85)
    white = (0.93, 0.93, 0.9)
    parts = [
        box(Concept.BARRIER, dark, (0, 0, z), (0.10, length, 0.26), Material.STRIPES, accent=white) for z in (0.5, 0.87)
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
