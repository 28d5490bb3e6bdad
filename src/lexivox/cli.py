"""The command line. Heavy modules are imported inside the verbs, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lexivox.errors import ConfigError, LexivoxError

if TYPE_CHECKING:
    from lexivox.config import ExperimentConfig

EXAMPLES = """\
examples:
  lexivox demo                                       the whole job on a synthetic city, about 4 minutes
  lexivox doctor nuscenes data/nuscenes              is my recording read rightly? look at runs/doctor
  lexivox show pop3d_pandaset > run.yaml             every option of a recipe
  lexivox train run.yaml --out runs/mine             train, interrupt, run again: it goes on
  lexivox evaluate runs/mine                         scores on the held-out keyframes
  lexivox query runs/mine "automobile" "tall tree"   where is it?
  lexivox view runs/mine                             type words, see the heat map
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit status: 0 done, 1 the user must act, 130 interrupted."""
    # Waiting threads that spin cost a busy machine several times the work; must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        arguments.run(arguments)
        sys.stdout.flush()  # a reader that went away is met here, not when Python ends
    except LexivoxError as error:
        print(f"lexivox {arguments.verb}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        _say("stopped; what was done is kept. Run the same command to go on.")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to write goes nowhere
        return 0
    except OSError as error:
        reason = f"files must be readable and writable; got {error.strerror or error}"
        print(f"lexivox {arguments.verb}: {reason}. Check: {error.filename}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _say(text: str = "") -> None:
    print(text)  # noqa: T201


# ------------------------------------------------------------------------------------------------- parsing


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lexivox",
        description="Cameras and LiDAR in, a 3D map that you can ask in words out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from importlib.metadata import version

    parser.add_argument("--version", action="version", version=f"lexivox {version('lexivox')}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in (_demo, _doctor, _targets, _train, _evaluate, _predict, _query, _view, _show):
        add(verbs)
    return parser


def _verb(verbs: argparse._SubParsersAction, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a recipe's name, or a .yaml that 'lexivox show' printed")
    _add_set(parser)
    parser.add_argument("--out", type=Path, default=None, help="run folder (default: runs/NAME)")
    parser.add_argument("--cache", type=Path, default=None, help="folder of teacher features, shared by runs")


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="change one option, e.g. --set train.steps=100 --set data.root=/data/pandaset",
    )


def _require_positive(option: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{option} must be at least 1; got {value}.")


def _config(recipe: str, overrides: Sequence[str]) -> ExperimentConfig:
    from lexivox.config_text import load_config, with_overrides
    from lexivox.recipes import RECIPES

    if recipe in RECIPES:
        config = RECIPES[recipe]()
    elif recipe.endswith((".yaml", ".yml")):
        config = load_config(recipe)
    else:
        raise ConfigError(f"recipe must be one of {', '.join(RECIPES)} or a .yaml file; got '{recipe}'.")
    return with_overrides(config, overrides)


def _experiment(arguments: argparse.Namespace):
    from lexivox.experiment import Experiment

    config = _config(arguments.recipe, arguments.set)
    return Experiment(config, arguments.out or Path("runs") / config.name, arguments.cache)


# --------------------------------------------------------------------------------------------------- verbs


def _demo(verbs: argparse._SubParsersAction) -> None:
    parser = _verb(
        verbs,
        "demo",
        "run the whole job on a small synthetic city and write runs/demo",
        "  lexivox demo --out runs/demo\n  xdg-open runs/demo/report.html",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder (default: runs/demo)")
    _add_set(parser)
    parser.set_defaults(run=_run_demo)


def _run_demo(arguments: argparse.Namespace) -> None:
    from lexivox.demo import run_demo
    from lexivox.progress import progress_bars

    with progress_bars() as on_progress:
        made = run_demo(arguments.out, on_progress, overrides=arguments.set)
    _print_scores(arguments.out)
    _print_files(made)


def _doctor(verbs: argparse._SubParsersAction) -> None:
    parser = _verb(
        verbs,
        "doctor",
        "check a recording: files, frames, times, and LiDAR painted onto the images",
        "  lexivox doctor nuscenes data/nuscenes\n  lexivox doctor pandaset data/pandaset --out runs/doctor",
    )
    parser.add_argument("kind", help="nuscenes or pandaset")
    parser.add_argument("root", type=Path, help="folder of the recording")
    parser.add_argument("--split", default=None, help="split or drive (default: everything)")
    parser.add_argument("--out", type=Path, default=Path("runs/doctor"), help="folder of the pictures")
    parser.add_argument("--samples", type=int, default=4, help="keyframes to look at (default: 4)")
    parser.set_defaults(run=_run_doctor)


def _run_doctor(arguments: argparse.Namespace) -> None:
    from lexivox.data.datasets import open_dataset
    from lexivox.data.doctor import diagnose
    from lexivox.errors import DataError

    _require_positive("--samples", arguments.samples)
    dataset = open_dataset(arguments.kind, arguments.root, arguments.split)
    report = diagnose(dataset, arguments.out, arguments.samples)
    _say(report.text())
    if not report.ok:
        raise DataError("a recording must pass every check; got the faults above. Mend them first.")


def _targets(verbs: argparse._SubParsersAction) -> None:
    parser = _verb(
        verbs,
        "targets",
        "make the teacher's features of the training keyframes; resumable, shared through --cache",
        "  lexivox targets pop3d_pandaset --set data.root=data/pandaset --cache cache",
    )
    _add_recipe(parser)
    parser.set_defaults(run=_run_targets)


def _run_targets(arguments: argparse.Namespace) -> None:
    from lexivox.progress import progress_bars

    experiment = _experiment(arguments)
    with progress_bars() as on_progress:
        count = experiment.make_targets(on_progress)
    _say(f"targets of {count} keyframes lie in {experiment.cache_dir or experiment.run_dir / 'cache'}")


def _train(verbs: argparse._SubParsersAction) -> None:
    parser = _verb(
        verbs,
        "train",
        "train a recipe; run the same command again to go on after an interruption",
        "  lexivox train pop3d_pandaset --set data.root=data/pandaset --set train.steps=200\n"
        "  lexivox train run.yaml --out runs/mine",
    )
    _add_recipe(parser)
    parser.add_argument("--report", action="store_true", help="evaluate and write report.html when done")
    parser.set_defaults(run=_run_train)


def _run_train(arguments: argparse.Namespace) -> None:
    from lexivox.progress import progress_bars

    experiment = _experiment(arguments)
    with progress_bars() as on_progress:
        experiment.make_targets(on_progress)
        experiment.train(lambda step, steps, terms: on_progress("training", step, steps))
    _say(f"trained: {experiment.run_dir}")
    if arguments.report:
        _evaluate_run(experiment.run_dir, arguments.cache, baselines=True)


def _evaluate(verbs: argparse._SubParsersAction) -> None:
    parser = _verb(
        verbs,
        "evaluate",
        "score a run on its held-out keyframes and write its report",
        "  lexivox evaluate runs/mine --baselines",
    )
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("--baselines", action="store_true", help="add blank images and the training average")
    parser.add_argument("--cache", type=Path, default=None, help="folder of teacher features")
    parser.set_defaults(run=lambda arguments: _evaluate_run(arguments.run_dir, arguments.cache, arguments.baselines))


def _evaluate_run(run_dir: Path, cache: Path | None, baselines: bool) -> None:
    from lexivox.experiment import load, open_run
    from lexivox.progress import progress_bars
    from lexivox.report import Reporter

    experiment, model = open_run(run_dir, cache), load(run_dir)
    with progress_bars() as on_progress:
        scores = experiment.evaluate(model, baselines=baselines, on_progress=on_progress)
    made = Reporter(experiment, model, scores, list(experiment.config.queries)).write()
    _print_scores(run_dir)
    _print_files(made)


def _predict(verbs: argparse._SubParsersAction) -> None:
    parser = _verb(
        verbs,
        "predict",
        "write the maps of held-out keyframes as .npz files",
        "  lexivox predict runs/mine --out maps\n"
        "  python -c \"import lexivox as lv; print(lv.Prediction.load('maps/TOKEN.npz').query('car').top(3))\"",
    )
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("--out", type=Path, default=None, help="folder (default: RUN/predictions)")
    parser.add_argument("--refine", type=int, default=1, help="cut voxels into this many pieces per axis")
    parser.set_defaults(run=_run_predict)


def _run_predict(arguments: argparse.Namespace) -> None:
    from lexivox.experiment import load, open_run
    from lexivox.progress import progress_bars

    _require_positive("--refine", arguments.refine)
    experiment, model = open_run(arguments.run_dir), load(arguments.run_dir)
    out, dataset = arguments.out or arguments.run_dir / "predictions", experiment.unlabelled_val()
    with progress_bars() as on_progress:
        for index in range(len(dataset)):
            sample = dataset[index]
            model.predict(sample, refine=arguments.refine).save(out / f"{sample.token}.npz")
            on_progress("predicting", index + 1, len(dataset))
    _say(f"{len(dataset)} maps lie in {out}")


def _query(verbs: argparse._SubParsersAction) -> None:
    parser = _verb(
        verbs,
        "query",
        "ask a run where something is; any words, commas separate phrasings",
        '  lexivox query runs/demo "automobile" "lamp post, street light" --frame 2',
    )
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("text", nargs="+", help="what to look for")
    parser.add_argument("--frame", type=int, default=0, help="held-out keyframe by number (default: 0)")
    parser.add_argument("--top", type=int, default=5, help="hits to print (default: 5)")
    parser.set_defaults(run=_run_query)


def _run_query(arguments: argparse.Namespace) -> None:
    from lexivox.experiment import load, open_run

    _require_positive("--top", arguments.top)
    experiment, model = open_run(arguments.run_dir), load(arguments.run_dir)
    dataset = experiment.unlabelled_val()
    if not 0 <= arguments.frame < len(dataset):
        raise ConfigError(f"--frame must lie in 0..{len(dataset) - 1}; got {arguments.frame}.")
    prediction = model.predict(dataset[arguments.frame])
    for text in arguments.text:
        hits = prediction.query(text)
        _say(f"{text}: best of {len(hits)} occupied voxels, metres in the {prediction.grid.frame} frame")
        for score, (x, y, z) in zip(hits.top(arguments.top).score, hits.xyz.tolist(), strict=False):
            _say(f"  {float(score):6.3f}   x {x:7.2f}   y {y:7.2f}   z {z:6.2f}")


def _view(verbs: argparse._SubParsersAction) -> None:
    parser = _verb(
        verbs,
        "view",
        "open a local page where you type words and see the heat map",
        "  lexivox view runs/demo --port 8000",
    )
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("--port", type=int, default=0, help="port (default: any free one)")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine only)")
    parser.set_defaults(run=_run_view)


def _run_view(arguments: argparse.Namespace) -> None:
    from lexivox.experiment import load, open_run
    from lexivox.report import RunApp
    from lexivox.view.server import serve

    app = RunApp(open_run(arguments.run_dir), load(arguments.run_dir))
    serve(
        app,
        arguments.host,
        arguments.port,
        title=f"lexivox · {arguments.run_dir.name}",
        ready=lambda url: _say(f"open {url}   (Ctrl-C ends it)"),
    )


def _show(verbs: argparse._SubParsersAction) -> None:
    parser = _verb(
        verbs,
        "show",
        "print every option of a recipe or a run as YAML",
        "  lexivox show pop3d_tiny\n  lexivox show pop3d_tiny --set train.lr=1e-3 > run.yaml",
    )
    parser.add_argument("recipe", nargs="?", default=None, help="recipe, .yaml or run folder; none = list them")
    _add_set(parser)
    parser.set_defaults(run=_run_show)


def _run_show(arguments: argparse.Namespace) -> None:
    from lexivox.recipes import RECIPES

    if arguments.recipe is None:
        for name, recipe in RECIPES.items():
            _say(f"{name:16} {(recipe.__doc__ or '').strip().splitlines()[0]}")
        return
    folder = Path(arguments.recipe)
    recipe = str(folder / "config.yaml") if folder.is_dir() else arguments.recipe
    _say(_config(recipe, arguments.set).to_yaml().rstrip())


# -------------------------------------------------------------------------------------------------- output


def _print_scores(run_dir: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from lexivox.evaluate.report import ScoreTable
    from lexivox.report import HEADLINES, headline_scores

    scores = ScoreTable.from_json((run_dir / "scores.json").read_text())
    table = Table(title=scores.title)
    table.add_column("")
    for name, _, _ in HEADLINES:
        table.add_column(name, justify="right")
    for method, row in headline_scores(scores).items():
        table.add_row(method, *[f"{row[n]:.3f}" if n in row else "–" for n, _, _ in HEADLINES])
    Console().print(table)


def _print_files(made: Sequence[Path]) -> None:
    _say("made:")
    for path in made:
        _say(f"  {path}")
