"""The occupancy protocol of POP-3D: which voxels are occupied, and by what (paper 4.1)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int64, Integer, UInt8
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.types import FREE, IGNORED, OCCUPIED
from lexivox.errors import ConfigError
from lexivox.evaluate.confusion import ConfusionMatrix
from lexivox.evaluate.protocol import Pop3dProtocol, Rays, VoxelNoise
from lexivox.evaluate.scores import Scores, require_same_protocol


class OccupancyScore:
    """Accumulates predicted class volumes against LiDAR truth; what no ray reached is not counted.

    Args:
        classes: a table with a free class.
        rays, noise_voxels: how the truth was made, for the name of the protocol; scores under different ones do not
            compare.

    Raises:
        ConfigError: the table has no free class.
    """

    def __init__(
        self,
        classes: ClassTable,
        *,
        rays: Rays = "exact",
        noise_voxels: VoxelNoise = "in_range",
        device: torch.device | str = "cpu",
    ) -> None:
        if classes.free is None:
            raise ConfigError(f"classes of an occupancy score must include free; got {classes.name}.")
        self.classes = classes
        self.free = classes.free
        self.rays: Rays = rays
        self.noise_voxels: VoxelNoise = noise_voxels
        self.semantic = ConfusionMatrix(classes.num_classes, {classes.ignore, IGNORED}, device=device)
        self.agnostic = ConfusionMatrix(2, {IGNORED}, device=device)
        self.num_samples = 0

    @property
    def protocol(self) -> str:
        return Pop3dProtocol(rays=self.rays, noise_voxels=self.noise_voxels).occupancy

    def update(
        self,
        prediction: Integer[Tensor, "*batch X Y Z"],
        semantic: Integer[Tensor, "*batch X Y Z"],
        occupancy: UInt8[Tensor, "*batch X Y Z"],
    ) -> None:
        """Counts one volume, or several at once.

        Args:
            prediction: class of each voxel, the table's free class where nothing is.
            semantic: true class, free, or IGNORED (unseen, and where noise is the majority).
            occupancy: FREE, OCCUPIED or IGNORED; noise counts as occupied here.
        """
        self.semantic.update(prediction, semantic)
        self.agnostic.update((prediction != self.free).to(torch.uint8), occupancy)
        self.num_samples += prediction.shape[:-3].numel()

    def merge(self, other: OccupancyScore) -> OccupancyScore:
        """The score of both together.

        Raises:
            ShapeError: they follow different protocols or classes.
        """
        require_same_protocol(f"{self.protocol} {self.classes.name}", f"{other.protocol} {other.classes.name}")
        merged = OccupancyScore(self.classes, rays=self.rays, noise_voxels=self.noise_voxels)
        merged.semantic = self.semantic.merge(other.semantic)
        merged.agnostic = self.agnostic.merge(other.agnostic)
        merged.num_samples = self.num_samples + other.num_samples
        return merged

    def state(self) -> dict[str, Any]:
        return {
            "samples": self.num_samples,
            "semantic": self.semantic.state(),
            "agnostic": self.agnostic.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.num_samples = int(state["samples"])
        self.semantic.restore(state["semantic"])
        self.agnostic.restore(state["agnostic"])

    def scores(self) -> Scores:
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
        counts = {"samples": self.num_samples, "voxels": int(self.agnostic.counts.sum())}
        return Scores(self.protocol, values, per_class, counts)


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
