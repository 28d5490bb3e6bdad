"""Verbs that use a trained run: ``evaluate``, ``predict``, ``view``."""

from __future__ import annotations

import argparse
from pathlib import Path

from lexivox.commands.shared import new_verb, print_files, print_scores, require_positive, say


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
        if model.text_encoder is not None:
            experiment.calibrate(model, on_progress=on_progress)  # so that answers in the report know "not here"
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
