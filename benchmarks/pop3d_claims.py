"""POP-3D's claims, measured: a label-free student, the same network with labels, and their teacher.

    python benchmarks/pop3d_claims.py --out runs/claims            # resumable, about 40 minutes on 2 CPU cores

On the synthetic city, same network, budget and training drives for both, three seeds, held-out drives. The paper
says (nuScenes val, spec pop3d 7.5): the student beats its teacher in LiDAR mIoU (26.4 against 23.0), reaches about
78 % of the supervised (16+1)-class mIoU, has a class-agnostic occupancy IoU 11.5 points above the supervised one,
and beats the teacher in retrieval mAP (18.8 against 14.9).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from finished_runs import finished_run, seeded

from lexivox.config_text import with_overrides
from lexivox.demo import CitySize, make_city
from lexivox.files import write_atomically
from lexivox.progress import progress_bars
from lexivox.recipes.pop3d import pop3d_tiny, supervised

SEEDS = (0, 1, 2)
CITY = CitySize(train_drives=16, val_drives=5, keyframes=4)
STEPS = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/claims"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--set", action="append", default=[], help="change an option of both runs")
    arguments = parser.parse_args()
    started = time.perf_counter()
    defaults = [f"train.steps={STEPS}"]
    config = with_overrides(pop3d_tiny(str(arguments.out / "city")), [*defaults, *arguments.set])
    with progress_bars() as on_progress:
        make_city(config, CITY, on_progress)
        rows = {}
        for seed in arguments.seeds:
            for variant in (config, supervised(config)):
                rows |= {
                    (method, seed): row
                    for method, row in finished_run(seeded(variant, seed), arguments.out, on_progress).items()
                }
    claims = judge(rows, arguments.seeds)
    print(markdown(rows, claims, arguments.seeds))
    print(f"\n{time.perf_counter() - started:.0f} s in this call")
    saved = {
        "rows": {f"{method}/{seed}": row for (method, seed), row in rows.items()},
        "claims": claims,
        "config": config.model_dump(mode="json"),
    }
    write_atomically(arguments.out / "claims.json", lambda f: f.write(json.dumps(saved, indent=2).encode()))


def judge(rows: dict[tuple[str, int], dict[str, float]], seeds: list[int]) -> dict[str, dict[str, float]]:
    """Per claim the number of each seed's median: the paper's value beside ours."""

    def each(method: str, metric: str) -> list[float]:
        return [rows[method, seed][metric] for seed in seeds]

    pairs = {
        "LiDAR mIoU: student - teacher": (each("student", "lidar_miou"), each("teacher", "lidar_miou"), 0.034),
        "occupancy IoU: student - supervised": (
            each("student", "iou_occupied"),
            each("supervised", "iou_occupied"),
            0.115,
        ),
        "retrieval mAP: student - teacher": (
            each("student", "retrieval_map"),
            each("teacher", "retrieval_map"),
            0.039,
        ),
    }
    claims = {
        name: _spread([a - b for a, b in zip(ours, theirs, strict=True)], paper)
        for name, (ours, theirs, paper) in pairs.items()
    }
    shares = [a / b for a, b in zip(each("student", "miou"), each("supervised", "miou"), strict=True)]
    claims["voxel mIoU: student / supervised"] = _spread(shares, 0.78)
    return claims


def _spread(values: list[float], paper: float) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "paper": paper}


def markdown(rows: dict, claims: dict[str, dict[str, float]], seeds: list[int]) -> str:
    metrics = ("iou_occupied", "miou", "lidar_miou", "retrieval_map")
    lines = ["| method | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for method in ("student", "supervised", "teacher"):
        cells = []
        for metric in metrics:
            values = [rows[method, s][metric] for s in seeds if metric in rows[method, s]]
            low, high = (min(values), max(values)) if values else (0.0, 0.0)
            cells.append(f"{statistics.median(values):.3f} ({low:.3f}-{high:.3f})" if values else "–")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines += ["", "| claim | ours, median (spread) | paper |", "|---|---|---|"]
    for name, c in claims.items():
        lines.append(f"| {name} | {c['median']:+.3f} ({c['low']:+.3f} to {c['high']:+.3f}) | {c['paper']:+.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
