"""Annotations on disk: always the released format, always whole."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path

from lexivox.data.retrieval import RetrievalAnnotation, list_file, read_retrieval, write_retrieval
from lexivox.errors import DataError


class AnnotationStore:
    """A folder of annotations, of ours or of the released benchmark, to which others are added.

    Nothing is kept in memory: every change reads the folder, so that two people may work in it, and every file is
    replaced as a whole, so that a crash loses nothing that was saved.

    Args:
        folder: made by the first save.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder)

    def read(self) -> tuple[RetrievalAnnotation, ...]:
        """All annotations, the last one saved at the end.

        Raises:
            DataError: the folder is damaged.
        """
        return read_retrieval(self.folder, "all") if list_file(self.folder, "all").is_file() else ()

    def put(self, annotation: RetrievalAnnotation, replaces: str | None = None) -> None:
        """Save an annotation in place of the one of the same keyframe with the same query, or with ``replaces``.

        A keyframe belongs to one split: its other annotations move to the split of this one.

        Raises:
            DataError: the folder is damaged or cannot be written, or the sweep has another length than before.
        """
        others = []
        for other in self.read():
            if other.token != annotation.token:
                others.append(other)
            elif len(other.mask) != len(annotation.mask):
                raise DataError(
                    f"annotations of keyframe {annotation.token} must be of one sweep; got {len(annotation.mask)} "
                    f"points, {len(other.mask)} before. Open the recording as it was, or choose another folder."
                )
            elif other.query not in (annotation.query, replaces):
                others.append(replace(other, split=annotation.split, matching=annotation.matching))
        write_retrieval(self.folder, [*others, annotation])

    def remove(self, token: str, query: str) -> None:
        """Forget an annotation.

        Raises:
            DataError: there is none, or the folder is damaged or cannot be written.
        """
        before = self.read()
        after = [other for other in before if (other.token, other.query) != (token, query)]
        if len(after) == len(before):
            raise DataError(f"annotation to remove must exist; got keyframe {token}, query {query!r}.")
        write_retrieval(self.folder, after)
