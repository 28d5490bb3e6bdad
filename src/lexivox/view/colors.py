"""Colours shared by the pictures and, in the same numbers, by the page (``assets/theme.js``)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

Theme = Literal["light", "dark"]

BACKGROUND = {"light": (244, 245, 248), "dark": (18, 20, 26)}
INK = {"light": (28, 31, 40), "dark": (232, 234, 240)}
MUTED = {"light": (98, 104, 120), "dark": (150, 156, 172)}
CAR = {"light": (67, 56, 202), "dark": (165, 180, 252)}
PLAIN = (150, 158, 176)
"""Voxels without any layer."""

# Low scores stay near the background and grey, high ones are warm and strong: the eye goes to the answer.
HEAT_STOPS = {
    "light": ((206, 210, 220), (200, 200, 212), (226, 180, 156), (226, 84, 50), (128, 8, 52)),
    "dark": ((58, 63, 80), (72, 72, 100), (136, 78, 112), (242, 116, 66), (255, 238, 150)),
}


def heat_ramp(theme: Theme = "light") -> UInt8[np.ndarray, "256 3"]:
    """256 colours from the lowest to the highest score."""
    stops = np.asarray(HEAT_STOPS[theme], dtype=np.float64)
    position = np.linspace(0.0, len(stops) - 1.0, 256)
    channels = [np.interp(position, np.arange(len(stops)), stops[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def quantize(score: Float[np.ndarray, "N"]) -> tuple[UInt8[np.ndarray, "N"], float, float]:
    """Scores as 0..255 between their lowest and highest finite value, which are returned too."""
    finite = score[np.isfinite(score)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    known = np.clip(np.nan_to_num(score.astype(np.float64), nan=low), low, high)
    return np.round((known - low) / max(high - low, 1e-12) * 255).astype(np.uint8), low, high
