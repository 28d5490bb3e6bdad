"""Where each camera of a rig stands in the picture: front row above, rear row below, left on the left."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLACES = ("front left", "front", "front right", "back left", "left", "back", "back right", "right")


def place_of(name: str) -> str | None:
    """``"front left"`` of ``CAM_FRONT_LEFT`` or ``front_left_camera``; ``None`` when it says nothing."""
    words = set(re.findall(r"front|rear|back|left|right", name.lower()))
    if "rear" in words:
        words = (words - {"rear"}) | {"back"}
    place = " ".join(word for word in ("front", "back", "left", "right") if word in words)
    return place if place in _PLACES else None


def surround_order(names: Sequence[str]) -> list[int]:
    """Positions of the cameras in reading order: front left, front, front right, then left, back, right.

    Cameras whose names say nothing keep their order, behind the others.
    """
    rank = {place: number for number, place in enumerate(_PLACES)}
    places = [place_of(name) for name in names]
    keys = [(len(rank) if place is None else rank[place], i) for i, place in enumerate(places)]
    return [i for _, i in sorted(keys)]
