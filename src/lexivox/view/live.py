"""What the live page asks: keyframes by number, and the score of every voxel of one for a text."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any, Protocol, runtime_checkable

from lexivox.errors import ConfigError
from lexivox.view.pack import pack_heat, pack_scene
from lexivox.view.scene import HeatLayer, VoxelScene

MAX_TEXT = 400
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

    def query(self, frame: int, text: str) -> HeatLayer:
        """Scores of the voxels of ``scene(frame)``, in their order, and what was found."""
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
        """A packed layer of scores with the regions found and the verdict.

        Raises:
            ConfigError: no text, too much of it, or a frame that does not exist.
        """
        check_text(text)
        with self._lock:
            scene, began = self._scene(frame), time.perf_counter()
            layer = self.app.query(frame, text)
        if len(layer) != len(scene.index):
            rule = f"scores of a query must be as many as the voxels, {len(scene.index)}; got {len(layer)}"
            raise ConfigError(f"{rule}. Score the voxels of the scene, in their order.")
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


def check_text(text: str) -> None:
    """Raises:
    ConfigError: no text, or too much of it.
    """
    if not text.replace(",", "").strip():
        raise ConfigError("query must hold some text; got none. Write what to look for.")
    if len(text) > MAX_TEXT:
        raise ConfigError(f"query must hold at most {MAX_TEXT} characters; got {len(text)}. Ask for less at once.")
