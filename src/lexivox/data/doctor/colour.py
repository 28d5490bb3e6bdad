"""Are red and blue of the images exchanged? Four weak witnesses, and cameras that see the same things.

Each witness says how much likelier images are as they are than with both channels exchanged, so it says the opposite
of exchanged images: the shipped street teacher is surer of what it sees, and right about the ground that the sweep
knows; the sky is bluer than what is below; green is yellowish more often than bluish. Cameras that see the same
points must agree about them, which finds a single exchanged camera among others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from lexivox.data.doctor.pictures import project
from lexivox.data.doctor.report import Finding, Findings
from lexivox.data.types import CameraView, Sample
from lexivox.teachers.street import StreetTeacher, street_teacher

MIN_VOTES = 0.8
"""Votes of all witnesses, each from -1 to 1; less than this on either side is no verdict."""

SURE, RIGHT, SKY, GREEN = 0.1, 0.2, 0.03, 0.2
"""What makes a whole vote: nats of confidence, nats about the ground, chroma, share of yellowish green."""

MIN_CORRELATION, MIN_SHARED = 0.3, 60
"""Two cameras agree, or see each other's colours exchanged, from this correlation over so many points."""

GROUND_NAMES = ("road", "sidewalk", "grass")
MAX_GROUND_M, COLUMNS = 0.2, 32


@dataclass(frozen=True, slots=True)
class Colours:
    """What is seen of the points of a keyframe by one camera.

    Attributes:
        camera: its name.
        votes: sum of the witnesses.
        chroma: (red - blue) / (red + green + blue) of every point of the sweep, NaN where it is not seen.
    """

    camera: str
    votes: float
    chroma: Float[Tensor, "P"]


def check_colours(samples: Sequence[Sample]) -> Findings:
    """Exchanged channels of all cameras or of some."""
    seen = [colours_of(sample, street_teacher()) for sample in samples if sample.views and sample.lidar.num_points]
    names = list(dict.fromkeys(one.camera for sample in seen for one in sample))
    if not names:
        return
    votes = {n: _mean([one.votes for sample in seen for one in sample if one.camera == n]) for n in names}
    for group in _groups(names, _agreements(seen)):
        yield from _verdict(group, votes)


def _verdict(group: Mapping[str, int], votes: Mapping[str, float]) -> Findings:
    """``group`` says of cameras that can be compared which side they are on."""
    total = _mean([side * votes[name] for name, side in group.items()])
    sides = {side: ", ".join(name for name in group if group[name] == side) for side in (1, -1)}
    told = f"({abs(total):.1f} votes of {MIN_VOTES:.1f} needed)"
    if abs(total) < MIN_VOTES and sides[-1]:
        text = f"{sides[1]} show things in colours opposite to {sides[-1]}: exchange red and blue of one side"
        yield Finding("error", f"{text}; which one cannot be told {told}", "bgr")
    elif abs(total) < MIN_VOTES:
        yield Finding("unsure", f"{sides[1]}: too little colour to tell red from blue {told}")
    else:
        wrong = sides[-1] if total > 0 else sides[1]
        if wrong:
            yield Finding("error", f"{wrong}: red and blue are exchanged; read the images as BGR {told}", "bgr")
        else:
            yield Finding("ok", f"{sides[1]}: colours are those of a street {told}")


def colours_of(sample: Sample, teacher: StreetTeacher) -> list[Colours]:
    """Of every camera of a keyframe."""
    height_m = sample.ego_from_lidar.apply(sample.lidar.xyz)[:, 2]
    found = []
    for view in sample.views:
        uv, _, visible = project(sample, view)
        chroma = torch.full((len(uv),), torch.nan)
        chroma[visible] = _chroma(_smooth(view.image, uv[visible].long()))
        votes = torch.tensor(list(_witnesses(view, uv[visible], height_m[visible], chroma[visible], teacher)))
        found.append(Colours(view.name, float(votes.clamp(-1, 1).sum()), chroma))
    return found


def _smooth(image: UInt8[Tensor, "3 H W"], pixel: Int64[Tensor, "N 2"]) -> Float[Tensor, "3 N"]:
    """Mean colour of the five by five pixels around each; black beyond the border."""
    padded = F.pad(image, (2, 2, 2, 2))
    near = [padded[:, pixel[:, 1] + down, pixel[:, 0] + right].float() for down in range(5) for right in range(5)]
    return torch.stack(near).mean(0)


