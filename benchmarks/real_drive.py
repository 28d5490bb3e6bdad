"""What to learn from on a real drive without labels: PandaSet 002, chosen on keyframes 35 and 40.

    python benchmarks/real_drive.py --pandaset data/pandaset --espnet data/espnet.npz --out runs/real_drive

Every variant trains on keyframes 0 to 30 and is scored on 35 and 40; resumable, about ten minutes of a core each.
Keyframes 45 to 55 are for the recipe alone: ``lexivox train weak_pandaset``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lexivox.config import ExperimentConfig, RayQueriesConfig
from lexivox.config_text import with_overrides
from lexivox.evaluate.protocol import DepthProtocol, Pop3dProtocol
from lexivox.evaluate.report import ScoreTable
from lexivox.experiment import Experiment, OnProgress
from lexivox.progress import progress_bars
from lexivox.recipes.pop3d import pop3d_pandaset
from lexivox.recipes.weak import mixture, weak_pandaset
from lexivox.report_tables import headline_scores
from lexivox.scoring import SCORES_FILE, EvaluateOptions

CHOOSING = ("data.train_keyframes=[0,5,10,15,20,25,30]", "data.val_keyframes=[35,40]", "train.steps=600")


def variants(pandaset: str, espnet: str) -> dict[str, ExperimentConfig]:
    both = weak_pandaset(pandaset, espnet)
    questions, _, language = both.supervision
    assert isinstance(questions, RayQueriesConfig)
    even = questions.model_copy(update={"rays": questions.rays.model_copy(update={"even": "voxels"})})
    known = {
        "voxels": pop3d_pandaset(pandaset, espnet),
        "queries": both.changed(supervision=mixture(reach=2, rays=2000, flow="none", language=1.0)),
        "queries_even": both.changed(supervision=[even, language]),
        "queries_and_voxels": both,
    }
    return {name: with_overrides(config.changed(name=name), CHOOSING) for name, config in known.items()}


def scored(config: ExperimentConfig, out: Path, on_progress: OnProgress) -> None:
    folder = out / config.name
    if (folder / SCORES_FILE).exists():
        return
    run = Experiment(config, folder, cache_dir=out / "cache")
    run.make_targets(lambda _, done, total: on_progress(f"targets of {config.name}", done, total))
    model = run.train(lambda step, steps, terms: on_progress(f"training {config.name}", step, steps))
    options = EvaluateOptions(protocols=(Pop3dProtocol(), DepthProtocol()), baselines=True)
    run.evaluate(model, options=options, on_progress=lambda _, d, n: on_progress(f"scoring {config.name}", d, n))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pandaset", required=True)
    parser.add_argument("--espnet", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/real_drive"))
    arguments = parser.parse_args()
    configs = variants(arguments.pandaset, arguments.espnet)
    with progress_bars() as on_progress:
        for config in configs.values():
            scored(config, arguments.out, on_progress)
    for name in configs:
        table = ScoreTable.from_json((arguments.out / name / SCORES_FILE).read_text())
        print(name)
        for method, scores in headline_scores(table).items():
            depth = {what: table.value(method, DepthProtocol().scores[0], what) for what in ("abs_rel", "delta_1")}
            known = {what: value for what, value in {**scores, **depth}.items() if value is not None}
            print("   ", method, {what: round(value, 3) for what, value in known.items()})


if __name__ == "__main__":
    main()
