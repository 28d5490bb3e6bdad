"""The questions about OccFlowNet, and which weak supervision is best, answered by training small models.

    python benchmarks/weak_supervision.py --out runs/questions                 # resumable; about 5 CPU hours
    python benchmarks/weak_supervision.py --out runs/questions --group claims  # a part of it
    python benchmarks/weak_supervision.py --out runs/questions --table         # what is there so far

Synthetic city, one network, as many steps for every variant, three seeds, held-out drives; scored against complete
voxels (Occ3D's mIoU under its masks, RayIoU, moving things apart). Variants differ in what they learn from.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from finished_runs import seeded

from lexivox.config import (
    CameraDepthConfig,
    DenseConfig,
    DepthBinsConfig,
    DepthNetConfig,
    ExperimentConfig,
    LanguageConfig,
    LidarOccupancyConfig,
    LiftSplatConfig,
    RayQueriesConfig,
    RaysConfig,
    RenderingConfig,
    SupervisionConfig,
    VolumeConfig,
)
from lexivox.config_text import with_overrides
from lexivox.data.synthetic import DriveSpec, write_nuscenes
from lexivox.evaluate.protocol import DepthProtocol, Occ3dProtocol
from lexivox.evaluate.report import ScoreTable
from lexivox.experiment import Experiment, OnProgress
from lexivox.files import write_atomically
from lexivox.progress import progress_bars
from lexivox.recipes.occflownet import FREE, MOVING, occflownet_tiny
from lexivox.recipes.weak import weak_tiny
from lexivox.run_folder import load
from lexivox.scoring import SCORES_FILE, EvaluateOptions
from lexivox.supervision.prepared import PreparedSamples

SEEDS = (0, 1, 2)
TRAIN = [DriveSpec(300 + number, 11, "train") for number in range(12)]
VAL = [DriveSpec(312 + number, 4, "val") for number in range(6)]
STEPS, RAYS = 450, 2000
SMALL = (f"train.steps={STEPS}",)
METRICS = {
    "mIoU none": ("occ3d/none", "miou"),
    "mIoU lidar": ("occ3d/lidar", "miou"),
    "mIoU camera": ("occ3d/camera", "miou"),
    "dynamic": ("occ3d/camera", "miou_dynamic"),
    "IoU": ("occ3d/camera", "iou_occupied"),
    "RayIoU": ("rayiou/occ3d", "rayiou"),
    "moving IoU": ("occ3d-moving/camera", "iou"),
    "moving, right class": ("occ3d-moving/camera", "recall_class"),
    "trail": ("occ3d-moving/camera", "trail"),
    "abs rel": (DepthProtocol().scores[0], "abs_rel"),
}
"""Column -> protocol and name of the score. Of the trail and of the depth error less is better."""


# ------------------------------------------------------------------------------------------------ variants


def rendering(reach: int, flow: str = "none", weights: str = "occ3d_voxels", **options: object) -> RenderingConfig:
    moving = options.pop("moving", "none")
    balanced = options.pop("balanced", False)
    rays = RaysConfig(
        reach=reach,
        per_sample=RAYS,
        share_now=options.pop("share_now", 0.3),
        moving=moving,
        class_weights=weights,
        balanced=balanced,
    )
    known = {"behind_m": 4.0, "semantic": 1.0, "ending": 1.0, "flow": flow}
    return RenderingConfig(rays=rays, **{**known, **options})


def queries(reach: int, flow: str = "none", semantic: float = 1.0, even: str = "rays") -> RayQueriesConfig:
    weights = "occ3d_voxels" if semantic else "none"
    rays = RaysConfig(reach=reach, per_sample=RAYS, class_weights=weights, outside="keep", even=even)
    return RayQueriesConfig(rays=rays, flow=flow, occupied_weight=2.0, lovasz=1.0, semantic_weight=semantic)


def dense() -> DenseConfig:
    return DenseConfig(free_label=FREE, max_voxels=16_000)


LANGUAGE = LanguageConfig(weight=3.0, voxel_weight=1.2)


UNLABELLED_RENDERING = {"semantic": 0.0, "opacity": 0.1}
PUBLISHED_LOSSES = {
    "depth_loss": "mse",
    "depth": 0.05,
    "ending": 0.0,
    "blend": "logits",
    "weigh_depth": True,
    "density": "sigmoid_per_metre",
    "behind_m": None,
}

LABELLED: dict[str, dict[str, list[SupervisionConfig]]] = {
    "claims": {
        "render ±0": [rendering(0)],
        "render ±2 static": [rendering(2)],
        "render ±2 filter": [rendering(2, moving="class", transparent=MOVING)],
        "render ±2 flow": [rendering(2, "boxes")],
        "3D": [dense()],
        "3D + render ±2 flow": [rendering(2, "boxes"), dense()],
    },
    "horizon": {
        "render ±1 flow": [rendering(1, "boxes")],
        "render ±3 flow": [rendering(3, "boxes")],
        "render ±5 flow": [rendering(5, "boxes")],
        "render ±2 flow, 60 % of now": [rendering(2, "boxes", share_now=0.6)],
        "render ±2 flow of sweeps": [rendering(2, "sweeps")],
        "render ±2 filter by speed": [rendering(2, moving="speed")],
    },
    "weights": {
        "render ±2 flow, rays as they come": [rendering(2, "boxes", "none")],
        "render ±2 flow, rare classes drawn more": [rendering(2, "boxes", "none", balanced=True)],
        "render ±2 flow, weights of rays": [rendering(2, "boxes", "lidarseg_rays")],
        "render ±2 flow, published losses": [rendering(2, "boxes", **PUBLISHED_LOSSES)],
    },
    "ending": {
        "render ±0, ending 0.3": [rendering(0, ending=0.3)],
        "render ±2 flow, ending 0.3": [rendering(2, "boxes", ending=0.3)],
    },
    "queries": {
        "queries ±0": [queries(0)],
        "queries ±2 flow": [queries(2, "boxes")],
        "queries + render ±2 flow": [queries(2, "boxes"), rendering(2, "boxes")],
        "3D + queries ±2 flow": [queries(2, "boxes"), dense()],
    },
}
"""Group -> variant -> what it learns from, classes from labels of points."""

UNLABELLED: dict[str, dict[str, list[SupervisionConfig]]] = {
    "weak": {
        "weak: render ±2": [rendering(2, language=3.0, **UNLABELLED_RENDERING)],
        "weak: queries ±0": [queries(0, semantic=0.0), LANGUAGE],
        "weak: queries ±2": [queries(2, semantic=0.0), LANGUAGE],
        "weak: queries ±2, flow of sweeps": [queries(2, "sweeps", semantic=0.0), LANGUAGE],
        "weak: queries + render ±2": [queries(2, semantic=0.0), rendering(2, **UNLABELLED_RENDERING), LANGUAGE],
        "weak: queries ±2, flow of sweeps, even over voxels": [
            queries(2, "sweeps", semantic=0.0, even="voxels"),
            LANGUAGE,
        ],
        "weak: voxels of the sweep (POP-3D)": [
            LidarOccupancyConfig(max_voxels=16_000, occupied_weight=2.0, balance=1.0),
            LANGUAGE,
        ],
    },
}
"""No labels: a teacher's language instead."""


