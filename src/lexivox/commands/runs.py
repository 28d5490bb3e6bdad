"""Verbs that use a trained run: ``evaluate``, ``predict``, ``query``, ``view``."""

from __future__ import annotations

import argparse
from pathlib import Path

from lexivox.commands.shared import new_verb, print_files, print_scores, require_positive, say
from lexivox.errors import ConfigError


def add_evaluate(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
        verbs,
        "evaluate",
        "score a run on its held-out keyframes and write its report",
        "  lexivox evaluate runs/mine --baselines",
    )
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("--baselines", action="store_true", help="add blank images and the training average")
    parser.add_argument("--cache", type=Path, default=None, help="folder of teacher features")
    parser.set_defaults(run=lambda arguments: evaluate_run(arguments.run_dir, arguments.cache, arguments.baselines))


def evaluate_run(run_dir: Path, cache: Path | None, baselines: bool) -> None:
    from lexivox.experiment import load, open_run
    from lexivox.progress import progress_bars
    from lexivox.report import Reporter

    experiment, model = open_run(run_dir, cache), load(run_dir)
    with progress_bars() as on_progress:
        scores = experiment.evaluate(model, baselines=baselines, on_progress=on_progress)
    made = Reporter(experiment, model, scores, list(experiment.config.queries)).write()
    print_scores(run_dir)
    print_files(made)


def add_predict(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
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

    require_positive("--refine", arguments.refine)
    experiment, model = open_run(arguments.run_dir), load(arguments.run_dir)
    out, dataset = arguments.out or arguments.run_dir / "predictions", experiment.unlabelled_val()
    with progress_bars() as on_progress:
        for index in range(len(dataset)):
            sample = dataset[index]
            model.predict(sample, refine=arguments.refine).save(out / f"{sample.token}.npz")
            on_progress("predicting", index + 1, len(dataset))
    say(f"{len(dataset)} maps lie in {out}")


def add_query(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
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

    require_positive("--top", arguments.top)
    experiment, model = open_run(arguments.run_dir), load(arguments.run_dir)
    dataset = experiment.unlabelled_val()
    if not 0 <= arguments.frame < len(dataset):
        raise ConfigError(f"--frame must lie in 0..{len(dataset) - 1}; got {arguments.frame}.")
    prediction = model.predict(dataset[arguments.frame])
    for text in arguments.text:
        hits = prediction.query(text)
        say(f"{text}: best of {len(hits)} occupied voxels, metres in the {prediction.grid.frame} frame")
        for score, (x, y, z) in zip(hits.top(arguments.top).score, hits.xyz.tolist(), strict=False):
            say(f"  {float(score):6.3f}   x {x:7.2f}   y {y:7.2f}   z {z:6.2f}")


def add_view(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
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
        ready=lambda url: say(f"open {url}   (Ctrl-C ends it)"),
    )
