"""Which prediction file belongs to which label file, and which samples have none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from lexivox.errors import DataError

NAMED = 3
"""Of many samples in an error, so many are named."""


@dataclass(frozen=True, slots=True)
class FileLayout:
    """Where files lie in a folder and which sample each is of.

    Attributes:
        patterns: as :meth:`pathlib.Path.rglob` takes them.
        token: the sample of a file.
    """

    patterns: tuple[str, ...]
    token: Callable[[Path], str]

    def find(self, folder: Path, what: str) -> dict[str, Path]:
        """Files by their sample.

        Raises:
            DataError: no folder, no such file, or two files of one sample.
        """
        if not folder.is_dir():
            raise DataError(f"{what} must be a folder; got none. Check {folder}")
        found: dict[str, Path] = {}
        for path in sorted(path for pattern in self.patterns for path in folder.rglob(pattern)):
            token = self.token(path)
            if token in found:
                raise DataError(
                    f"{what} must hold one file for each sample; got two of {token}: {found[token]}, {path}"
                )
            found[token] = path
        if not found:
            raise DataError(f"{what} must hold files like {' or '.join(self.patterns)}; got none. Check {folder}")
        return found


@dataclass(frozen=True, slots=True)
class FilePairs:
    """Samples to score, and those that cannot be.

    Attributes:
        pairs: sample, prediction, label, in order of the sample.
        missing: labelled samples without a prediction.
        unlabelled: predictions without a label.
    """

    pairs: tuple[tuple[str, Path, Path], ...]
    missing: tuple[str, ...]
    unlabelled: tuple[str, ...]

    @property
    def labelled(self) -> int:
        return len(self.pairs) + len(self.missing)

    @property
    def coverage(self) -> str:
        """Such as ``"81 of 6,019 samples"``."""
        return f"{len(self.pairs):,} of {self.labelled:,} samples"

    @property
    def is_whole(self) -> bool:
        return not self.missing


def pair_files(
    predictions: Mapping[str, Path],
    labels: Mapping[str, Path],
    tokens: Collection[str] | None = None,
    *,
    allow_missing: bool = False,
) -> FilePairs:
    """Match both by sample.

    Args:
        tokens: the samples of a split; by default all that have labels.
        allow_missing: score what is there and say how much that is.

    Raises:
        DataError: nothing matches, samples of the split have no label, or predictions are missing.
    """
    wanted = sorted(labels if tokens is None else tokens)
    if not wanted:
        raise DataError("a split must hold at least one sample; got none. Check the list of samples.")
    without = [token for token in wanted if token not in labels]
    if without:
        raise DataError(f"every sample of the split must have a label; got none for {_some(without)}.")
    pairs = tuple((token, predictions[token], labels[token]) for token in wanted if token in predictions)
    missing = tuple(token for token in wanted if token not in predictions)
    if not pairs:
        raise DataError(
            f"predictions and labels must be of the same samples; got none in both. A prediction is of "
            f"{next(iter(predictions), 'no sample')}, a label of {wanted[0]}. Name files by the labels' samples."
        )
    if missing and not allow_missing:
        raise DataError(
            f"every labelled sample must have a prediction; got {len(pairs)} of {len(wanted)}, none for "
            f"{_some(missing)}. Predict the rest, or score those that are there with --allow-missing."
        )
    chosen = set(wanted)
    return FilePairs(pairs, missing, tuple(sorted(token for token in predictions if token not in chosen)))


def _some(tokens: Collection[str]) -> str:
    named = ", ".join(list(tokens)[:NAMED])
    return f"{named} and {len(tokens) - NAMED} more" if len(tokens) > NAMED else named