LONGER = ("render ±0", "render ±2 flow", "weak: render ±2", "weak: queries ±2, flow of sweeps")
"""Trained three times as long: does an order among them last?"""


def configs(city: Path) -> dict[str, dict[str, ExperimentConfig]]:
    """Every variant as a run, by group."""
    protocol = {"protocol": Occ3dProtocol()}

    def runs(base: ExperimentConfig, groups: dict) -> dict[str, dict[str, ExperimentConfig]]:
        small = with_overrides(base, SMALL)
        return {
            group: {name: small.changed(name=name, supervision=parts, **protocol) for name, parts in variants.items()}
            for group, variants in groups.items()
        }

    known = {**runs(occflownet_tiny(str(city)), LABELLED), **runs(weak_tiny(str(city)), UNLABELLED)}
    everything = {name: config for variants in known.values() for name, config in variants.items()}
    published = "render ±2 flow, published losses"
    known["weights"][published] = with_overrides(everything[published], ["heads.threshold=0.35"])
    return {
        **known,
        "encoders": encoders(everything["render ±2 flow"]),
        "longer": {f"{name}, longer": longer(everything[name]) for name in LONGER},
    }


def longer(config: ExperimentConfig) -> ExperimentConfig:
    train = config.train.model_copy(update={"steps": 3 * STEPS})
    return config.changed(name=f"{config.name}, longer", train=train)


def encoders(config: ExperimentConfig) -> dict[str, ExperimentConfig]:
    """The same signals through other encoders; those that lift images by depth are taught depth too."""
    image = config.encoder.image.model_copy(update={"num_levels": 1, "skip_levels": 1})
    lifted = LiftSplatConfig(
        image=image,
        bins=DepthBinsConfig(far_m=37.0, count=36),
        depth_net=DepthNetConfig(channels=48, aspp_channels=24),
        context_channels=16,
        volume=VolumeConfig(widths=(16, 32), blocks=(1, 1), joined_channels=16, channels=48),
    )
    stereo = lifted.model_copy(update={"past": 1, "stereo": True})
    pixels = config.encoder.model_copy(update={"triplane": None})
    signals = [*config.supervision, CameraDepthConfig()]
    return {
        name: config.changed(name=name, encoder=encoder, supervision=parts)
        for name, encoder, parts in (
            ("pixels and depths alone", pixels, config.supervision),
            ("lift-splat, mono", lifted, signals),
            ("lift-splat, stereo", stereo, signals),
        )
    }


