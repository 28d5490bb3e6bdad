"""Which scenes of a nuScenes release belong to a split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lexivox.errors import DataError

MINI_SPLITS = {
    "mini_train": (
        "scene-0061", "scene-0553", "scene-0655", "scene-0757", "scene-0796", "scene-1077", "scene-1094",
        "scene-1100",
    ),
    "mini_val": ("scene-0103", "scene-0916"),
}  # fmt: skip
"""The ten scenes of v1.0-mini. The 850 of trainval are not part of the release; they are read from a file."""

SPLITS_FILE = "splits.json"


def scenes_of_split(split: str | Sequence[str] | None, folder: Path, scene_names: Sequence[str]) -> np.ndarray:
    """True for each scene of ``scene_names`` that the split holds.

    Args:
        split: ``None`` or ``"all"``; a name in ``splits.json`` beside the tables; ``"mini_train"`` or
            ``"mini_val"``; ``"test"`` of v1.0-test; the path of a text file with a scene name on each line;
            or scene names.
        folder: of the tables.
        scene_names: of the scene table.

    Raises:
        DataError: the split is unknown, or none of its scenes is in the tables.
    """
    if split is None or split == "all" or (split == "test" and folder.name == "v1.0-test"):
        return np.ones(len(scene_names), dtype=bool)
    wanted = set(_names(split, folder) if isinstance(split, str) else split)
    chosen = np.array([name in wanted for name in scene_names], dtype=bool)
    if not chosen.any():
        raise DataError(
            f"split must name scenes of {folder.name}; got {_short(split) or 'an empty list'}, which holds none of its "
            f"{len(scene_names)} scenes ({_short(scene_names)}). Check split and version: {folder}"
        )
    return chosen


def _names(split: str, folder: Path) -> Sequence[str]:
    path = folder / SPLITS_FILE
    known = _read_splits(path) if path.exists() else {}
    if split in known:
        return known[split]
    if split in MINI_SPLITS:
        return MINI_SPLITS[split]
    if Path(split).is_file():
        return Path(split).read_text(encoding="utf-8").split()
    choices = ", ".join(["all", *known, *(name for name in MINI_SPLITS if name not in known)])
    raise DataError(
        f"split must be one of {choices}, a list of scene names or a text file of them; got {split!r}. "
        "The tables do not say which scenes are train or val: put the official lists as "
        f'{{"train": [...], "val": [...]}} in {path}'
    )


def _read_splits(path: Path) -> dict[str, list[str]]:
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [str(scene) for scene in scenes] for name, scenes in splits.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"splits must be JSON of names and lists of scenes; got: {error}. Correct {path}") from error


def _short(names: str | Sequence[str]) -> str:
    if isinstance(names, str):
        return repr(names)
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
