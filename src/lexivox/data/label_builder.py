"""Dense occupancy labels of a user's own recording: the sweeps of a whole window, seen from one keyframe.

Five steps, each a function below: *gather* the returns of every sweep, the world moved by the poses and things by
their boxes; *vote* on the class of every voxel; clear what rays passed; *close* pinholes if wanted; *look* from the
cameras. A manifest says how it was done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.collate import grid_from_lidar
from lexivox.data.dense_labels import DenseLabels
from lexivox.data.types import Sample, SampleDataset
from lexivox.data.visibility import seen_by_camera
from lexivox.errors import ConfigError, DataError
from lexivox.geometry.boxes import box_of_points, into_box, out_of_box
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.voxelize import majority_label, occupancy_counts
from lexivox.ops.traversal import mark_free

FORMAT = "lexivox-labels-1"

OCCUPANCY = ClassTable(
    name="occupancy",
    names=("free", "occupied"),
    free=0,
    ignore=255,
    things=frozenset(),
    palette=((255, 255, 255), (90, 90, 90)),
)
"""All that a recording without point labels and boxes can tell."""


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """How labels are made.

    Attributes:
        before, after: keyframes of the same drive that lend their sweeps.
        box_margin_m: boxes are this much larger when they collect their points.
        min_points: returns that make a voxel occupied.
        close: fill unobserved pinholes of static classes between occupied voxels (3 x 3 x 3 closing).
        pixel_stride: one camera ray for so many pixels along each axis.
    """

    before: int = 10
    after: int = 10
    box_margin_m: float = 0.1
    min_points: int = 1
    close: bool = False
    pixel_stride: int = 4


@dataclass(frozen=True, slots=True)
class BuiltLabels:
    """Labels and how they were made."""

    labels: DenseLabels
    manifest: dict


def build_labels(dataset: SampleDataset, index: int, grid: VoxelGrid, policy: LabelPolicy | None = None) -> BuiltLabels:
    """Dense labels of keyframe ``index`` on ``grid``.

    With point labels every return votes with its class. Without, returns inside boxes vote with the class of the
    box and all others are ``background``. Without boxes, things move unseen: with point labels their returns are
    taken from the keyframe's own sweep only, and without any, what moved leaves a trail.

    Raises:
        ConfigError: a policy that cannot work.
        DataError: a keyframe of the window that cannot be read.
    """
    policy = policy or LabelPolicy()
    _check(policy)
    target = dataset[index]
    classes: ClassTable = dataset.classes  # type: ignore[assignment]
    builder = _Builder(target, grid, classes, _table(classes, target), policy)
    window = _window(dataset, index, policy)
    sweeps = [builder.gather(target if i == index else dataset[i]) for i in window]
    xyz, vote, origin, end = (torch.cat(parts) for parts in zip(*sweeps, strict=True))
    labels = builder.labels(xyz, vote, origin, end, own_rays=sweeps[window.index(index)][2:])
    return BuiltLabels(labels, _manifest(dataset, index, window, labels, policy))


def _check(policy: LabelPolicy) -> None:
    for name, least in {"before": 0, "after": 0, "min_points": 1, "pixel_stride": 1}.items():
        if getattr(policy, name) < least:
            raise ConfigError(f"{name} of a label policy must be at least {least}; got {getattr(policy, name)}.")


def _window(dataset: SampleDataset, index: int, policy: LabelPolicy) -> list[int]:
    """Keyframes of the same drive around ``index``; a drive stands together in a data set."""
    first, last = max(index - policy.before, 0), min(index + policy.after, len(dataset) - 1)
    return [i for i in range(first, last + 1) if dataset.drives[i] == dataset.drives[index]]


def _table(classes: ClassTable, sample: Sample) -> ClassTable:
    """What can be told: classes, classes of things alone, or only that something is there."""
    if sample.point_labels is not None:
        if classes.free is None:
            raise DataError(f"classes to label space with must include free; got {classes.name}. Use one with free.")
        return classes
    if sample.boxes is None:
        return OCCUPANCY
    things = sorted(classes.things)
    return ClassTable(
        name=f"{classes.name}_things",
        names=("ignored", "background", *(classes.names[i] for i in things), "free"),
        free=2 + len(things),
        ignore=0,
        things=frozenset(range(2, 2 + len(things))),
        palette=((0, 0, 0), (150, 150, 150), *(classes.palette[i] for i in things), (255, 255, 255)),
    )


@dataclass(frozen=True, slots=True)
class _Builder:
    """The keyframe that is labelled, and how."""

    target: Sample
    grid: VoxelGrid
    classes: ClassTable
    table: ClassTable
    policy: LabelPolicy

    def gather(
        self, sample: Sample
    ) -> tuple[Float[Tensor, "P 3"], Int64[Tensor, "P"], Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        """Returns of a sweep that vote, as they lie at the keyframe's time, their classes, and its rays.

        A thing moves with its box; what moves and has no box in the keyframe is left out. Metres of the grid.
        """
        grid_from_ego = grid_from_lidar(self.target, self.grid) @ self.target.ego_from_lidar.inverse()
        grid_from_sweep = grid_from_ego @ self.target.global_from_ego.inverse() @ sample.global_from_ego
        xyz = sample.ego_from_lidar.apply(sample.lidar.xyz.double())
        end = grid_from_sweep.apply(xyz)
        origin = grid_from_sweep.apply(sample.ego_from_lidar.translation[None]).expand_as(end)
        box = self._box_of(sample, xyz)
        label = self._label_of(sample, box)
        placed, kept = end, label != self.table.ignore
        if sample is not self.target:
            carried, is_carried = _carry(sample, self.target, xyz, box)
            placed = torch.where(is_carried[:, None], grid_from_ego.apply(carried), end)
            kept = kept & (is_carried | ~self._moves(sample, box, label))
        return placed[kept], label[kept], origin, end

    def _box_of(self, sample: Sample, xyz_ego: Float[Tensor, "P 3"]) -> Int64[Tensor, "P"]:
        boxes = sample.boxes
        if boxes is None:
            return torch.full((len(xyz_ego),), -1)
        return box_of_points(xyz_ego, boxes.center, boxes.size_m, boxes.yaw_rad, self.policy.box_margin_m)

    def _label_of(self, sample: Sample, box: Int64[Tensor, "P"]) -> Int64[Tensor, "P"]:
        if sample.point_labels is not None:
            return sample.point_labels.label
        if sample.boxes is None:
            return torch.full_like(box, self.table.index_of("occupied"))
        background = self.table.index_of("background")
        number = torch.full((self.classes.num_classes,), background)
        for thing in self.classes.things:
            number[thing] = self.table.index_of(self.classes.names[thing])
        of_box = torch.cat([number[sample.boxes.label], torch.tensor([background])])  # -1 reads the last
        return of_box[box]

    def _moves(self, sample: Sample, box: Int64[Tensor, "P"], label: Int64[Tensor, "P"]) -> Bool[Tensor, "P"]:
        """Returns that may have been elsewhere at the keyframe's time."""
        if sample.boxes is not None:
            return box >= 0
        return torch.isin(label, torch.tensor(sorted(self.table.things), dtype=torch.int64))

    def labels(
        self,
        xyz: Float[Tensor, "P 3"],
        vote: Int64[Tensor, "P"],
        origin: Float[Tensor, "R 3"],
        end: Float[Tensor, "R 3"],
        own_rays: tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]],
    ) -> DenseLabels:
        """All returns and rays of the window, and the rays of the keyframe's own sweep."""
        table = self.table
        label = _vote(self.grid, xyz, vote, table, self.policy.min_points)
        is_free = (label == table.ignore) & mark_free(self.grid, origin, end)
        is_free &= ~self._stands_in_the_way(is_free & ~mark_free(self.grid, *own_rays))
        label[is_free] = table.free  # type: ignore[assignment]
        label = _close(label, table) if self.policy.close else label
        seen = label != table.ignore
        by_camera = seen_by_camera(self.target, self.grid, seen & (label != table.free), self.policy.pixel_stride)
        return DenseLabels(self.grid, table, label, seen, seen & by_camera)

    def _stands_in_the_way(self, passed: Bool[Tensor, "X Y Z"]) -> Bool[Tensor, "X Y Z"]:
        """Voxels inside a box of the keyframe: that rays passed at other times says nothing of the thing there now."""
        inside, boxes = torch.zeros_like(passed), self.target.boxes
        if boxes is None or not len(boxes.label):
            return inside
        index = passed.nonzero()
        grid_from_ego = grid_from_lidar(self.target, self.grid) @ self.target.ego_from_lidar.inverse()
        xyz = grid_from_ego.inverse().apply(self.grid.xyz_from_index(index, torch.float64))
        held = box_of_points(xyz, boxes.center, boxes.size_m, boxes.yaw_rad) >= 0
        inside[tuple(index[held].T)] = True
        return inside


