"""How the car moved around a keyframe, and images that were taken at another moment than is believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from lexivox.data.doctor.agreement import agreement
from lexivox.data.doctor.edges import EdgeView
from lexivox.data.doctor.suspects import Suspects
from lexivox.data.types import Sample, SampleDataset
from lexivox.errors import DataError
from lexivox.geometry.transform import RigidTransform

MAX_STEP_S = 1.5
"""Neighbouring keyframes further apart than this say nothing about the motion in between."""

MIN_SPEED_M_S = 0.5
"""Slower, and half a second of delay moves nothing by more than the check can see."""

MAX_OFFSET_MS, FINE_MS = 1100, 5
MAX_TRAVEL_M, STEP_M, FINE_M = 6.0, 0.2, 0.05
"""Delays and stretches of road that are tried; agreement halves within some 15 cm."""


@dataclass(frozen=True, slots=True)
class Motion:
    """Of the car around a keyframe, steady between it and its neighbours.

    Attributes:
        before: the car at the previous keyframe, seen from this one, and how many seconds earlier (negative).
        after: the next one.
    """

    before: tuple[RigidTransform, float] | None
    after: tuple[RigidTransform, float] | None

    @property
    def speed_m_s(self) -> float:
        """The larger of both sides."""
        steps = [step for step in (self.before, self.after) if step is not None]
        return max((float(pose.translation.norm()) / abs(time_s) for pose, time_s in steps), default=0.0)

    def at(self, time_s: float) -> RigidTransform:
        """``ego_now_from_ego_then`` at a time from now; beyond the neighbours it goes on as it did."""
        pose, step_s = (self.after or self.before) if time_s > 0 else (self.before or self.after)  # type: ignore[misc]
        share = time_s / step_s
        yaw = float(torch.atan2(pose.rotation[1, 0], pose.rotation[0, 0])) * share
        return RigidTransform.from_yaw(yaw, (pose.translation * share).tolist())


def motions(dataset: SampleDataset, indices: Sequence[int], samples: Sequence[Sample]) -> dict[str, Motion]:
    """Of keyframes whose neighbours in the drive are near in time and can be read; by token."""
    found = {}
    for index, sample in zip(indices, samples, strict=True):
        before, after = (_step(dataset, index + k, sample) for k in (-1, 1))
        if before is not None or after is not None:
            found[sample.token] = Motion(before, after)
    return found


def _step(dataset: SampleDataset, index: int, sample: Sample) -> tuple[RigidTransform, float] | None:
    if not 0 <= index < len(dataset) or dataset.drives[index] != sample.drive:
        return None
    try:
        other = getattr(dataset, "without_images", dataset.__getitem__)(index)
    except DataError:  # it is reported where keyframes are read
        return None
    time_s = (other.timestamp_ns - sample.timestamp_ns) / 1e9
    pose = sample.global_from_ego.inverse() @ other.global_from_ego
    return (pose, time_s) if 0 < abs(time_s) <= MAX_STEP_S else None


def top_speed_m_s(motion: Mapping[str, Motion]) -> float:
    return max((known.speed_m_s for known in motion.values()), default=0.0)


def delays(motion: Mapping[str, Motion]) -> Iterator[Suspects]:
    """The images of keyframes with known motion taken at other times than they claim; none where the car stands."""
    speed = top_speed_m_s(motion)
    if speed >= MIN_SPEED_M_S:
        step_ms = max(round(STEP_M / speed * 1e3 / FINE_MS), 1) * FINE_MS
        steps = range(1, MAX_OFFSET_MS // step_ms + 1)
        yield _delays(motion, [side * k * step_ms for k in steps for side in (1, -1)], step_ms)


def _delays(motion: Mapping[str, Motion], offsets_ms: Sequence[int], step_ms: int) -> Suspects:
    moved = {token: RigidTransform.stack([m.at(ms / 1e3) for ms in offsets_ms]) for token, m in motion.items()}

    def undo(view: EdgeView) -> EdgeView:
        return _moved(view, moved[view.token]) if view.token in moved else view

    def finer(k: int) -> Suspects:
        steps = range(offsets_ms[k] - step_ms + FINE_MS, offsets_ms[k] + step_ms, FINE_MS)
        return _delays(motion, [ms for ms in steps if ms], FINE_MS)

    mends = [
        f"set the images' times {abs(ms)} ms {'later' if ms > 0 else 'earlier'}, or take the images of the sweep's own "
        "moment"
        for ms in offsets_ms
    ]
    return Suspects("time-offset", tuple(mends), undo, finer)


def travels(views: Sequence[EdgeView]) -> Suspects:
    """Where no neighbour tells the motion: every keyframe's images taken somewhere else along a straight road."""
    by_token: dict[str, list[EdgeView]] = {}
    for view in views:
        by_token.setdefault(view.token, []).append(view)
    chosen = {token: _best_travel_m(own) for token, own in by_token.items()}
    listed = ", ".join(f"{travel_m:+.1f} m" for travel_m in chosen.values())
    mend = (
        f"take the images of the sweep's own moment: these were taken further along the road by {listed}; without "
        "neighbouring keyframes nobody can tell how many milliseconds that is"
    )
    undo = lambda view: _moved(view, _along([chosen.get(view.token, 0.0)])).at(0)  # noqa: E731
    return Suspects("time-offset", (mend,), undo)


def _best_travel_m(views: Sequence[EdgeView]) -> float:
    def best(travels_m: Sequence[float]) -> float:
        found = agreement([_moved(view, _along(travels_m)) for view in views])
        return travels_m[int((found.mean - 2 * found.error).argmax())]

    steps = round(MAX_TRAVEL_M / STEP_M)
    best_m = best([k * STEP_M for k in range(-steps, steps + 1)])
    return best([best_m + k * FINE_M for k in range(-3, 4)])


def _along(travels_m: Sequence[float]) -> RigidTransform:
    return RigidTransform.stack([RigidTransform.from_yaw(0.0, (m, 0.0, 0.0)) for m in travels_m])


def _moved(view: EdgeView, ego_now_from_then: RigidTransform) -> EdgeView:
    return replace(view, ego_from_cam=ego_now_from_then @ view.ego_from_cam)
