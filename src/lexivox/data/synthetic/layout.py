"""What stands in the street and never moves: raised blocks, buildings, trees, lamps, signs."""

from __future__ import annotations

import numpy as np

from lexivox.data.synthetic import objects
from lexivox.data.synthetic.concepts import Concept
from lexivox.data.synthetic.materials import Material
from lexivox.data.synthetic.parts import Rng, box, hsv
from lexivox.data.synthetic.shapes import PLANE, Colour, Shape, Shapes, join, place, stack
from lexivox.data.synthetic.street import KERB_M, SLAB_DEPTH_M, Street, block_intervals


def build_scenery(rng: Rng, street: Street) -> Shapes:
    """Everything that never moves and carries no box: ground, blocks, buildings, trees, lamps, signs."""
    far = 1e4
    grey = (street.asphalt, street.asphalt, street.asphalt)
    ground = Shape(PLANE, (0, 0, 0), (far, far, 1.0), Material.GROUND, Concept.ROAD, grey)
    parts = [stack([ground])]
    lamp_colour = hsv(rng.random(), 0.25, rng.uniform(0.15, 0.5))
    for start, end in block_intervals(street):
        for side in (-1.0, 1.0):
            parts.append(stack([_slab(street, start, end, side)]))
            parts += _building_row(rng, street, start, end, side)
            parts += _furniture(rng, street, start, end, side, lamp_colour)
    parts += _skyline(rng, street)
    return join(parts)


def _skyline(rng: Rng, street: Street) -> list[Shapes]:
    """Houses and trees beyond the blocks, so that side streets do not end in the void."""
    parts: list[Shapes] = []
    for side in (-1.0, 1.0):
        x, end = street.crossings[0, 0], street.crossings[-1, 0]
        while x < end:
            width = rng.uniform(9.0, 22.0)
            y = side * (street.half_m + SLAB_DEPTH_M + rng.uniform(9.0, 14.0))
            if rng.random() < 0.75:
                parts.append(_building(rng, street, (x + width / 2, y), (width, 10.0)))
            else:
                parts.append(place(stack(objects.tree(rng, street.hue)), (x + width / 2, y, 0.0), 0.0))
            x += width + rng.uniform(0.0, 5.0)
    return parts


def _slab(street: Street, start: float, end: float, side: float) -> Shape:
    middle = side * (street.half_m + SLAB_DEPTH_M / 2)
    height = street.kerb_height_m
    return box(
        Concept.SIDEWALK, street.paving, ((start + end) / 2, middle, height / 2),
        (end - start, SLAB_DEPTH_M, height),
        Material.SLAB,
    )  # fmt: skip


def _building_row(rng: Rng, street: Street, start: float, end: float, side: float) -> list[Shapes]:
    margin = KERB_M + street.verge_m + street.sidewalk_m
    front = street.half_m + margin + street.setback_m
    x, parts = start + margin + rng.uniform(0.0, 2.0), []
    while x + 7.0 < end - margin:
        width = min(rng.uniform(8.0, 20.0), end - margin - x)
        if rng.random() < 0.85:
            depth = rng.uniform(8.0, 14.0)
            y = side * (front + rng.uniform(0.0, 2.0) + depth / 2)
            parts.append(_building(rng, street, (x + width / 2, y), (width, depth)))
        x += width + (0.0 if rng.random() < 0.35 else rng.uniform(1.0, 7.0))
    x = start + margin
    while x + 10.0 < end - margin:
        width = rng.uniform(10.0, 24.0)
        y = side * (front + rng.uniform(24.0, 40.0))
        parts.append(_building(rng, street, (x + width / 2, y), (min(width, end - margin - x), 10.0)))
        x += width + rng.uniform(3.0, 12.0)
    return parts


def _building(rng: Rng, street: Street, xy: tuple[float, float], size: tuple[float, float]) -> Shapes:
    storey, floors = rng.uniform(2.8, 3.5), int(rng.choice([1, 2, 2, 3, 3, 4, 5, 7]))
    height, base = storey * floors + 0.6, street.kerb_height_m
    hue = rng.choice([0.02, 0.05, 0.08, 0.11, 0.14, rng.random()])
    wall = hsv(hue, rng.uniform(0.05, 0.55), rng.uniform(0.42, 0.92))
    door = hsv(rng.random(), rng.uniform(0.5, 0.95), rng.uniform(0.25, 0.75))
    style = float(rng.integers(3))  # bricks, plaster, slabs
    params = (
        storey,
        rng.uniform(2.2, 3.6),
        rng.uniform(0.9, 1.5),
        rng.uniform(1.1, 1.7),
        rng.uniform(0, 97),
        style,
    )
    walls = box(Concept.WALL, wall, (0, 0, height / 2), (*size, height), Material.FACADE, accent=door, params=params)
    roof_colour = hsv(rng.choice([0.02, 0.06, 0.6]), rng.uniform(0.1, 0.5), rng.uniform(0.2, 0.45))
    if floors <= 3 and rng.random() < 0.6:
        rise = rng.uniform(1.6, 3.2)
        roof = box(
            Concept.WALL, roof_colour, (0, 0, height + rise / 2),
            (size[0], size[1] + 0.7, rise), Material.ROOF,
            taper=(0.0, 0.97),
        )  # fmt: skip
    else:
        roof = box(Concept.WALL, roof_colour, (0, 0, height + 0.15), (size[0], size[1] + 0.4, 0.3), Material.PLAIN)
    return place(stack([walls, roof]), (*xy, base), 0.0)


def _furniture(rng: Rng, street: Street, start: float, end: float, side: float, lamp_colour: Colour) -> list[Shapes]:
    """Trees, lamps, signs in the strip behind the kerb, more green behind the pavement."""
    base, parts = street.kerb_height_m, []
    strip = street.half_m + KERB_M + max(street.verge_m / 2, 0.35)
    inward = -side * np.pi / 2
    lamp_step, x = rng.uniform(22, 32), start + rng.uniform(9, 14)
    while x < end - 8:
        parts.append(place(stack(objects.lamp(rng, lamp_colour)), (x, side * strip, base), inward))
        x += lamp_step
    density = rng.uniform(7, 20)
    x = start + rng.uniform(10, 20)
    while x < end - 9:
        parts.append(place(stack(objects.tree(rng, street.hue)), (x, side * strip, base), rng.uniform(0, 6)))
        x += density * rng.uniform(0.7, 1.6) + 2.0
    for x in (start + 2.0, end - 2.0):
        if rng.random() < 0.7:
            yaw = 0.0 if side < 0 else np.pi
            parts.append(place(stack(objects.sign(rng)), (x, side * (street.half_m + 0.7), base), yaw))
    parts += _garden(rng, street, start, end, side)
    return parts


def _garden(rng: Rng, street: Street, start: float, end: float, side: float) -> list[Shapes]:
    parts = []
    inner = street.half_m + KERB_M + street.verge_m + street.sidewalk_m
    behind = inner + street.setback_m + 19.0
    for _ in range(int((end - start) / 9)):
        x = rng.uniform(start + 9, end - 9) if end - start > 20 else (start + end) / 2
        if street.setback_m > 2.5 and rng.random() < 0.5:
            y = inner + rng.uniform(1.0, street.setback_m - 1.0)
            parts.append(place(stack(objects.bush(rng, street.hue)), (x, side * y, street.kerb_height_m), 0.0))
        else:
            y = behind + rng.uniform(0.0, 3.0)
            parts.append(place(stack(objects.tree(rng, street.hue)), (x, side * y, street.kerb_height_m), 0.0))
    return parts
