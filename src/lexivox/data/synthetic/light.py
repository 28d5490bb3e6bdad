"""The light of a drive: sun, sky and air."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexivox.data.synthetic.shapes import Array


@dataclass(frozen=True, slots=True)
class Light:
    """Sun, sky and air of a drive; colours 0..1."""

    to_sun: Array
    sun: Array
    ambient: Array
    horizon: Array
    zenith: Array
    haze_m: float
    cloud: float


def make_light(rng: np.random.Generator) -> Light:
    azimuth, height = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(22, 62))
    to_sun = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    overcast = rng.random() < 0.3
    warmth = rng.uniform(0.0, 1.0) * (1.2 - np.sin(height))
    if overcast:
        grey = rng.uniform(0.62, 0.85)
        sun, ambient = (
            np.full(3, rng.uniform(0.1, 0.25)),
            np.array([0.86, 0.88, 0.92]) * rng.uniform(0.75, 0.95),
        )
        horizon, zenith = np.full(3, grey), np.array([0.95, 0.97, 1.0]) * grey * rng.uniform(0.8, 1.0)
    else:
        sun = np.array([1.0, 0.96 - 0.14 * warmth, 0.88 - 0.32 * warmth]) * rng.uniform(0.6, 0.85)
        ambient = np.array([0.86, 0.92, 1.0]) * rng.uniform(0.42, 0.58)
        horizon = np.array([0.78 + 0.15 * warmth, 0.82, 0.9 - 0.2 * warmth])
        zenith = np.array([0.25, 0.45, 0.80]) * rng.uniform(0.8, 1.15)
    return Light(to_sun, sun, ambient, horizon, zenith, rng.uniform(150, 500), 0.5 if overcast else rng.uniform(0, 0.5))
