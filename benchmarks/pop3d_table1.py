"""The paper's Table 1, small: what the weight of language, resolution, backbone and depth of the heads change.

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/pop3d_table1.py --out runs/table1      # resumable

Every cell of the table is one training per seed on the synthetic city, from the same drives, and its score on
held-out drives. Each is the recipe of that cell (``lexivox.recipes.pop3d_table1``), made small:

- "RN50" is a residual network from scratch, "RN101" the shipped street network, which is larger and has seen streets
  before (as the paper's RN101 starts from a detector of cars and its RN50 does not); 450x800 is 80x144, 900x1600 is
  160x288, which is what the city was rendered at;
- the losses are those of ``pop3d_tiny`` (exact rays, cosine, language at points and voxel centres), with lambda
  multiplying both language terms; half its voxels and points per step; six epochs as in the paper.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from finished_runs import finished_run, seeded

from lexivox.config import (
    CameraEncoderConfig,
    ExperimentConfig,
    HeadConfig,
    HeadsConfig,
    ImageConfig,
    LanguageConfig,
    LidarOccupancyConfig,
    TriplaneConfig,
)
from lexivox.demo import CitySize, make_city
from lexivox.files import write_atomically
from lexivox.progress import progress_bars
from lexivox.recipes import RECIPES, TABLE1
from lexivox.recipes.pop3d import pop3d_tiny

SEEDS = (0, 1, 2)
CITY = CitySize(train_drives=12, val_drives=4, keyframes=4)
EPOCHS = 6
HALF, FULL = (80, 144), (160, 288)
METRICS = ("miou", "iou_occupied", "lidar_miou")

Scores = dict[str, dict[int, dict[str, float]]]
"""Run -> seed -> metric -> score."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/table1"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    started = time.process_time()
    root = str(arguments.out / "city")
    cells = {recipe: small(RECIPES[recipe](), root, arguments.epochs) for recipe in TABLE1}
    runs = {config.name: config for config in cells.values()}  # some cells of the table are the same training
    scores: Scores = {name: {} for name in runs}
    with progress_bars() as on_progress:
        full = next(config for config in runs.values() if config.encoder.image.image_hw == FULL)
        make_city(full, CITY, on_progress)
        for seed in arguments.seeds:  # one whole table after the other
            for name, config in runs.items():
                scores[name][seed] = finished_run(seeded(config, seed), arguments.out, on_progress)["student"]
            write(arguments.out, cells, scores)
    print(markdown(cells, scores))
    print(f"\n{time.process_time() - started:.0f} s of CPU time in this call")


def small(recipe: ExperimentConfig, root: str, epochs: int) -> ExperimentConfig:
    """The small experiment that stands for a cell's recipe."""
    base = pop3d_tiny(root)
    rays, language = base.supervision
    assert isinstance(rays, LidarOccupancyConfig)
    assert isinstance(language, LanguageConfig)
    share = next(term.weight for term in recipe.supervision if isinstance(term, LanguageConfig))
    layers = [head.num_layers for head in (recipe.heads.occupancy, recipe.heads.language) if head]
    is_large = recipe.encoder.image.backbone == "resnet101"
    image_hw = FULL if recipe.encoder.image.scale == 1.0 else HALF
    size = "large" if is_large else "small"
    return base.changed(
        name=f"lambda{share:g}_{image_hw[0]}_{size}_layers{layers[0]}{layers[1]}",
        encoder=CameraEncoderConfig(image=image_encoder(is_large, image_hw), triplane=TriplaneConfig(coarsen=2)),
        heads=HeadsConfig(occupancy=HeadConfig(num_layers=layers[0]), language=HeadConfig(num_layers=layers[1])),
        supervision=[
            rays.model_copy(update={"max_voxels": 8_000}),
            language.model_copy(
                update={"weight": share * language.weight, "voxel_weight": share * language.voxel_weight}
            ),
        ],
        train=base.train.model_copy(
            update={
                "steps": epochs * CITY.train_drives * CITY.keyframes,
                "points_per_sample": 4_000,
                "backbone_lr_scale": 0.1 if is_large else 1.0,  # from scratch there is nothing to preserve
            }
        ),
        queries={},
    )


def image_encoder(is_large: bool, image_hw: tuple[int, int]) -> ImageConfig:
    if is_large:
        return ImageConfig(image_hw=image_hw, backbone="street")
    return ImageConfig(image_hw=image_hw, backbone="scratch", widths=(16, 32, 64))


def spread(values: list[float]) -> tuple[float, float | None]:
    """Mean and standard deviation over seeds; one seed has none."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def means(config: ExperimentConfig, scores: Scores) -> dict[str, tuple[float, float | None]]:
    return {metric: spread([row[metric] for row in scores[config.name].values()]) for metric in METRICS}


def write(out: Path, cells: dict[str, ExperimentConfig], scores: Scores) -> None:
    table = {
        recipe: {
            "published": {metric: number.value for metric, number in TABLE1[recipe].items()},
            "ours": means(config, scores),
        }
        for recipe, config in cells.items()
    }
    saved = {"table": table, "runs": scores}
    write_atomically(out / "table1.json", lambda file: file.write(json.dumps(saved, indent=2).encode()))
    write_atomically(out / "table1.md", lambda file: file.write(markdown(cells, scores).encode()))


def shown(mean: float | None, deviation: float | None = None) -> str:
    """Percent."""
    if mean is None:
        return "–"
    return f"{100 * mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")


def markdown(cells: dict[str, ExperimentConfig], scores: Scores) -> str:
    """Ours as mean ± standard deviation over seeds, in percent, beside the published value."""
    lines = [
        "| part | cell | mIoU | published | IoU | published | LiDAR mIoU |",
        "|---|---|---|---|---|---|---|",
    ]
    for recipe, config in cells.items():
        published = TABLE1[recipe]
        miou, iou, lidar = (shown(*score) for score in means(config, scores).values())
        their_miou, their_iou = (
            shown(published[name].value if name in published else None) for name in ("mIoU", "IoU")
        )
        number = published["mIoU"]
        cells_of_row = (f"({number.table[-1]})", number.method, miou, their_miou, iou, their_iou, lidar)
        lines.append(f"| {' | '.join(cells_of_row)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
