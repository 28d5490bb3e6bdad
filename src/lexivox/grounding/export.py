"""Hits as files: JSON for programs, CSV for tables, PLY for 3D viewers, GeoJSON for maps."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lexivox.errors import ConfigError
from lexivox.files import write_atomically
from lexivox.geometry.transform import RigidTransform
from lexivox.grounding.answer import Answer
from lexivox.grounding.regions import Box, Region

FORMAT = "lexivox-hits-1"
COLORS = ((228, 87, 46), (46, 134, 228), (60, 168, 92), (168, 92, 200), (220, 180, 40), (40, 180, 180))
_EDGES = [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)]


@dataclass(frozen=True, slots=True)
class Findings:
    """Answers of one keyframe with their regions.

    Attributes:
        token: the keyframe.
        answers: one per query.
        regions: of each answer, best first.
        global_from_grid: pose of the grid, where it is known.
    """

    token: str
    answers: Sequence[Answer]
    regions: Sequence[Sequence[Region]]
    global_from_grid: RigidTransform | None = None


def find(
    token: str,
    answers: Sequence[Answer],
    global_from_grid: RigidTransform | None = None,
    above: float | None = None,
    min_voxels: int = 1,
) -> Findings:
    """Join the hits of every answer to regions.

    Raises:
        ConfigError: an answer that does not know which voxels count (see :meth:`Answer.hits`).
    """
    regions = [answer.regions(above, min_voxels) for answer in answers]
    return Findings(token, answers, regions, global_from_grid)


def write_hits(path: str | Path, findings: Findings) -> Path:
    """Write findings in the format that the file name ends with; returns the path.

    Raises:
        ConfigError: another ending, or GeoJSON without a pose.
        DataError: the file cannot be written.
    """
    path = Path(path)
    writers: dict[str, Callable[[Findings], str]] = {
        ".json": hits_json,
        ".csv": hits_csv,
        ".ply": hits_ply,
        ".geojson": hits_geojson,
    }
    if path.suffix.lower() not in writers:
        raise ConfigError(f"a file of hits must end with {', '.join(writers)}; got '{path.name}'. Rename it.")
    text = writers[path.suffix.lower()](findings)
    return write_atomically(path, lambda file: file.write(text.encode()), "a file of hits")


def global_box(box: Box, global_from_grid: RigidTransform) -> Box:
    """The same box in the global frame; the small roll and pitch of the car are left out of its yaw."""
    center = global_from_grid.apply(torch.tensor([box.center], dtype=torch.float64))[0]
    yaw = torch.tensor(box.yaw_rad, dtype=torch.float64)
    ahead = global_from_grid.rotation.double() @ torch.stack([yaw.cos(), yaw.sin(), torch.zeros_like(yaw)])
    x, y, z = center.tolist()
    return replace(box, center=(x, y, z), yaw_rad=float(torch.atan2(ahead[1], ahead[0])), frame="global")


# ----------------------------------------------------------------------------------------------------- formats


def hits_json(findings: Findings) -> str:
    """Everything: verdicts, boxes in the grid's frame and, with a pose, in the global one, and every voxel."""
    queries = [_query(findings, number) for number in range(len(findings.answers))]
    frame = findings.answers[0].grid.frame if findings.answers else None
    return json.dumps({"format": FORMAT, "token": findings.token, "frame": frame, "queries": queries}, indent=1)


def _query(findings: Findings, number: int) -> dict:
    answer, verdict = findings.answers[number], findings.answers[number].verdict
    known = {"text": answer.text, "measure": answer.measure, "here": answer.here}
    if verdict is not None:
        known |= {name: getattr(verdict, name) for name in ("p_value", "false_alarm_rate", "threshold")}
    return known | {"regions": [_region(findings, answer, region) for region in findings.regions[number]]}


def _region(findings: Findings, answer: Answer, region: Region) -> dict:
    known = {"score": round(region.score, 4), "box": _box(region.box)}
    if findings.global_from_grid is not None:
        known["global_box"] = _box(global_box(region.box, findings.global_from_grid))
    centers = answer.grid.xyz_from_index(region.index, torch.float64)
    return known | {"voxels": [[round(v, 3) for v in xyz] for xyz in centers.tolist()]}


def _box(box: Box) -> dict:
    return {
        "frame": box.frame,
        "center_m": [round(v, 3) for v in box.center],
        "size_m": [round(v, 3) for v in box.size_m],
        "yaw_rad": round(box.yaw_rad, 4),
    }


