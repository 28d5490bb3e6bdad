"""Verbs that make a model: ``demo``, ``targets``, ``train``, ``show``."""

from __future__ import annotations

import argparse
from pathlib import Path

from lexivox.commands.runs import evaluate_run
from lexivox.commands.shared import (
    add_recipe,
    add_set,
    new_verb,
    open_experiment,
    print_files,
    print_scores,
    read_recipe,
    say,
)


def add_demo(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
        verbs,
        "demo",
        "run the whole job on a small synthetic city and write runs/demo",
        "  lexivox demo --out runs/demo\n  xdg-open runs/demo/report.html",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder (default: runs/demo)")
    add_set(parser)
    parser.set_defaults(run=_run_demo)


def _run_demo(arguments: argparse.Namespace) -> None:
    from lexivox.demo import run_demo
    from lexivox.progress import progress_bars

    with progress_bars() as on_progress:
        made = run_demo(arguments.out, on_progress, overrides=arguments.set)
    print_scores(arguments.out)
    print_files(made)


def add_targets(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
        verbs,
        "targets",
        "teacher's features, and boxes of what moves, of the training keyframes; resumable, shared through --cache",
        "  lexivox targets pop3d_pandaset --set data.root=data/pandaset --cache cache",
    )
    add_recipe(parser)
    parser.set_defaults(run=_run_targets)


def _run_targets(arguments: argparse.Namespace) -> None:
    from lexivox.progress import progress_bars

    experiment = open_experiment(arguments)
    with progress_bars(quiet=experiment.engine.rank > 0) as on_progress:
        count = experiment.make_targets(on_progress)
    experiment.engine.close()
    say(f"targets of {count} keyframes lie in {experiment.cache_folder}")


def add_train(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
        verbs,
        "train",
        "train a recipe; run the same command again to go on after an interruption",
        "  lexivox train pop3d_pandaset --set data.root=data/pandaset --set train.steps=200\n"
        "  lexivox train run.yaml --out runs/mine\n"
        "  torchrun --nproc-per-node 8 -m lexivox train run.yaml --out runs/mine",
    )
    add_recipe(parser)
    parser.add_argument("--report", action="store_true", help="evaluate and write report.html when done")
    parser.add_argument(
        "--shard", action="store_true", help="several processes: hold a share of the weights each (FSDP)"
    )
    parser.set_defaults(run=_run_train)


def _run_train(arguments: argparse.Namespace) -> None:
    from lexivox.progress import progress_bars

    experiment = open_experiment(arguments)
    experiment.is_sharded = arguments.shard
    engine = experiment.engine
    try:
        with progress_bars(quiet=engine.rank > 0) as on_progress:
            experiment.make_targets(on_progress)
            experiment.train(lambda step, steps, terms: on_progress("training", step, steps))
    except KeyboardInterrupt:  # processes stop together; after an error the others may still be waiting for this one
        engine.close()
        raise
    engine.close()
    if engine.rank > 0:
        return
    say(f"trained: {experiment.run_dir}")
    if arguments.report:
        from lexivox.scoring import EvaluateOptions

        evaluate_run(experiment.run_dir, arguments.cache, EvaluateOptions(baselines=True))


def add_show(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
        verbs,
        "show",
        "print every option of a recipe or a run as YAML",
        "  lexivox show pop3d_tiny\n  lexivox show pop3d_tiny --set train.lr=1e-3 > run.yaml",
    )
    parser.add_argument("recipe", nargs="?", default=None, help="recipe, .yaml or run folder; none = list them")
    add_set(parser)
    parser.set_defaults(run=_run_show)


def _run_show(arguments: argparse.Namespace) -> None:
    from lexivox.recipes import RECIPES

    if arguments.recipe is None:
        for name, recipe in RECIPES.items():
            say(f"{name:26} {(recipe.__doc__ or '').strip().splitlines()[0]}")
        return
    folder = Path(arguments.recipe)
    recipe = str(folder / "config.yaml") if folder.is_dir() else arguments.recipe
    say(read_recipe(recipe, arguments.set).to_yaml().rstrip())
