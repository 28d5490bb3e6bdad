"""Where predictions live and what is read: the grid and the recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt

from lexivox.config.base import Config
from lexivox.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from lexivox.data.classes import ClassTable
    from lexivox.data.types import Sample, SampleDataset
    from lexivox.geometry.grid import VoxelGrid


FineLabels = tuple[Sequence[str], Callable[[int, "Sample"], "Tensor"]]


class GridConfig(Config):
    lower_m: tuple[float, float, float]
    voxel_size_m: tuple[float, float, float]
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    frame: Literal["ego", "lidar"]

    def build(self) -> VoxelGrid:
        from lexivox.geometry.grid import VoxelGrid

        return VoxelGrid(self.lower_m, self.voxel_size_m, self.shape, self.frame)


class NuscenesData(Config):
    """A nuScenes dataroot. Splits are names in ``splits.json`` or lists of scenes.

    Attributes:
        train_every: train on every n-th keyframe in order of time only (2: the paper's ablations).
        synthetic: the dataroot is a synthetic city, whose extras hold the fine class of every point and the complete
            truth of every voxel; both are read for scoring only.
        voxels: whose labels of voxels are meant where a supervision asks for them: the synthetic city's, or a
            benchmark's below ``voxel_root`` (by default ``gts`` or ``nuScenes-Occupancy`` in the dataroot).
    """

    kind: Literal["nuscenes"] = "nuscenes"
    root: str
    version: str | None = None
    train_split: str | list[str] = "train"
    val_split: str | list[str] = "val"
    train_every: PositiveInt = 1
    synthetic: bool = False
    voxels: Literal["synthetic", "occ3d", "openoccupancy"] = "synthetic"
    voxel_root: str | None = None

    @property
    def table(self) -> ClassTable:
        """The classes of its labels."""
        from lexivox.data.classes import NUSCENES16

        return NUSCENES16

    def open(
        self, part: Literal["train", "val"], labels: bool, *, boxes: bool = False, voxel_labels: bool = False
    ) -> SampleDataset:
        """The keyframes of a part, with what is asked for; held-out ones have labels of voxels whenever they can."""
        from lexivox.data.datasets import open_dataset

        split = self.train_split if part == "train" else self.val_split
        kind = "lidarseg" if labels else None
        options: dict[str, Any] = {"every": self.train_every} if part == "train" else {}
        if voxel_labels and self.voxels != "synthetic":
            options |= {"voxel_labels": self.voxels, "voxel_root": self.voxel_root}
        else:
            options["voxel_labels"] = voxel_labels or (part == "val" and labels and self.synthetic)
        return open_dataset("nuscenes", self.root, split, version=self.version, labels=kind, boxes=boxes, **options)

    def fine_labels(self, dataset: Any) -> FineLabels | None:
        """Names of the finest classes of points, and how to read them."""
        if not self.synthetic:
            return None
        return dataset.fine_names, lambda index, sample: dataset.fine_labels(index)


class PandasetData(Config):
    """One PandaSet sequence, cut into training and held-out keyframes."""

    kind: Literal["pandaset"] = "pandaset"
    root: str
    sequence: str
    train_keyframes: list[int]
    val_keyframes: list[int]

    @property
    def table(self) -> ClassTable:
        """The classes of its labels."""
        from lexivox.data.classes import PANDASET9

        return PANDASET9

    def open(
        self, part: Literal["train", "val"], labels: bool, *, boxes: bool = False, voxel_labels: bool = False
    ) -> SampleDataset:
        """Raises:
        ConfigError: labels of voxels are asked for, which PandaSet does not have.
        """
        from lexivox.data.datasets import open_dataset

        if voxel_labels:
            raise ConfigError("labels of voxels must be asked of a recording that has them; got PandaSet.")
        keyframes = self.train_keyframes if part == "train" else self.val_keyframes
        kind = "semseg" if labels else None
        return open_dataset("pandaset", self.root, [self.sequence], keyframes=keyframes, labels=kind, boxes=boxes)

    def fine_labels(self, dataset: Any) -> FineLabels | None:
        """PandaSet has nothing finer than its point labels."""
        return None


DataConfig = Annotated[NuscenesData | PandasetData, Field(discriminator="kind")]
