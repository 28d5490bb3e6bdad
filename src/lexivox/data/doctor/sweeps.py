"""Sweeps and shutters of one keyframe: points, ground, what cameras see, when they fired."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import torch

from lexivox.data.doctor.pictures import project
from lexivox.data.doctor.report import Finding, Findings
from lexivox.data.types import Sample

MIN_POINTS = 1000
MAX_RANGE_M = 500.0
GROUND_CELL_M = 1.0
GROUND_RANGE_M = (4.0, 20.0)
MAX_GROUND_HEIGHT_M = 0.75
MIN_VISIBLE_SHARE = 0.005
MAX_TIME_OFFSET_MS = 120.0
NUM_SECTORS, MAX_GAP_DEG, MIN_SHARE = 72, 60, 0.6
"""A sweep lost a part if its silence is so much wider, or it has so much less of the points, than the usual one."""


def check_points(sample: Sample) -> Findings:
    """Number, finiteness and range of the points, and whether they surround the car."""
    xyz = sample.lidar.xyz
    if len(xyz) == 0:
        yield Finding("error", "the sweep holds no point; fetch its file again or leave the sample out", "empty-sweep")
        return
    if not torch.isfinite(xyz).all():
        yield Finding("error", "the cloud holds numbers that are not finite; fetch its file again", "strange-points")
        return
    range_m = xyz.norm(dim=1)
    low, middle, high = (float(q) for q in range_m.quantile(torch.tensor([0.01, 0.5, 1.0])))
    text = f"{len(xyz)} points, range {low:.1f} m (1 %), {middle:.1f} m (median), {high:.1f} m (largest)"
    if len(xyz) < MIN_POINTS:
        yield Finding("warning", f"{text}; that is few: is the file whole?", "empty-sweep")
    elif high > MAX_RANGE_M:
        yield Finding("warning", f"{text}; that is far: are these metres?", "strange-points")
    else:
        yield Finding("ok", text)


def silent_deg(sample: Sample) -> float:
    """The widest gap between the directions that hold returns, in degrees of the turn."""
    xyz = sample.lidar.xyz
    turn = torch.atan2(xyz[:, 1], xyz[:, 0]) / (2 * torch.pi) + 0.5
    filled = torch.bincount((turn * NUM_SECTORS).long().clamp(0, NUM_SECTORS - 1), minlength=NUM_SECTORS) > 0
    places = filled.nonzero().flatten()
    if len(places) == 0:
        return 360.0
    gaps = torch.diff(torch.cat([places, places[:1] + NUM_SECTORS])) - 1
    return float(gaps.max()) * 360 / NUM_SECTORS


def check_ground(sample: Sample) -> Findings:
    """Height of the ground in the ego frame: the median over cells of 1 m of the lowest point in each."""
    xyz = sample.ego_from_lidar.apply(sample.lidar.xyz)
    range_m = xyz[:, :2].norm(dim=1)
    xyz = xyz[(range_m > GROUND_RANGE_M[0]) & (range_m < GROUND_RANGE_M[1])]
    if len(xyz) == 0:
        yield Finding("unsure", "no point lies 4 m to 20 m away, so the ground cannot be found")
        return
    cell = torch.floor(xyz[:, :2] / GROUND_CELL_M).long() + 1024
    _, place = torch.unique(cell[:, 0] * 2048 + cell[:, 1], return_inverse=True)
    lowest = torch.full((int(place.max()) + 1,), torch.inf).scatter_reduce(0, place, xyz[:, 2].float(), "amin")
    height_m = float(lowest.median())
    text = f"the ground lies at {height_m:+.2f} m in the ego frame"
    if abs(height_m) <= MAX_GROUND_HEIGHT_M:
        yield Finding("ok", text)
    else:
        mend = "is the pose of the LiDAR on the car right, or its inverse?"
        yield Finding("warning", f"{text}, expected near 0; {mend}", "ground")


def check_views(sample: Sample) -> Findings:
    """Share of the points that each camera sees, and that any sees."""
    if not sample.views:
        yield Finding("unsure", "no camera was read, so nothing is said about images")
        return
    seen = torch.zeros(sample.lidar.num_points, dtype=torch.bool)
    shares = []
    for view in sample.views:
        visible = project(sample, view)[2]
        seen |= visible
        shares.append((view.name, float(visible.float().mean())))
    listed = ", ".join(f"{name} {share:.0%}" for name, share in shares)
    yield Finding("ok", f"{float(seen.float().mean()):.0%} of the points are seen by a camera: {listed}")
    for name, share in shares:
        if share < MIN_VISIBLE_SHARE:
            text = f"{name} sees {share:.2%} of the points; are its pose and intrinsics right?"
            yield Finding("warning", text, "few-points")


def check_times(sample: Sample) -> Findings:
    """How long before or after the LiDAR each camera fired, as the files say."""
    offsets_ms = {view.name: (view.timestamp_ns - sample.timestamp_ns) / 1e6 for view in sample.views}
    if not offsets_ms:
        return
    first, last = min(offsets_ms.values()), max(offsets_ms.values())
    yield Finding("ok", f"cameras fire {first:+.0f} to {last:+.0f} ms from the LiDAR, by their stamps")
    for name, offset_ms in offsets_ms.items():
        if abs(offset_ms) > MAX_TIME_OFFSET_MS:
            text = f"{name} fired {offset_ms:+.0f} ms from the LiDAR; things that move will not line up"
            yield Finding("warning", text, "late-camera")


def check_turns(samples: Sequence[Sample]) -> Findings:
    """Sweeps that are silent over a part of the turn which the others fill, or hold far fewer points than they."""
    if len(samples) < 2:
        return
    gaps_deg = [silent_deg(sample) for sample in samples]
    counts = [sample.lidar.num_points for sample in samples]
    for k, (sample, gap_deg, count) in enumerate(zip(samples, gaps_deg, counts, strict=True)):
        usual_deg, usual = (median(values[:k] + values[k + 1 :]) for values in (gaps_deg, counts))
        if gap_deg > usual_deg + MAX_GAP_DEG or count < MIN_SHARE * usual:
            text = (
                f"{sample.token}: {count} points with a gap of {gap_deg:.0f} degrees, where the others have "
                f"{usual:.0f} and {usual_deg:.0f} degrees; fetch its file again"
            )
            yield Finding("warning", text, "truncated-files")