def hits_csv(findings: Findings) -> str:
    """One row per region; a query without any has one row with empty places, so that "not here" is told too."""
    numbers = ["x_m", "y_m", "z_m", "length_m", "width_m", "height_m", "yaw_rad"]
    head = ["token", "query", "here", "p_value", "rank", "score", "voxels", "frame", *numbers]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*head, *(f"global_{name}" for name in (*numbers[:3], "yaw_rad"))])
    for answer, regions in zip(findings.answers, findings.regions, strict=True):
        p_value = "" if answer.verdict is None else round(answer.verdict.p_value, 5)
        known = [findings.token, answer.text, "" if answer.here is None else answer.here, p_value]
        for rank, region in enumerate(regions, 1):
            writer.writerow([*known, rank, round(region.score, 4), len(region), *_cells(region.box, findings)])
        if not regions:
            writer.writerow([*known, *[""] * (len(head) - len(known) + 4)])
    return out.getvalue()


def _cells(box: Box, findings: Findings) -> list[str | float]:
    own = [box.frame, *(round(v, 3) for v in (*box.center, *box.size_m)), round(box.yaw_rad, 4)]
    if findings.global_from_grid is None:
        return [*own, "", "", "", ""]
    there = global_box(box, findings.global_from_grid)
    return [*own, *(round(v, 3) for v in there.center), round(there.yaw_rad, 4)]


def hits_ply(findings: Findings) -> str:
    """Voxel centres and the corners and edges of boxes, a colour per query, metres in the grid's frame (ASCII)."""
    points: list[str] = []
    edges: list[str] = []
    for number, (answer, regions) in enumerate(zip(findings.answers, findings.regions, strict=True)):
        red, green, blue = COLORS[number % len(COLORS)]
        for rank, region in enumerate(regions, 1):
            tail = f"{red} {green} {blue} {number} {rank} {region.score:.4f}"
            points += _lines(answer.grid.xyz_from_index(region.index, torch.float64), tail)
            edges += [f"{len(points) + a} {len(points) + b} {red} {green} {blue}" for a, b in _EDGES]
            points += _lines(region.box.corners(), tail)
    header = ["ply", "format ascii 1.0", f"comment lexivox hits of {findings.token.splitlines()[0]}"]
    header += [f"element vertex {len(points)}", *(f"property float {axis}" for axis in "xyz")]
    colors = [f"property uchar {name}" for name in ("red", "green", "blue")]
    header += [*colors, "property int query", "property int region", "property float score"]
    header += [f"element edge {len(edges)}", "property int vertex1", "property int vertex2", *colors, "end_header"]
    return "\n".join([*header, *points, *edges]) + "\n"


def _lines(xyz: Tensor, tail: str) -> list[str]:
    return [f"{x:.3f} {y:.3f} {z:.3f} {tail}" for x, y, z in xyz.tolist()]


def hits_geojson(findings: Findings) -> str:
    """Footprints in the recording's global frame. Its numbers are metres of that frame, not degrees.

    Raises:
        ConfigError: the pose of the keyframe is not known.
    """
    if findings.global_from_grid is None:
        raise ConfigError("GeoJSON must have global coordinates; got a keyframe without a pose. Write .json instead.")
    features = [
        _feature(answer, rank, global_box(region.box, findings.global_from_grid), region)
        for answer, regions in zip(findings.answers, findings.regions, strict=True)
        for rank, region in enumerate(regions, 1)
    ]
    absent = [answer.text for answer in findings.answers if answer.here is False]
    known = {"token": findings.token, "coordinates": "metres in the recording's global frame", "not_here": absent}
    return json.dumps({"type": "FeatureCollection", "lexivox": known, "features": features}, indent=1)


def _feature(answer: Answer, rank: int, box: Box, region: Region) -> dict:
    ring = [[round(v, 3) for v in corner] for corner in box.corners()[[0, 1, 2, 3, 0]].tolist()]
    about = {"query": answer.text, "rank": rank, "score": round(region.score, 4), "voxels": len(region)}
    about |= {"size_m": [round(v, 3) for v in box.size_m], "yaw_rad": round(box.yaw_rad, 4)}
    if answer.verdict is not None:
        about["p_value"] = round(answer.verdict.p_value, 5)
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": about}
