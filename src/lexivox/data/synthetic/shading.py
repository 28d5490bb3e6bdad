"""From first hits to what a sensor records: colour and concept of surfaces, light, haze, sky, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexivox.data.synthetic.concepts import RAW_FROM_CONCEPT, Concept
from lexivox.data.synthetic.light import Light
from lexivox.data.synthetic.materials import Material, Patch, noise
from lexivox.data.synthetic.materials_objects import PROGRAMS
from lexivox.data.synthetic.render import ShadowMap
from lexivox.data.synthetic.shapes import BALL, PLANE, ROUND, Array, Shapes
from lexivox.data.synthetic.street import Street


@dataclass(frozen=True, slots=True)
class Surface:
    """What lies at n hits: unlit colour, fine concept, raw lidarseg id, actor, unit normal in the world."""

    colour: Array  # (n, 3)
    concept: Array  # (n,)
    raw: Array  # (n,)
    track: Array  # (n,)
    normal: Array  # (3, n)


def surface_at(shapes: Shapes, street: Street, world: Array, row: Array, range_m: Array) -> Surface:
    """Run the surface programs at hits ``world (3, n)`` on shapes ``row (n,)``."""
    n = row.size
    colour, concept = np.zeros((n, 3), np.float32), np.zeros(n, np.uint8)
    normal = np.zeros((3, n), np.float32)
    order = np.argsort(row, kind="stable")
    local, local_normal = np.empty((3, n), np.float32), np.empty((3, n), np.float32)
    rows, starts = np.unique(row[order], return_index=True)
    for i, start, end in zip(rows.tolist(), starts, [*starts[1:], n], strict=True):
        at = order[start:end]
        local[:, at], local_normal[:, at] = _local_hits(shapes, i, world[:, at])
        normal[:, at] = shapes.rotation[i].astype(np.float32) @ local_normal[:, at]
    material = shapes.material[row]
    for value in np.unique(material):
        at = np.flatnonzero(material == value)
        r = row[at]
        patch = Patch(
            world[:, at], local[:, at], local_normal[:, at], shapes.half[r].T.astype(np.float32),
            shapes.colour[r],
            shapes.accent[r], shapes.params[r], shapes.concept[r], range_m[at],
        )  # fmt: skip
        colour[at], concept[at] = PROGRAMS[Material(value)](patch, street)
    owner = shapes.raw[row]
    raw = np.where(owner > 0, owner, RAW_FROM_CONCEPT[concept])
    return Surface(np.clip(colour, 0, 1), concept, raw, shapes.track[row], normal)


def _local_hits(shapes: Shapes, i: int, world: Array) -> tuple[Array, Array]:
    """Metres in the shape's axes and the unit normal there, both ``(3, n)``."""
    rotation, half = shapes.rotation[i].astype(np.float32), shapes.half[i].astype(np.float32)[:, None]
    local = rotation.T @ (world - shapes.center[i].astype(np.float32)[:, None])
    q = local / half
    normal = np.zeros_like(q)
    taper_x, taper_y = shapes.taper[i] / 2
    kind = shapes.kind[i]
    if kind == PLANE:
        normal[2] = 1.0
    elif kind == BALL:
        normal = q / half
    elif kind == ROUND:
        radius = np.hypot(q[0], q[1])
        on_cap = np.abs(q[2]) - 1.0 > radius - (1.0 - taper_x * (q[2] + 1.0)) - 1e-3
        on_cap &= np.abs(q[2]) > 0.98
        side = np.stack([q[0], q[1], taper_x * radius]) / half
        normal = np.where(on_cap, np.stack([q[0] * 0, q[1] * 0, np.sign(q[2])]), side)
    else:
        excess = np.stack(
            [
                np.abs(q[0]) + taper_x * (q[2] + 1.0) - 1.0,
                np.abs(q[1]) + taper_y * (q[2] + 1.0) - 1.0,
                np.abs(q[2]) - 1.0,
            ]
        )
        face = np.argmax(excess * half, axis=0)
        columns = np.arange(face.size)
        normal[face, columns] = np.sign(q[face, columns]) / half[face, 0]
        slope = np.choose(face, [taper_x, taper_y, 0.0])
        normal[2] += slope / half[2, 0] * (face < 2)
    return local, normal / np.linalg.norm(normal, axis=0)


