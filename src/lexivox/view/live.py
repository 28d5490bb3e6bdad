"""What the live page asks: keyframes by number, and the score of every voxel of one for a text."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from lexivox.errors import ConfigError
from lexivox.view.pack import pack_heat, pack_scene
from lexivox.view.scene import HeatLayer, VoxelScene

MAX_TEXT = 400
MAX_PHRASINGS = 16
KEPT_SCENES = 4


@runtime_checkable
class QueryApp(Protocol):
    """A model, seen from the page. It is asked by one request at a time, so it need not be thread-safe."""

    def frames(self) -> list[str]:
        """Titles of the keyframes, in order."""
        ...

    def scene(self, frame: int) -> VoxelScene:
        """A keyframe with its voxels and layers."""
        ...

    def query(self, frame: int, text: str) -> Float[np.ndarray, "N"]:
        """Scores of the voxels of ``scene(frame)``, in their order, for one phrasing."""
        ...


class LiveSession:
    """Asks a ``QueryApp`` one thing at a time, keeps its last scenes and packs its answers for the page."""

    def __init__(self, app: QueryApp) -> None:
        self.app = app
        self.titles = list(app.frames())
        self._lock = threading.Lock()
        self._scenes: OrderedDict[int, VoxelScene] = OrderedDict()

    def scene(self, frame: int) -> dict[str, Any]:
        """A packed keyframe.

        Raises:
            ConfigError: a frame that does not exist.
        """
        with self._lock:
            scene = self._scene(frame)
        return pack_scene(scene)

    def heat(self, frame: int, text: str) -> dict[str, Any]:
        """A packed layer of scores: of every voxel the best over the phrasings, which commas separate.

        Raises:
            ConfigError: no text, too much of it, or a frame that does not exist.
        """
        phrasings = split_phrasings(text)
        with self._lock:
            scene, began = self._scene(frame), time.perf_counter()
            scores = [self.app.query(frame, phrasing) for phrasing in phrasings]
        for score in scores:
            if score.shape != (len(scene.index),):
                rule = f"scores of a query must have the shape ({len(scene.index)},); got {score.shape}"
                raise ConfigError(f"{rule}. Score the voxels of the scene, in their order.")
        layer = HeatLayer(", ".join(phrasings), np.fmax.reduce(scores))
        packed = pack_heat(scene.grid, scene.index, layer)
        return packed | {"seconds": round(time.perf_counter() - began, 4)}

    def _scene(self, frame: int) -> VoxelScene:
        if not 0 <= frame < len(self.titles):
            raise ConfigError(f"frame must lie in 0..{len(self.titles) - 1}; got {frame}.")
        if frame not in self._scenes:
            self._scenes[frame] = self.app.scene(frame)
        self._scenes.move_to_end(frame)
        while len(self._scenes) > KEPT_SCENES:
            self._scenes.popitem(last=False)
        return self._scenes[frame]


def split_phrasings(text: str) -> list[str]:
    """Several ways to say one thing, separated by commas.

    Raises:
        ConfigError: no text, or too much of it.
    """
    phrasings = [part.strip() for part in text.split(",") if part.strip()]
    if not phrasings:
        raise ConfigError("query must hold some text; got none. Write what to look for.")
    if len(text) > MAX_TEXT or len(phrasings) > MAX_PHRASINGS:
        rule = f"query must hold at most {MAX_PHRASINGS} phrasings and {MAX_TEXT} characters"
        raise ConfigError(f"{rule}; got {len(phrasings)} and {len(text)}. Ask for less at once.")
    return phrasings
