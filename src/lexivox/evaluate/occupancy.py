"""The occupancy protocol of POP-3D: which voxels are occupied, and by what (paper 4.1)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64, Integer, UInt8
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.types import FREE, IGNORED, OCCUPIED
from lexivox.errors import ConfigError, ShapeError
from lexivox.evaluate.confusion import ConfusionMatrix
from lexivox.evaluate.metric import Metric, naming, takes_arrays
from lexivox.evaluate.protocol import Pop3dProtocol, Rays, VoxelNoise
from lexivox.evaluate.scores import Scores


class OccupancyScore(Metric):
    """Accumulates predicted class volumes against LiDAR truth; what no ray reached is not counted.

    Args:
        classes: a table with a free class.
        rays, noise_voxels: how the truth was made, for the name of the protocol; scores under different ones do not
            compare.

    Raises:
        ConfigError: the table has no free class.
    """

    counters = ("semantic", "agnostic")

    def __init__(
        self,
        classes: ClassTable,
        *,
        rays: Rays = "exact",
        noise_voxels: VoxelNoise = "in_range",
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        if classes.free is None:
            raise ConfigError(f"classes of an occupancy score must include free; got {classes.name}.")
        self.classes = classes
        self.free = classes.free
        self.rays: Rays = rays
        self.noise_voxels: VoxelNoise = noise_voxels
        self.semantic = ConfusionMatrix(classes.num_classes, {classes.ignore, IGNORED}, device=device)
        self.agnostic = ConfusionMatrix(2, {IGNORED}, device=device)

    @property
    def protocol(self) -> str:
        return Pop3dProtocol(rays=self.rays, noise_voxels=self.noise_voxels).occupancy

    @property
    def identity(self) -> str:
        return f"{self.protocol} {self.classes.name}"

    @property
    def total(self) -> int:
        return int(self.agnostic.counts.sum())

    @takes_arrays
    def update(
        self,
        prediction: Integer[Tensor, "X Y Z"],
        semantic: Integer[Tensor, "x y z"],
        occupancy: UInt8[Tensor, "x y z"],
        *,
        token: str = "",
    ) -> None:
        """Counts one volume.

        Args:
            prediction: class of each voxel, the table's free class where nothing is.
            semantic: true class, free, or IGNORED (unseen, and where noise is the majority).
            occupancy: FREE, OCCUPIED or IGNORED; noise counts as occupied here.
            token: name of the sample, for errors, and so that it counts once.

        Raises:
            ShapeError: volumes of different shape.
            DataError: numbers that are no class, or a sample that was counted before.
        """
        if not prediction.shape == semantic.shape == occupancy.shape:
            raise ShapeError(
                f"prediction and truth of {token or 'a sample'} must have one shape; got {tuple(prediction.shape)}, "
                f"{tuple(semantic.shape)} and {tuple(occupancy.shape)}. Bring the prediction to the grid of the truth."
            )
        with self.counting(token), naming(token):
            self.semantic.update(prediction, semantic)
            self.agnostic.update((prediction != self.free).to(torch.uint8), occupancy)

    def compute(self) -> Scores:
        """All numbers of the protocol.

        ``miou`` is the published (classes + free) mean in which a class that is never true counts as 1;
        ``miou_present`` leaves such classes out; ``miou_present_occupied`` leaves free out as well.
        ``iou_occupied`` and ``miou_2class`` are the two readings of "class-agnostic IoU".
        """
        evaluated = self.classes.evaluated
        iou_free, iou_occupied = self.agnostic.iou().tolist()
        values = {
            "miou": self.semantic.miou((*evaluated, self.free), present_only=False),
            "miou_present": self.semantic.miou((*evaluated, self.free)),
            "miou_present_occupied": self.semantic.miou(evaluated),
            "iou_occupied": iou_occupied,
            "iou_free": iou_free,
            "miou_2class": self.agnostic.miou(),
            "precision_occupied": float(self.agnostic.precision()[OCCUPIED]),
            "recall_occupied": float(self.agnostic.recall()[OCCUPIED]),
        }
        names = dict(zip((*evaluated, self.free), (*self.classes.evaluated_names, "free"), strict=True))
        iou, recall = self.semantic.iou(), self.semantic.recall()
        per_class = {
            "iou": {name: float(iou[i]) for i, name in names.items()},
            "recall": {name: float(recall[i]) for i, name in names.items()},
        }
        return Scores(self.protocol, values, per_class, self.sample_counts(voxels=self.total))


def class_agnostic_target(
    semantic: UInt8[Tensor, "*volume"], is_noise: Bool[Tensor, "*volume"], free: int
) -> UInt8[Tensor, "*volume"]:
    """FREE, OCCUPIED or IGNORED from true classes; voxels that noise won become occupied."""
    occupied = torch.where(semantic == free, FREE, OCCUPIED).to(torch.uint8)
    return torch.where((semantic == IGNORED) & ~is_noise, IGNORED, occupied).to(torch.uint8)


def label_volume(
    is_occupied: Bool[Tensor, "*volume"], label: Int64[Tensor, "N"], free: int
) -> Int64[Tensor, "*volume"]:
    """A class volume: ``label`` of the occupied voxels in index order, ``free`` elsewhere."""
    volume = torch.full(is_occupied.shape, free, dtype=torch.int64, device=is_occupied.device)
    volume[is_occupied] = label.to(volume.device)
    return volume