def lit_colour(surface: Surface, light: Light, shadow: ShadowMap, world: Array, range_m: Array) -> Array:
    """Colours ``(n, 3)`` under sun and sky, darker near the ground, pale in the distance."""
    normal = surface.normal
    facing = np.clip(light.to_sun.astype(np.float32) @ normal, 0.0, 1.0)
    facing *= shadow.lit_share(world + 0.1 * normal)
    openness = 0.72 + 0.28 * normal[2]
    on_wall = np.abs(normal[2]) < 0.7
    openness = openness * np.where(on_wall, np.clip(0.6 + 0.5 * world[2], 0.0, 1.0), 1.0)
    light_in = facing[:, None] * light.sun.astype(np.float32) + openness[:, None] * light.ambient.astype(np.float32)
    colour = surface.colour * light_in
    glossy = surface.concept == Concept.WINDOW
    glossy |= surface.concept == Concept.CAR_WINDOW
    colour[glossy] = 0.8 * colour[glossy] + 0.12 * light.horizon.astype(np.float32)
    haze = (1.0 - np.exp(-range_m / light.haze_m)).astype(np.float32)[:, None]
    return colour * (1 - haze) + light.horizon.astype(np.float32) * haze


def sky_colour(light: Light, direction: Array) -> Array:
    """Colours ``(n, 3)`` for unit directions ``(3, n)`` that hit nothing."""
    rise = np.clip(direction[2], 0.0, 1.0).astype(np.float32)
    mix = np.clip(rise * 2.2, 0, 1)[:, None] ** 0.7
    colour = light.horizon.astype(np.float32) * (1 - mix) + light.zenith.astype(np.float32) * mix
    plane = direction[:2] / np.maximum(rise, 0.08)
    cover = np.clip(noise(plane[0], plane[1], 14.0, soft=True) * 0.5 + light.cloud - 0.3, 0, 1) * light.cloud
    colour = colour + (0.95 - colour) * cover[:, None] * np.clip(rise * 6, 0, 1)[:, None]
    near_sun = np.clip(light.to_sun.astype(np.float32) @ direction, 0, 1)[:, None]
    return colour + light.sun.astype(np.float32) * (0.25 * near_sun**12 + 0.8 * near_sun**400)


def develop(image: Array, is_edge: Array, rng: np.random.Generator) -> Array:
    """Linear pictures ``(V, H, W, 3)`` to uint8: soft edges, automatic exposure, tone curve, sensor noise."""
    soft = image.copy()
    soft[:, 1:-1, 1:-1] = (
        4 * image[:, 1:-1, 1:-1]
        + image[:, :-2, 1:-1] + image[:, 2:, 1:-1] + image[:, 1:-1, :-2] + image[:, 1:-1, 2:]
    ) / 8  # fmt: skip
    image = np.where(is_edge[..., None], soft, image)
    exposure = rng.uniform(0.92, 1.08) * 0.44 / image.mean()
    image = image * np.float32(np.clip(exposure, 0.7, 1.7))
    image = np.where(image < 0.7, image, 0.7 + 0.3 * np.tanh((image - 0.7) / 0.3))  # holds the highlights
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    image = image + grain * (0.008 + 0.010 * np.sqrt(np.clip(image, 0, 1)))
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def edges_of(row: Array) -> Array:
    """True where a pixel's shape differs from a neighbour's, ``(V, H, W)``."""
    edge = np.zeros(row.shape, bool)
    across, down = row[:, :, 1:] != row[:, :, :-1], row[:, 1:] != row[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    return edge
