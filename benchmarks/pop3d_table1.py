"""The paper's Table 1, small: what the weight of language, resolution, backbone and depth of the heads change.

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/pop3d_table1.py --out runs/table1      # resumable

Every cell of the table is one training per seed on the synthetic city, from the same drives, and its score on
held-out drives. As in the paper the base has the small backbone at half resolution, six epochs and lambda 1; part (c)
has the large backbone. What is small here, besides the city (spec pop3d 7.5 has the original):

- "RN50" is a residual network from scratch, "RN101" the shipped street network, which is larger and has seen streets
  before (as the paper's RN101 starts from a detector of cars and its RN50 does not); 450x800 is 80x144, 900x1600 is
  160x288, which is what the city was rendered at;
- the losses are those of ``pop3d_tiny`` (exact rays, cosine, language at points and voxel centres), with lambda
  multiplying both language terms; half its voxels and points per step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass, replace
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
from lexivox.recipes.pop3d import pop3d_tiny

SEEDS = (0, 1, 2)
CITY = CitySize(train_drives=12, val_drives=4, keyframes=4)
EPOCHS = 6
METRICS = ("miou", "iou_occupied", "lidar_miou")


@dataclass(frozen=True, slots=True)
class Setting:
    """What Table 1 varies; the defaults are its base."""

    language: float = 1.0
    image_hw: tuple[int, int] = (80, 144)
    backbone: str = "small"
    occupancy_layers: int = 2
    language_layers: int = 2

    @property
    def name(self) -> str:
        layers = f"{self.occupancy_layers}{self.language_layers}"
        return f"lambda{self.language:g}_{self.image_hw[0]}_{self.backbone}_layers{layers}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the paper's table: its part, its place there, the published mIoU and IoU in percent."""

    part: str
    place: str
    setting: Setting
    miou: float
    iou: float | None = None


BASE = Setting()
FULL = (160, 288)
LARGE = replace(BASE, backbone="large")
CELLS = (
    Cell("a", "lambda 1.00", BASE, 12.0, 30.0),
    Cell("a", "lambda 0.50", replace(BASE, language=0.5), 12.0, 30.5),
    Cell("a", "lambda 0.25", replace(BASE, language=0.25), 11.9, 30.5),
    Cell("b", "450x800, RN50", BASE, 12.0),
    Cell("b", "450x800, RN101", LARGE, 15.1),
    Cell("b", "900x1600, RN50", replace(BASE, image_hw=FULL), 12.3),
    Cell("b", "900x1600, RN101", replace(LARGE, image_hw=FULL), 15.2),
    Cell("c", "N_occ 2, N_ft 2", LARGE, 15.4),
    Cell("c", "N_occ 2, N_ft 3", replace(LARGE, language_layers=3), 15.3),
    Cell("c", "N_occ 3, N_ft 2", replace(LARGE, occupancy_layers=3), 15.3),
    Cell("c", "N_occ 3, N_ft 3", replace(LARGE, occupancy_layers=3, language_layers=3), 15.5),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/table1"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    started = time.process_time()
    root = str(arguments.out / "city")
    scores: dict[str, dict[int, dict[str, float]]] = {cell.setting.name: {} for cell in CELLS}
    with progress_bars() as on_progress:
        make_city(experiment(replace(BASE, image_hw=FULL), root, arguments.epochs), CITY, on_progress)
        for seed in arguments.seeds:  # one whole table after the other
            for setting in dict.fromkeys(cell.setting for cell in CELLS):
                config = seeded(experiment(setting, root, arguments.epochs), seed)
                scores[setting.name][seed] = finished_run(config, arguments.out, on_progress)["student"]
            write(arguments.out, scores)
    print(markdown(scores))
    print(f"\n{time.process_time() - started:.0f} s of CPU time in this call")


def experiment(setting: Setting, root: str, epochs: int) -> ExperimentConfig:
    """The small experiment that stands for a setting of the paper."""
    base = pop3d_tiny(root)
    rays, language = base.supervision
    assert isinstance(rays, LidarOccupancyConfig)
    assert isinstance(language, LanguageConfig)
    return base.changed(
        name=setting.name,
        encoder=CameraEncoderConfig(image=image_encoder(setting), triplane=TriplaneConfig(coarsen=2)),
        heads=HeadsConfig(
            occupancy=HeadConfig(num_layers=setting.occupancy_layers),
            language=HeadConfig(num_layers=setting.language_layers),
        ),
        supervision=[
            rays.model_copy(update={"max_voxels": 8_000}),
            language.model_copy(
                update={
                    "weight": setting.language * language.weight,
                    "voxel_weight": setting.language * language.voxel_weight,
                }
            ),
        ],
        train=base.train.model_copy(
            update={
                "steps": epochs * CITY.train_drives * CITY.keyframes,
                "points_per_sample": 4_000,
                "backbone_lr_scale": 0.1 if setting.backbone == "large" else 1.0,  # nothing to preserve from scratch
            }
        ),
        queries={},
    )


def image_encoder(setting: Setting) -> ImageConfig:
    if setting.backbone == "large":
        return ImageConfig(image_hw=setting.image_hw, backbone="street")
    return ImageConfig(image_hw=setting.image_hw, backbone="scratch", widths=(16, 32, 64))


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation over seeds (0 for one seed)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def write(out: Path, scores: dict[str, dict[int, dict[str, float]]]) -> None:
    table = [
        {**asdict(cell), "ours": {metric: spread(values(scores, cell, metric)) for metric in METRICS}} for cell in CELLS
    ]
    saved = {"table": table, "runs": scores}
    write_atomically(out / "table1.json", lambda file: file.write(json.dumps(saved, indent=2).encode()))
    write_atomically(out / "table1.md", lambda file: file.write(markdown(scores).encode()))


def values(scores: dict[str, dict[int, dict[str, float]]], cell: Cell, metric: str) -> list[float]:
    return [row[metric] for row in scores[cell.setting.name].values()]


def markdown(scores: dict[str, dict[int, dict[str, float]]]) -> str:
    """Ours as mean ± standard deviation over seeds, in percent, beside the published value."""
    lines = [
        "| part | cell | mIoU | published | IoU | published | LiDAR mIoU |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in CELLS:
        means = [spread(values(scores, cell, metric)) for metric in METRICS]
        miou, iou, lidar = (f"{100 * mean:.1f} ± {100 * deviation:.1f}" for mean, deviation in means)
        published = "–" if cell.iou is None else f"{cell.iou:.1f}"
        lines.append(f"| ({cell.part}) | {cell.place} | {miou} | {cell.miou:.1f} | {iou} | {published} | {lidar} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
