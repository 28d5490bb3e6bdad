"""Benchmarks of points: classes and panoptic quality, of nuScenes and SemanticKITTI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lexivox.data import formats
from lexivox.data.benchmark_classes import NUSCENES16_POINTS, NUSCENES16_POINTS_FROM_RAW, SEMANTICKITTI
from lexivox.data.classes import NUSCENES_RAW, ClassTable
from lexivox.data.point_formats import read_nuscenes_lidarseg, read_nuscenes_panoptic
from lexivox.errors import ConfigError
from lexivox.evaluate.files.base import FileBenchmark, FileOptions, sequence_and_number
from lexivox.evaluate.files.pairs import FileLayout
from lexivox.evaluate.lidarseg import LidarsegScore
from lexivox.evaluate.panoptic import MIN_POINTS, PanopticScore, Segments


class PanopticFiles(FileBenchmark):
    """Panoptic quality of points."""

    classes: ClassTable
    official_min_points: int

    def __init__(self, options: FileOptions) -> None:
        super().__init__(options)
        min_points = self.official_min_points if options.min_points is None else options.min_points
        groups = novel_groups(self.classes, options.novel) if options.novel else None
        if options.ids != "official" and self.classes != SEMANTICKITTI:
            raise ConfigError(f"segment ids must be official where there is no fault to mend; got {options.ids!r}.")
        self.score = PanopticScore(self.classes, min_points=min_points, groups=groups, ids=options.ids)
        self.metrics = (self.score,)
        if options.novel:
            self.remarks = (f"Novel classes are {', '.join(options.novel)}; base classes all others.",)


def novel_groups(classes: ClassTable, novel: Sequence[str]) -> dict[str, list[str]]:
    """Base and novel classes, and the things and stuff of each, as the groups of a :class:`PanopticScore`.

    Raises:
        ConfigError: a name that is no class that is scored, or nothing left as base.
    """
    strange = [name for name in novel if name not in classes.evaluated_names]
    base = [name for name in classes.evaluated_names if name not in novel]
    if strange or not base:
        raise ConfigError(
            f"novel classes must be some of {', '.join(classes.evaluated_names)}; got {', '.join(strange or novel)}."
        )
    groups: dict[str, list[str]] = {}
    for name, members in (("base", base), ("novel", list(novel))):
        things = [m for m in members if classes.index_of(m) in classes.things]
        stuff = [m for m in members if m not in things]
        groups |= {name: members, f"{name}_things": things, f"{name}_stuff": stuff}
    return {group: members for group, members in groups.items() if members}


class PanopticNuscenesFiles(PanopticFiles):
    """nuScenes: ground truth in raw classes, predictions in the sixteen of the challenge."""

    name = "panoptic-nuscenes"
    named_by = "lidar record"
    label_version = "nuScenes-panoptic .npz"
    labels = predictions = FileLayout(("*_panoptic.npz",), lambda path: path.stem.removesuffix("_panoptic"))
    classes, official_min_points = NUSCENES16_POINTS, MIN_POINTS["nuscenes"]

    def count(self, token: str, prediction: Path, label: Path) -> None:
        raw, number = read_nuscenes_panoptic(label, NUSCENES_RAW)
        truth = NUSCENES16_POINTS_FROM_RAW.apply(raw)
        said = Segments(*read_nuscenes_panoptic(prediction, NUSCENES16_POINTS))
        self.score.update(said, Segments(truth, number), token=token)


class PanopticKittiFiles(PanopticFiles):
    """SemanticKITTI, in the folders of the official tool."""

    name = "panoptic-semantickitti"
    named_by = "sequence"
    label_version = "SemanticKITTI .label"
    labels = FileLayout(("labels/*.label",), sequence_and_number)
    predictions = FileLayout(("predictions/*.label",), sequence_and_number)
    classes, official_min_points = SEMANTICKITTI, MIN_POINTS["semantickitti"]

    def count(self, token: str, prediction: Path, label: Path) -> None:
        said, truth = (
            Segments(*formats.read_semantickitti_points(path, self.options.ids)) for path in (prediction, label)
        )
        self.score.update(said, truth, token=token)


class LidarsegNuscenesFiles(FileBenchmark):
    """nuScenes: ground truth in raw classes, predictions in the sixteen of the challenge."""

    name = "lidarseg-nuscenes"
    named_by = "lidar record"
    label_version = "nuScenes-lidarseg .bin"
    labels = predictions = FileLayout(("*_lidarseg.bin",), lambda path: path.stem.removesuffix("_lidarseg"))

    def __init__(self, options: FileOptions) -> None:
        super().__init__(options)
        self.score = LidarsegScore(NUSCENES16_POINTS)
        self.metrics = (self.score,)

    def count(self, token: str, prediction: Path, label: Path) -> None:
        truth = NUSCENES16_POINTS_FROM_RAW.apply(read_nuscenes_lidarseg(label, NUSCENES_RAW))
        self.score.update(read_nuscenes_lidarseg(prediction, NUSCENES16_POINTS), truth, token=token)


class LidarsegKittiFiles(FileBenchmark):
    """SemanticKITTI, in the folders of the official tool."""

    name = "lidarseg-semantickitti"
    named_by = "sequence"
    label_version = "SemanticKITTI .label"
    labels, predictions = PanopticKittiFiles.labels, PanopticKittiFiles.predictions

    def __init__(self, options: FileOptions) -> None:
        super().__init__(options)
        self.score = LidarsegScore(SEMANTICKITTI, absent_is_zero=True)
        self.metrics = (self.score,)

    def count(self, token: str, prediction: Path, label: Path) -> None:
        said, truth = (formats.read_semantickitti_points(path)[0] for path in (prediction, label))
        self.score.update(said, truth, token=token)