def _witnesses(
    view: CameraView, uv: Tensor, height_m: Tensor, chroma: Tensor, teacher: StreetTeacher
) -> Iterator[float]:
    as_is, exchanged = teacher.probs(torch.stack([view.image, view.image.flip(0)]))
    entropy = [-(prob * prob.clamp_min(1e-4).log()).sum(0).mean() for prob in (as_is, exchanged)]
    yield float(entropy[1] - entropy[0]) / SURE
    ground = uv[height_m < MAX_GROUND_M] / uv.new_tensor([view.image_hw[1], view.image_hw[0]])
    if len(ground):
        right = [_ground_log_prob(prob, ground, teacher) for prob in (as_is, exchanged)]
        yield (right[0] - right[1]) / RIGHT
    small = F.interpolate(view.image.float()[None], size=(90, 160), mode="area")[0]
    sky = small[:, _above(uv, view.image_hw)]
    if sky.shape[1] and len(chroma):
        yield float(chroma.mean() - _chroma(sky).mean()) / SKY
    red, green, blue = small.flatten(1)
    is_green = green - torch.maximum(red, blue) > 0.08 * small.flatten(1).mean(0)
    if bool(is_green.any()):
        weight = min(1.0, float(is_green.float().mean()) / 0.03)
        yield weight * (float((red > blue)[is_green].float().mean()) - 0.5) / GREEN


def _ground_log_prob(prob: Float[Tensor, "K h w"], place: Float[Tensor, "N 2"], teacher: StreetTeacher) -> float:
    rows = [teacher.concepts.index(name) for name in GROUND_NAMES]
    pixel = (place * place.new_tensor([prob.shape[2], prob.shape[1]])).long()
    return float(prob[rows].sum(0)[pixel[:, 1], pixel[:, 0]].clamp_min(0.01).log().mean())


def _above(uv: Float[Tensor, "P 2"], image_hw: tuple[int, int]) -> Tensor:
    """Of a small image: what lies over the highest return of its column and a little more."""
    height, width = image_hw
    column = (uv[:, 0] * COLUMNS / width).long().clamp_max(COLUMNS - 1)
    top = torch.full((COLUMNS,), 1.0).scatter_reduce(0, column, (uv[:, 1] / height).float(), "amin")
    row = (torch.arange(90) + 0.5) / 90
    return row[:, None] < top.repeat_interleave(160 // COLUMNS)[None] - 0.05


def _chroma(color: Float[Tensor, "3 N"]) -> Float[Tensor, "N"]:
    return (color[0] - color[2]) / color.sum(0).clamp_min(30.0)


def _agreements(seen: Sequence[Sequence[Colours]]) -> dict[tuple[str, str], float]:
    """Correlation of the chroma of points that two cameras see."""
    shared: dict[tuple[str, str], list[Tensor]] = {}
    for sample in seen:
        for a, b in combinations(sample, 2):
            both = torch.isfinite(a.chroma) & torch.isfinite(b.chroma)
            shared.setdefault((a.camera, b.camera), []).append(torch.stack([a.chroma[both], b.chroma[both]]))
    pairs = {names: torch.cat(parts, dim=1) for names, parts in shared.items()}
    return {n: float(torch.corrcoef(p)[0, 1]) for n, p in pairs.items() if p.shape[1] >= MIN_SHARED and _varies(p)}


def _varies(pair: Float[Tensor, "2 N"]) -> bool:
    return bool((pair.std(dim=1) > 1e-4).all())


def _groups(names: Sequence[str], correlation: Mapping[tuple[str, str], float]) -> Iterator[dict[str, int]]:
    """Cameras that overlap with each other, the first of them on side 1; surest overlaps first."""
    side, group_of = dict.fromkeys(names, 1), {name: index for index, name in enumerate(names)}
    for (a, b), r in sorted(correlation.items(), key=lambda item: -abs(item[1])):
        if abs(r) >= MIN_CORRELATION and group_of[a] != group_of[b]:
            turn = side[a] * side[b] * (1 if r > 0 else -1)
            for name in [n for n in names if group_of[n] == group_of[b]]:
                side[name], group_of[name] = side[name] * turn, group_of[a]
    for group in dict.fromkeys(group_of.values()):
        members = [name for name in names if group_of[name] == group]
        yield {name: side[name] * side[members[0]] for name in members}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
