"""What every benchmark of files is: where its files lie, how they are read, what counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from lexivox.evaluate.files.pairs import FileLayout
from lexivox.evaluate.metric import Metric

NamedBy = Literal["sample", "lidar record", "lidar file", "sequence", "list"]


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What some benchmarks need besides files.

    Attributes:
        origins: LiDAR origins of all keyframes of a sample's drive, metres in the grid's frame, by sample (RayIoU).
        ids: ``"official"`` or ``"merged"`` segment ids, see :func:`lexivox.data.formats.read_semantickitti_points`.
        min_points: of unmatched segments; by default the official number (panoptic).
        novel: classes that training did not name; means over them and over the others are reported too (panoptic).
        split: its name, for that of the protocol (retrieval).
    """

    origins: Mapping[str, Float[Tensor, "N 3"]] = field(default_factory=dict)
    ids: Literal["official", "merged"] = "official"
    min_points: int | None = None
    novel: tuple[str, ...] = ()
    split: str = ""


class FileBenchmark(ABC):
    """One benchmark: its files and its metrics.

    Attributes:
        name: as the command line knows it.
        named_by: what names a sample's files: a nuScenes token, a file of its LiDAR, KITTI's sequence and number, or
            a list beside the labels.
        label_version: what the labels are, in words, for the report.
        labels, predictions: where files lie.
        metrics: one for each mask.
        masks: of each metric, for the report.
        remarks: what else a reader must know of the options.
    """

    name: ClassVar[str]
    named_by: ClassVar[NamedBy] = "sample"
    label_version: str
    labels: FileLayout
    predictions: FileLayout
    masks: tuple[str, ...] = ("all labelled",)
    remarks: tuple[str, ...] = ()

    def __init__(self, options: FileOptions) -> None:
        self.options = options
        self.metrics: tuple[Metric, ...] = ()

    @abstractmethod
    def count(self, token: str, prediction: Path, label: Path) -> None:
        """Count one sample.

        Raises:
            DataError: a file is damaged or holds what the benchmark does not know; names the sample.
            ShapeError: another shape.
        """


def stem_or_folder(path: Path) -> str:
    """``<token>.npz``, or a fixed name in a folder of that name."""
    return path.parent.name if path.stem in ("labels", "pred", "semantics") else path.stem


def sequence_and_number(path: Path) -> str:
    """``08/000000`` of ``sequences/08/labels/000000.label``."""
    return f"{path.parent.parent.name}/{path.stem}"
