"""Which samples a split holds, by the names that a benchmark's files have."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from lexivox.errors import ConfigError, DataError
from lexivox.evaluate.files.base import FileBenchmark, NamedBy


def read_tokens(path: str | Path) -> Collection[str]:
    """Samples of a split: one in a line.

    Raises:
        DataError: the file is missing.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"a list of samples must be readable; got {error}. Check {path}") from None
    return {line.strip() for line in lines if line.strip()}


def split_tokens(
    kind: type[FileBenchmark], split: str, labels: Iterable[str], dataroot: Path | None, version: str | None = None
) -> Collection[str]:
    """The samples of a named split.

    Args:
        labels: the labelled samples; SemanticKITTI's splits are sequences, which these name.
        dataroot: of nuScenes, whose splits are scenes; its tables are enough.

    Raises:
        ConfigError: no such split, or no dataroot where one is needed.
        DataError: no tables.
    """
    if kind.named_by == "sequence":
        from lexivox.data.datasets.semantickitti import SPLITS

        if split not in SPLITS:
            raise ConfigError(f"split of SemanticKITTI must be one of {', '.join(SPLITS)}; got {split!r}.")
        return [token for token in labels if token.partition("/")[0] in SPLITS[split]]
    if dataroot is None:
        raise ConfigError(
            f"split {split!r} of nuScenes must come with --dataroot; got none. Or list samples: --tokens."
        )
    return nuscenes_tokens(dataroot, split, kind.named_by, version)


def retrieval_tokens(folder: Path, split: str) -> list[str]:
    """The keyframes of a list of the retrieval benchmark.

    Raises:
        DataError: no such list.
    """
    from lexivox.data.retrieval import read_retrieval

    return list(dict.fromkeys(annotation.token for annotation in read_retrieval(folder, split)))


def nuscenes_tokens(root: Path, split: str, named_by: NamedBy, version: str | None = None) -> list[str]:
    """Samples of a split in order of scene and time, named by sample, LiDAR record or LiDAR file."""
    from lexivox.data.datasets.nuscenes_splits import scenes_of_split
    from lexivox.data.datasets.nuscenes_tables import find_version, open_tables

    folder = root / find_version(root, version)
    tables = open_tables(folder)
    chosen = scenes_of_split(split, folder, [name.decode() for name in tables.scene_name])
    rows = chosen[tables.sample_scene].nonzero()[0]
    if named_by == "sample":
        return [token.decode() for token in tables.sample_token[rows]]
    files = tables.keyframe[rows, 0]
    if named_by == "lidar record":
        return [token.decode() for token in tables.file_token[files]]
    return [Path(name.decode()).name.removesuffix(".pcd.bin") for name in tables.file_name[files]]