def _carry(
    sample: Sample, target: Sample, xyz_ego: Float[Tensor, "P 3"], box: Int64[Tensor, "P"]
) -> tuple[Float[Tensor, "P 3"], Bool[Tensor, "P"]]:
    """Points of boxes whose track the keyframe knows, moved into its box there (keyframe's ego frame)."""
    carried, is_carried = xyz_ego.clone(), torch.zeros(len(box), dtype=torch.bool)
    if sample.boxes is None or target.boxes is None:
        return carried, is_carried
    place = {track: number for number, track in enumerate(target.boxes.track.tolist())}
    for number, track in enumerate(sample.boxes.track.tolist()):
        if track in place:
            own, there = box == number, place[track]
            local = into_box(xyz_ego[own], sample.boxes.center[number], sample.boxes.yaw_rad[number])
            carried[own] = out_of_box(local, target.boxes.center[there], target.boxes.yaw_rad[there])
            is_carried |= own
    return carried, is_carried


def _vote(
    grid: VoxelGrid, xyz: Float[Tensor, "P 3"], label: Int64[Tensor, "P"], table: ClassTable, min_points: int
) -> UInt8[Tensor, "X Y Z"]:
    """Majority class where enough returns lie, ``ignore`` elsewhere."""
    volume = torch.full(grid.shape, table.ignore, dtype=torch.uint8)
    index, winner = majority_label(grid, xyz, label, table.num_classes)
    if min_points > 1:
        enough = occupancy_counts(grid, xyz)[tuple(index.T)] >= min_points
        index, winner = index[enough], winner[enough]
    volume[tuple(index.T)] = winner.to(torch.uint8)
    return volume


def _close(label: UInt8[Tensor, "X Y Z"], table: ClassTable) -> UInt8[Tensor, "X Y Z"]:
    """Give unobserved voxels the static class whose closing (grow, then shrink) covers them."""
    unseen = label == table.ignore
    for number in table.evaluated:
        if number not in table.things:
            mask = F.pad((label == number).float()[None], [2] * 6)  # beyond the border nothing is known
            closed = -F.max_pool3d(-F.max_pool3d(mask, 3, 1), 3, 1)
            label = torch.where(unseen & (closed[0] > 0), number, label)
    return label


def _manifest(
    dataset: SampleDataset, index: int, window: Sequence[int], labels: DenseLabels, policy: LabelPolicy
) -> dict:
    return {
        "format": FORMAT,
        "data_set": dataset.name,
        "keyframe": dataset.tokens[index],
        "sweeps": [dataset.tokens[i] for i in window],
        "grid": asdict(labels.grid),
        "classes": {"table": labels.classes.name, "names": list(labels.classes.names)},
        "unobserved": labels.classes.ignore,
        "policy": asdict(policy),
        "label_sha256": hashlib.sha256(labels.label.numpy().tobytes()).hexdigest(),
    }
