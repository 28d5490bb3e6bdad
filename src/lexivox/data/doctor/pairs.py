"""Do predictions lie on labels of the same keyframes? If not: in which order of axes, or with which number, they do."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from lexivox.data.classes import ClassTable
from lexivox.data.doctor.readings import Reading, orders
from lexivox.data.doctor.report import Finding, Findings
from lexivox.data.doctor.structure import ground_numbers
from lexivox.data.doctor.volume_reader import VolumeFile

MAX_VOXELS = 150_000
MIN_IOU, MIN_RATIO = 0.1, 1.5
"""Another order of axes counts when predictions overlap labels so much and so much better."""


@dataclass(frozen=True, slots=True)
class Known:
    """Places of a label file that it knows, and what it says there."""

    index: Tensor
    label: Tensor


def check_pairs(
    predicted: Sequence[VolumeFile], labelled: Sequence[VolumeFile]
) -> Generator[Finding, None, Reading | None]:
    """Compare predictions with labels that are right: axes, a voxel's shift, classes.

    Yields findings; its value is the reading that fits, ``None`` where none does.
    """
    first, truth = predicted[0], labelled[0]
    if truth.grid != first.grid:
        text = (
            f"predictions claim {first.grid.shape} voxels in the {first.grid.frame} frame, labels {truth.grid.shape} "
            f"in {truth.grid.frame}: convert one of them before they are compared"
        )
        yield Finding("error", text, "shape")
        return None
    known = [_known(file) for file in labelled]
    given = Reading(frame=truth.grid.frame)
    readings = list(orders(tuple(first.label.shape), truth.grid.shape, truth.grid.frame))
    if not readings:
        text = f"predictions of {tuple(first.label.shape)} have no reading on a grid of {truth.grid.shape}"
        yield Finding("error", text, "shape")
        return None
    overlap = {r: _iou(predicted, known, labelled, r) for r in readings}
    best = max(overlap, key=overlap.__getitem__)
    now = overlap.get(given, 0.0)
    if best != given and overlap[best] >= max(MIN_IOU, MIN_RATIO * now):
        text = f"predictions overlap labels badly (IoU {now:.2f}) but would ({overlap[best]:.2f}): {best.mend(given)}"
        yield Finding("error", text, best.fault(given))
    elif given in overlap:
        best = given
        text = f"no order of axes lets predictions overlap labels better than theirs (IoU {now:.2f})"
        yield (Finding("ok", text) if now >= MIN_IOU else Finding("unsure", f"{text}, which is little"))
    yield from _shifted(predicted, known, labelled, best)
    if first.classes == truth.classes:
        yield from _classes(predicted, known, labelled, best)
    return best


def _known(file: VolumeFile) -> Known:
    """Half of the places things, so that agreement means something."""
    stands = _stands(file.label, file.classes)
    parts = []
    for mask in (stands, ~stands & (file.label != file.classes.ignore)):
        index = mask.nonzero()
        parts.append(index[:: max(len(index) * 2 // MAX_VOXELS, 1)])
    index = torch.cat(parts)
    return Known(index, file.label[index[:, 0], index[:, 1], index[:, 2]])


def _stands(label: Tensor, classes: ClassTable) -> Tensor:
    """True where something stands: the floor overlaps itself wherever it is moved."""
    floor = ground_numbers(classes).nonzero()[:, 0]
    return (label != classes.free) & (label != classes.ignore) & ~torch.isin(label, floor)


def _iou(
    predicted: Sequence[VolumeFile],
    known: Sequence[Known],
    labelled: Sequence[VolumeFile],
    reading: Reading,
    step: tuple[int, int, int] = (0, 0, 0),
) -> float:
    """Overlap of what stands on the floor, at places that labels know, the predictions moved by whole voxels."""
    both = either = 0
    for said, file, places in zip(predicted, labelled, known, strict=True):
        limit = torch.tensor(file.grid.shape) - 1
        index = torch.minimum((places.index + torch.tensor(step)).clamp_min(0), limit)
        a, b = _stands(reading.pick(said.label, index), said.classes), _stands(places.label, file.classes)
        both, either = both + int((a & b).sum()), either + int((a | b).sum())
    return both / max(either, 1)


def _shifted(
    predicted: Sequence[VolumeFile], known: Sequence[Known], labelled: Sequence[VolumeFile], reading: Reading
) -> Findings:
    still = _iou(predicted, known, labelled, reading)
    moved = {step: _iou(predicted, known, labelled, reading, step) for step in _steps()}
    best = max(moved, key=moved.__getitem__)
    if moved[best] >= max(MIN_IOU, 1.2 * still):
        text = f"predictions overlap labels better ({moved[best]:.2f}, not {still:.2f}) when read {best} voxels further"
        yield Finding("error", f"{text}: their grid begins elsewhere", "half-voxel")


def _steps() -> Iterator[tuple[int, int, int]]:
    return (step for step in product((-1, 0, 1), repeat=3) if any(step))  # type: ignore[misc]


def _classes(
    predicted: Sequence[VolumeFile], known: Sequence[Known], labelled: Sequence[VolumeFile], reading: Reading
) -> Findings:
    classes = labelled[0].classes
    said = torch.cat([reading.pick(p.label, k.index) for p, k in zip(predicted, known, strict=True)])
    true = torch.cat([k.label for k in known])
    kept = (said != classes.free) & (true != classes.free) & (said != classes.ignore)
    if int(kept.sum()) < 100:
        yield Finding("unsure", "predictions and labels share too few occupied voxels to compare classes")
        return
    agree = {by: float((said[kept] + by == true[kept]).double().mean()) for by in (-1, 0, 1)}
    best = max(agree, key=agree.__getitem__)
    text = f"{agree[0]:.0%} of the voxels that both call occupied have one class"
    if best and agree[best] > max(0.3, 1.5 * agree[0]):
        text = f"{text}, {agree[best]:.0%} if predictions are numbered {best:+d}: the table is off by one"
        yield Finding("error", text, "off-by-one")
    else:
        yield Finding("ok", text)
