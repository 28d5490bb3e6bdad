"""What the sensors record: six pictures and a sweep, with the truth of every pixel and point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexivox.data.synthetic.concepts import Concept
from lexivox.data.synthetic.light import Light
from lexivox.data.synthetic.render import NOTHING, Hits, cast_camera, cast_lidar, cast_sun, pixel_rays
from lexivox.data.synthetic.sensors import MAX_RANGE_M, Rig
from lexivox.data.synthetic.shading import Surface, develop, edges_of, lit_colour, sky_colour, surface_at
from lexivox.data.synthetic.shapes import Array, Shapes
from lexivox.data.synthetic.street import Street

RANGE_NOISE_M = 0.02
DROP_SHARE = 0.03


@dataclass(frozen=True, slots=True)
class Pictures:
    """Six views of a keyframe: colour, and for every pixel depth (inf: sky), concept, track."""

    rgb: Array  # (V, H, W, 3) uint8
    depth_m: Array  # (V, H, W)
    concept: Array  # (V, H, W) uint8
    track: Array  # (V, H, W)
    row: Array  # (V, H, W) shape


@dataclass(frozen=True, slots=True)
class Sweep:
    """A LiDAR sweep in the sensor's frame with its truth; ``intensity`` 0..255."""

    xyz: Array  # (P, 3) float32
    intensity: Array
    ring: Array
    concept: Array
    raw: Array
    track: Array


@dataclass(frozen=True, slots=True)
class Scene:
    """The world at one instant: solids near the ego, and where the ego is."""

    street: Street
    light: Light
    shapes: Shapes
    corners: Array  # (N, 8, 3)
    rotation: Array  # (3, 3) world from ego
    position: Array  # (3,)


def take_pictures(scene: Scene, rig: Rig, rng: np.random.Generator) -> Pictures:
    """Render the six views."""
    shape = (len(rig.cameras), *rig.image_hw)
    depth, row = np.empty(shape, np.float32), np.empty(shape, np.int32)
    rays, origins = np.empty((3, *shape), np.float32), np.empty((shape[0], 3))
    for v, camera in enumerate(rig.cameras):
        rotation = scene.rotation @ camera.rotation
        origins[v] = scene.rotation @ camera.position + scene.position
        world_rays = rotation @ pixel_rays(camera.image_from_cam, rig.image_hw).reshape(3, -1)
        rays[:, v] = world_rays.reshape(3, *rig.image_hw)
        hits = cast_camera(scene.shapes, scene.corners, rotation, origins[v], camera.image_from_cam, rays[:, v])
        depth[v], row[v] = hits.t, hits.row
    return _shade(scene, Hits(depth, row), rays, origins, rng)


def _shade(scene: Scene, hits: Hits, rays: Array, origins: Array, rng: np.random.Generator) -> Pictures:
    hit = hits.row != NOTHING
    length = np.linalg.norm(rays, axis=0)
    depth, range_m = hits.t[hit], hits.t[hit] * length[hit]
    world = origins.astype(np.float32)[np.nonzero(hit)[0]].T + rays[:, hit] * depth
    surface = surface_at(scene.shapes, scene.street, world, hits.row[hit], range_m)
    shadow = cast_sun(scene.shapes, scene.corners, scene.light.to_sun, scene.position[:2])
    image = np.empty((*hit.shape, 3), np.float32)
    image[hit] = lit_colour(surface, scene.light, shadow, world, range_m)
    image[~hit] = sky_colour(scene.light, (rays / length)[:, ~hit])
    concept, track = np.full(hit.shape, Concept.SKY, np.uint8), np.zeros(hit.shape, np.int64)
    concept[hit], track[hit] = surface.concept, surface.track
    return Pictures(develop(image, edges_of(hits.row), rng), hits.t, concept, track, hits.row)


def take_sweep(scene: Scene, rig: Rig, rng: np.random.Generator) -> Sweep:
    """One turn of the LiDAR, with range noise and lost returns."""
    rotation = scene.rotation @ rig.lidar_rotation
    origin = scene.rotation @ rig.lidar_position + scene.position
    rays = rig.lidar_directions
    hits = cast_lidar(scene.shapes, scene.corners, rotation, origin, rays, rig.elevation_rad)
    ring, column = np.nonzero((hits.row != NOTHING) & (hits.t < MAX_RANGE_M))
    range_m, direction = hits.t[ring, column], rays[:, ring, column]
    world = (rotation @ (direction * range_m) + origin[:, None]).astype(np.float32)
    surface = surface_at(scene.shapes, scene.street, world, hits.row[ring, column], range_m)
    keep, intensity = _returns(surface, rotation @ direction, range_m, rng)
    noisy_m = range_m + RANGE_NOISE_M * rng.standard_normal(range_m.size)
    return Sweep(
        (direction * noisy_m).T.astype(np.float32)[keep],
        intensity[keep],
        ring[keep],
        surface.concept[keep],
        surface.raw[keep],
        surface.track[keep],
    )


def _returns(surface: Surface, direction: Array, range_m: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Which beams come back (glass and grazing hits often do not), and how bright."""
    facing = np.abs((surface.normal * direction).sum(axis=0))
    glass = np.isin(surface.concept, (Concept.WINDOW, Concept.CAR_WINDOW))
    lost = DROP_SHARE + 0.35 * glass + 0.25 * np.clip(1 - facing / 0.05, 0, 1) + 0.2 * (range_m / MAX_RANGE_M) ** 3
    keep = rng.random(range_m.size) >= lost
    shine = surface.colour.mean(axis=1) * (0.35 + 0.65 * facing)
    shine = np.where(surface.concept == Concept.SIGN, 1.0, shine * 0.45)
    return keep, np.clip(np.round(255 * shine + rng.normal(0, 3, range_m.size)), 0, 255)
