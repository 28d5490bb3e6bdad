"""The verb ``labels``: dense occupancy labels of a recording, keyframe by keyframe."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lexivox.commands.shared import new_verb, say
from lexivox.errors import ConfigError
from lexivox.files import write_atomically

if TYPE_CHECKING:
    from lexivox.data.label_builder import BuiltLabels, LabelPolicy
    from lexivox.geometry.grid import VoxelGrid

EXAMPLE = """\
  lexivox labels nuscenes data/nuscenes --labels lidarseg --boxes --out labels
  lexivox labels pandaset data/pandaset --labels semseg --boxes --grid=-25.6,-25.6,-1.6,0.8,64,64,8
  lexivox labels pandaset data/pandaset --sample 002-40 --before 0 --after 0   only its own sweep
"""


def add_labels(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(verbs, "labels", "make dense occupancy labels of a recording from its sweeps", EXAMPLE)
    parser.add_argument("kind", help="nuscenes, pandaset or semantickitti")
    parser.add_argument("root", type=Path, help="folder of the recording")
    parser.add_argument("--split", default=None, help="split or drive (default: everything)")
    parser.add_argument("--sample", action="append", default=[], metavar="TOKEN", help="only these keyframes")
    parser.add_argument("--labels", default=None, help="point labels to use: lidarseg, semseg, semantic")
    parser.add_argument("--boxes", action="store_true", help="carry things along with their boxes")
    parser.add_argument("--before", type=int, default=10, help="earlier keyframes that lend sweeps (default: 10)")
    parser.add_argument("--after", type=int, default=10, help="later keyframes that lend sweeps (default: 10)")
    parser.add_argument("--close", action="store_true", help="fill unobserved pinholes of static classes")
    parser.add_argument(
        "--grid",
        default="-40,-40,-1,0.4,200,200,16",
        metavar="X,Y,Z,SIZE,NX,NY,NZ",
        help="lower corner and voxel size in metres of the ego frame, voxels (default: that of Occ3D)",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/labels"), help="folder of the labels")
    parser.set_defaults(run=_run_labels)


def _run_labels(arguments: argparse.Namespace) -> None:
    from lexivox.data.datasets import open_dataset
    from lexivox.data.label_builder import LabelPolicy, build_labels
    from lexivox.progress import progress_bars

    options = {"labels": arguments.labels} | ({"boxes": True} if arguments.boxes else {})
    dataset = open_dataset(arguments.kind, arguments.root, arguments.split, **options)
    policy = LabelPolicy(before=arguments.before, after=arguments.after, close=arguments.close)
    grid = _grid(arguments.grid)
    chosen = _chosen(list(dataset.tokens), arguments.sample)
    with progress_bars() as on_progress:
        for done, index in enumerate(chosen):
            folder = arguments.out / dataset.drives[index] / dataset.tokens[index]
            if not _is_made(folder, options, policy, grid):
                _write(folder, build_labels(dataset, index, grid, policy), options)
            on_progress("making labels", done + 1, len(chosen))
    say(f"made: labels of {len(chosen)} keyframes in {arguments.out}")


def _grid(text: str) -> VoxelGrid:
    from lexivox.geometry.grid import VoxelGrid

    try:
        x, y, z, size, *shape = (float(part) for part in text.split(","))
        nx, ny, nz = (int(n) for n in shape)
    except ValueError:
        raise ConfigError(f"--grid must be seven numbers X,Y,Z,SIZE,NX,NY,NZ; got {text!r}.") from None
    return VoxelGrid((x, y, z), (size, size, size), (nx, ny, nz), "ego")


def _chosen(tokens: list[str], wanted: list[str]) -> list[int]:
    missing = [token for token in wanted if token not in tokens]
    if missing:
        raise ConfigError(f"--sample must be a keyframe of the recording, such as {tokens[0]}; got {missing[0]}.")
    return [tokens.index(token) for token in wanted] if wanted else list(range(len(tokens)))


def _is_made(folder: Path, options: dict, policy: LabelPolicy, grid: VoxelGrid) -> bool:
    """True when an earlier run finished this keyframe in the same way: the manifest is written last."""
    wanted = json.loads(json.dumps({"read": options, "policy": asdict(policy), "grid": asdict(grid)}))
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return {name: manifest[name] for name in wanted} == wanted
    except (ValueError, KeyError, OSError):
        return False


def _write(folder: Path, built: BuiltLabels, options: dict) -> None:
    """The arrays of Occ3D, whatever the grid, and beside them how they were made."""
    import numpy as np

    labels = built.labels
    assert labels.seen_by_lidar is not None
    assert labels.seen_by_camera is not None
    arrays = {
        "semantics": labels.label.numpy(),
        "mask_lidar": labels.seen_by_lidar.numpy().astype(np.uint8),
        "mask_camera": labels.seen_by_camera.numpy().astype(np.uint8),
    }
    write_atomically(folder / "labels.npz", lambda file: np.savez_compressed(file, **arrays))
    text = json.dumps({**built.manifest, "read": options}, indent=1)
    write_atomically(folder / "manifest.json", lambda file: file.write(text.encode()))
