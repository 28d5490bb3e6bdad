"""What the doctor measures on keyframes; each check yields a severity and a sentence in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lexivox.data.doctor_pictures import project
from lexivox.data.types import CameraView, Sample

Result = tuple[Literal["ok", "warning", "error"], str]

MIN_POINTS = 1000
MAX_RANGE_M = 500.0
GROUND_CELL_M = 1.0
GROUND_RANGE_M = (4.0, 20.0)
MAX_GROUND_HEIGHT_M = 0.75
MIN_VISIBLE_SHARE = 0.005
MAX_TIME_OFFSET_MS = 120.0
EDGE_ROW_PX, EDGE_GAP_PX, EDGE_DEPTH_RATIO = 4.0, 30.0, 0.75
EDGE_SHIFTS = tuple(range(-40, 41, 4))
"""Sideways shifts in thousandths of the image's width at which edges are compared."""
MAX_EDGE_SHIFT, MIN_EDGE_DEVIATIONS = 8, 4.0
"""A better shift counts when it is further than this and better by so many standard errors."""
MIN_EDGES = 200


def check_points(sample: Sample) -> Iterator[Result]:
    """Number, finiteness and range of the points."""
    xyz = sample.lidar.xyz
    if not torch.isfinite(xyz).all():
        yield "error", "the cloud holds numbers that are not finite"
        return
    range_m = xyz.norm(dim=1)
    low, middle, high = (float(q) for q in range_m.quantile(torch.tensor([0.01, 0.5, 1.0])))
    text = f"{len(xyz)} points, range {low:.1f} m (1 %), {middle:.1f} m (median), {high:.1f} m (largest)"
    strange = len(xyz) < MIN_POINTS or high > MAX_RANGE_M
    yield ("warning", text + "; that is few, or far") if strange else ("ok", text)


def check_ground(sample: Sample) -> Iterator[Result]:
    """Height of the ground in the ego frame: the median over cells of 1 m of the lowest point in each."""
    xyz = sample.ego_from_lidar.apply(sample.lidar.xyz)
    range_m = xyz[:, :2].norm(dim=1)
    xyz = xyz[(range_m > GROUND_RANGE_M[0]) & (range_m < GROUND_RANGE_M[1])]
    if len(xyz) == 0:
        yield "warning", "no point lies 4 m to 20 m away, so the ground cannot be found"
        return
    cell = torch.floor(xyz[:, :2] / GROUND_CELL_M).long() + 1024
    _, place = torch.unique(cell[:, 0] * 2048 + cell[:, 1], return_inverse=True)
    lowest = torch.full((int(place.max()) + 1,), torch.inf).scatter_reduce(0, place, xyz[:, 2].float(), "amin")
    height_m = float(lowest.median())
    text = f"the ground lies at {height_m:+.2f} m in the ego frame"
    if abs(height_m) <= MAX_GROUND_HEIGHT_M:
        yield "ok", text
    else:
        yield "warning", f"{text}, expected near 0; is the pose of the LiDAR on the car right?"


def check_views(sample: Sample) -> Iterator[Result]:
    """Share of the points that each camera sees, and that any sees."""
    if not sample.views:
        yield "warning", "no camera was read"
        return
    seen = torch.zeros(sample.lidar.num_points, dtype=torch.bool)
    shares = []
    for view in sample.views:
        visible = project(sample, view)[2]
        seen |= visible
        shares.append((view.name, float(visible.float().mean())))
    listed = ", ".join(f"{name} {share:.0%}" for name, share in shares)
    yield "ok", f"{float(seen.float().mean()):.0%} of the points are seen by a camera: {listed}"
    for name, share in shares:
        if share < MIN_VISIBLE_SHARE:
            yield "warning", f"{name} sees {share:.2%} of the points; are its pose and intrinsics right?"


def check_times(sample: Sample) -> Iterator[Result]:
    """How long before or after the LiDAR each camera fired."""
    offsets_ms = {view.name: (view.timestamp_ns - sample.timestamp_ns) / 1e6 for view in sample.views}
    if not offsets_ms:
        return
    yield (
        "ok",
        f"cameras fire {min(offsets_ms.values()):+.0f} to {max(offsets_ms.values()):+.0f} ms from the LiDAR",
    )
    for name, offset_ms in offsets_ms.items():
        if abs(offset_ms) > MAX_TIME_OFFSET_MS:
            yield (
                "warning",
                f"{name} fired {offset_ms:+.0f} ms from the LiDAR; things that move will not line up",
            )


def check_edges(samples: Sequence[Sample]) -> Iterator[Result]:
    """Do edges of depth lie on edges of the images? Compared with the same edges shifted sideways."""
    parts = [_edge_strength(sample, view) for sample in samples for view in sample.views]
    strength = torch.cat([torch.zeros(0, len(EDGE_SHIFTS)), *parts])
    if len(strength) < MIN_EDGES:
        if parts:
            yield "warning", f"only {len(strength)} edges of depth were found, too few to check the projection"
        return
    mean, unshifted = strength.mean(dim=0), strength[:, EDGE_SHIFTS.index(0)]
    best = int(mean.argmax())
    better = strength[:, best] - unshifted
    deviations = float(better.mean() / (better.std() / len(better) ** 0.5).clamp_min(1e-9))
    text = (
        f"{len(strength)} edges of depth lie on image edges {float(unshifted.mean() / mean.mean()):.2f} times as "
        "strong as when shifted sideways"
    )
    if abs(EDGE_SHIFTS[best]) <= MAX_EDGE_SHIFT or deviations < MIN_EDGE_DEVIATIONS:
        yield "ok", text
    else:
        by = f"{EDGE_SHIFTS[best] / 10:+.1f} % of the width"
        yield "warning", f"{text}, and clearly stronger when shifted by {by}: look at the pictures"


def _edge_strength(sample: Sample, view: CameraView) -> Float[Tensor, "E S"]:
    """Sideways image gradient (relative to the image's mean) under every depth edge, for every shift."""
    uv, depth_m, visible = project(sample, view)
    edges = _depth_edges(uv[visible], depth_m[visible])
    gray = view.image.float().mean(dim=0)
    gradient = F.pad((gray[:, 2:] - gray[:, :-2]).abs(), (1, 1))
    gradient = gradient / gradient.mean().clamp_min(1e-6)
    height, width = view.image_hw
    row = edges[:, 1].long().clamp(0, height - 1)
    columns = edges[:, :1] + torch.tensor(EDGE_SHIFTS) / 1000 * width
    return gradient[row[:, None], columns.long().clamp(0, width - 1)].clamp_max(10.0)


def _depth_edges(uv: Tensor, depth_m: Tensor) -> Tensor:
    """Pixels (E, 2) midway between neighbours in a row where the depth jumps: outlines of near things."""
    row = torch.floor(uv[:, 1] / EDGE_ROW_PX).long()
    order = (row.double() * 1e5 + uv[:, 0].double()).argsort()
    uv, depth_m, row = uv[order], depth_m[order], row[order]
    gap_px = uv[1:, 0] - uv[:-1, 0]
    nearer, farther = torch.minimum(depth_m[1:], depth_m[:-1]), torch.maximum(depth_m[1:], depth_m[:-1])
    jumps = (row[1:] == row[:-1]) & (gap_px < EDGE_GAP_PX) & (nearer < EDGE_DEPTH_RATIO * farther)
    return ((uv[1:] + uv[:-1]) / 2)[jumps]