# ------------------------------------------------------------------------------------------------- running


def make_city(root: Path, config: ExperimentConfig, on_progress: OnProgress) -> None:
    write_nuscenes(
        root,
        [*TRAIN, *VAL],
        image_hw=(160, 288),
        grid=config.grid.build(),
        on_keyframe=lambda done, total: on_progress("building the city", done, total),
    )


def folder_of(out: Path, config: ExperimentConfig) -> Path:
    name = "".join(c if c.isalnum() else "_" for c in config.name.replace("±", "pm"))
    return out / f"{name}_seed{config.train.seed}"


@cache
def shared_samples(out: Path, is_labelled: bool) -> PreparedSamples:
    """The training keyframes, read once for all runs of a kind: with everything that any of them may ask for."""
    groups, signals = configs(out / "city"), LABELLED if is_labelled else UNLABELLED
    config = next(iter(groups[next(iter(signals))].values()))
    everything = [part for variants in signals.values() for parts in variants.values() for part in parts]
    return Experiment(config.changed(supervision=everything), out, cache_dir=out / "cache").train_samples


def trained(config: ExperimentConfig, out: Path, on_progress: OnProgress) -> None:
    """Train once; the processor's seconds are kept beside the weights."""
    folder = folder_of(out, config)
    if (folder / "seconds.json").exists():
        return
    run = Experiment(config, folder, cache_dir=out / "cache")
    run.train_samples = shared_samples(out, config.teacher is None)
    if not run.train_samples.is_prepared:
        run.make_targets(lambda _, done, total: on_progress("targets", done, total))
    started = time.process_time()
    run.train(lambda step, steps, terms: on_progress(f"training {folder.name}", step, steps))
    seconds = json.dumps({"training": time.process_time() - started}).encode()
    write_atomically(folder / "seconds.json", lambda file: file.write(seconds))


def scored(config: ExperimentConfig, out: Path, on_progress: OnProgress) -> None:
    folder = folder_of(out, config)
    if (folder / SCORES_FILE).exists():
        return
    options = EvaluateOptions(protocols=(Occ3dProtocol(), DepthProtocol()))
    run = Experiment(config, folder, cache_dir=out / "cache")
    run.evaluate(load(folder), options=options, on_progress=lambda _, d, n: on_progress(f"scoring {folder.name}", d, n))


def numbers(config: ExperimentConfig, out: Path) -> dict[str, float] | None:
    """The columns of one run, None where it is not there yet."""
    folder = folder_of(out, config)
    if not (folder / SCORES_FILE).exists():
        return None
    table = ScoreTable.from_json((folder / SCORES_FILE).read_text())
    method = "student" if config.teacher else "supervised"
    found = {name: table.value(method, *where) for name, where in METRICS.items()}
    return {**found, "seconds": json.loads((folder / "seconds.json").read_text())["training"]}


def report(groups: dict[str, dict[str, ExperimentConfig]], seeds: list[int], out: Path) -> str:
    """A table for each group: medians and spreads over seeds."""
    columns = [*METRICS, "seconds"]
    lines = []
    for group, variants in groups.items():
        lines += [f"\n### {group}\n", "| learns from | " + " | ".join(columns) + " | seeds |"]
        lines += ["|---" * (len(columns) + 2) + "|"]
        for name, config in variants.items():
            rows = [row for seed in seeds if (row := numbers(seeded(config, seed), out)) is not None]
            if rows:
                cells = [cell([row[column] for row in rows], column) for column in columns]
                lines.append(f"| {name} | " + " | ".join(cells) + f" | {len(rows)} |")
    return "\n".join(lines)


def cell(values: list[float], column: str) -> str:
    if column == "seconds":
        return f"{statistics.median(values):.0f}"
    middle, spread = f"{statistics.median(values):.3f}", f"({min(values):.3f}-{max(values):.3f})"
    return f"{middle} {spread}" if len(values) > 1 else middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/questions"))
    parser.add_argument("--group", nargs="+", help="some groups only")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--table", action="store_true", help="show what is there, train nothing")
    parser.add_argument("--train-only", action="store_true", help="score later")
    arguments = parser.parse_args()
    city = arguments.out / "city"
    groups = {g: v for g, v in configs(city).items() if not arguments.group or g in arguments.group}
    if not arguments.table:
        with progress_bars() as on_progress:
            make_city(city, next(iter(next(iter(groups.values())).values())), on_progress)
            jobs: list[Callable[..., None]] = [trained] if arguments.train_only else [trained, scored]
            for seed in arguments.seeds:
                for config in (config for variants in groups.values() for config in variants.values()):
                    for job in jobs:
                        job(seeded(config, seed), arguments.out, on_progress)
    print(report(groups, arguments.seeds, arguments.out))


if __name__ == "__main__":
    main()
