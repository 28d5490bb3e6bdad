"""What moves, apart: is it on the map, and does it drag a trail behind it?

A network taught by what was seen over time smears things that move along their path, and a mean over all voxels
hides it: they are few. So the voxels of moving things are counted alone, together with the free voxels that they
leave or take.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.types import VoxelLabels
from lexivox.errors import ShapeError
from lexivox.evaluate.dense import DYNAMIC_CLASSES
from lexivox.evaluate.metric import Metric, takes_arrays
from lexivox.evaluate.scores import Scores
from lexivox.geometry.grid import VoxelGrid

_MOVING, _STANDING, _PATH = 0, 1, 2
_FREE, _OTHER, _RIGHT = 0, 1, 2


class MovingScore(Metric):
    """Accumulates what is said of moving things, of standing things of the same kinds, and of free paths.

    ``counts[where, said]``: moving, standing, path; free, occupied, right. On a path nothing is right, so a class that
    moves by itself takes that place.

    Args:
        classes: with a free class.
        name: of the protocol.
        moving_m_s: faster voxels move.
        path_s: so many seconds before and after, a thing is followed at its speed of now.
    """

    counters = ("counts",)

    def __init__(self, classes: ClassTable, name: str, moving_m_s: float = 0.5, path_s: float = 1.5) -> None:
        super().__init__()
        self.classes, self.name = classes, name
        self.moving_m_s, self.path_s = moving_m_s, path_s
        self.counts: Int64[Tensor, "3 3"] = torch.zeros(3, 3, dtype=torch.int64)

    @property
    def protocol(self) -> str:
        return self.name

    @property
    def identity(self) -> str:
        return f"{self.name} {self.classes.name} {self.moving_m_s} {self.path_s}"

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @takes_arrays
    def update(
        self,
        prediction: Int64[Tensor, "X Y Z"],
        truth: VoxelLabels,
        counted: Bool[Tensor, "X Y Z"] | None = None,
        *,
        token: str = "",
    ) -> None:
        """Counts one volume of classes.

        Args:
            counted: True where a voxel counts.

        Raises:
            ShapeError: volumes of different shape.
            DataError: a sample that was counted before.
        """
        if prediction.shape != truth.label.shape:
            raise ShapeError(
                f"prediction and label of {token or 'a sample'} must have one shape; got {tuple(prediction.shape)} and "
                f"{tuple(truth.label.shape)}. Bring the prediction to the label's grid."
            )
        named = torch.tensor([name in DYNAMIC_CLASSES for name in self.classes.names])
        numbers = named.nonzero()[:, 0]
        moves = truth.flow.norm(dim=-1) > self.moving_m_s
        moves &= truth.label != truth.free_label
        stands = ~moves & torch.isin(truth.label, numbers)
        path = swept(truth.grid, moves, truth.flow, self.path_s) & (truth.label == truth.free_label)
        said = torch.where(prediction == truth.free_label, _FREE, _OTHER)
        right = torch.where(path, torch.isin(prediction, numbers), prediction == truth.label)
        said = torch.where((said != _FREE) & right, _RIGHT, said)
        with self.counting(token):
            for where, mask in ((_MOVING, moves), (_STANDING, stands), (_PATH, path)):
                inside = mask if counted is None else mask & counted
                self.counts[where] += torch.bincount(said[inside], minlength=3)

    def compute(self) -> Scores:
        """``iou``: moving voxels that are occupied, among these and the false ones of their paths; ``iou_class``: of
        the right class, against paths filled with a class that moves. ``recall`` and ``recall_class``: of moving
        voxels; the same of ``standing`` things of those classes. ``trail``: share of the paths that is filled,
        ``trail_dynamic``: with a class that moves."""
        counts = self.counts.tolist()
        moving, standing, path = (sum(row) for row in counts)
        found, filled = moving - counts[_MOVING][_FREE], path - counts[_PATH][_FREE]
        values = {
            "iou": _share(found, moving + filled),
            "iou_class": _share(counts[_MOVING][_RIGHT], moving + counts[_PATH][_RIGHT]),
            "recall": _share(found, moving),
            "recall_class": _share(counts[_MOVING][_RIGHT], moving),
            "standing_recall": _share(standing - counts[_STANDING][_FREE], standing),
            "standing_recall_class": _share(counts[_STANDING][_RIGHT], standing),
            "trail": _share(filled, path),
            "trail_dynamic": _share(counts[_PATH][_RIGHT], path),
        }
        places = {"moving_voxels": moving, "standing_voxels": standing, "path_voxels": path}
        return Scores(self.protocol, values, counts=self.sample_counts(**places))


def swept(
    grid: VoxelGrid, moves: Bool[Tensor, "X Y Z"], flow: Float[Tensor, "X Y Z 2"], path_s: float
) -> Bool[Tensor, "X Y Z"]:
    """Voxels that hold the centre of a moving voxel at some time within ``path_s`` before or after now.

    Args:
        flow: metres per second along x and y of the grid.
    """
    index = moves.nonzero()
    path = torch.zeros_like(moves)
    if not len(index):
        return path
    xyz, speed = grid.xyz_from_index(index), flow[moves]
    reach_m = float(speed.norm(dim=-1).max()) * 2 * path_s
    steps = math.ceil(2 * reach_m / min(grid.voxel_size_m[:2])) + 1  # half a voxel each
    for time_s in torch.linspace(-path_s, path_s, steps).tolist():
        place = xyz.clone()
        place[:, :2] += time_s * speed
        place = place[grid.contains(place)]
        path[tuple(grid.index_from_xyz(place).T)] = True
    return path


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
