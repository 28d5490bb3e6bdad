"""Verbs that use a trained run: ``evaluate``, ``predict``, ``render``, ``view``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lexivox.commands.files import add_file_options, run_files
from lexivox.commands.shared import new_verb, print_comparison, print_files, print_scores, require_positive, say
from lexivox.errors import ConfigError

if TYPE_CHECKING:
    from lexivox.scoring import EvaluateOptions


def add_evaluate(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
        verbs,
        "evaluate",
        "score a run on its held-out keyframes, or prediction files of any method against label files",
        "  lexivox evaluate runs/mine --baselines\n"
        "  lexivox evaluate runs/mine --protocol published --retrieval data/retrieval_benchmark\n"
        "  lexivox evaluate runs/mine --protocol occ3d --protocol depth    against complete voxels and the LiDAR\n"
        "  lexivox evaluate runs/mine --part 1/2    and at the same time --part 2/2, then --merge\n"
        "  lexivox evaluate --predictions maps --labels data/occ3d/gts --protocol occ3d",
    )
    parser.add_argument("run_dir", metavar="RUN", type=Path, nargs="?", help="run folder")
    parser.add_argument("--baselines", action="store_true", help="add blank images, the training average, ...")
    parser.add_argument("--cache", type=Path, default=None, help="folder of teacher features")
    parser.add_argument(
        "--protocol",
        action="append",
        default=[],
        metavar="NAME",
        help="of a run: recommended, published, published_baselines, occ3d, depth (default: what the run says); of "
        "files: occ3d, rayiou, ... see below; may be repeated",
    )
    parser.add_argument("--retrieval", type=Path, metavar="FOLDER", help="score the retrieval benchmark too")
    parser.add_argument("--predictions", type=Path, metavar="FOLDER", help="score these, not the model's own maps")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="only this share of the keyframes")
    parser.add_argument("--merge", action="store_true", help="add up the parts evaluated before")
    add_file_options(parser)
    parser.set_defaults(run=_run_evaluate)


def _run_evaluate(arguments: argparse.Namespace) -> None:
    if arguments.labels is not None:
        return run_files(arguments)
    if arguments.run_dir is None:
        raise ConfigError("evaluate must be given a run folder, or --predictions and --labels; got neither.")
    from lexivox.evaluate.evaluation import Part
    from lexivox.evaluate.protocol import protocol_named
    from lexivox.scoring import EvaluateOptions

    options = EvaluateOptions(
        baselines=arguments.baselines,
        protocols=tuple(protocol_named(name) for name in arguments.protocol),
        part=Part.parse(arguments.part),
        retrieval=arguments.retrieval,
        predictions=arguments.predictions,
    )
    evaluate_run(arguments.run_dir, arguments.cache, options, merge=arguments.merge)


def evaluate_run(run_dir: Path, cache: Path | None, options: EvaluateOptions, merge: bool = False) -> None:
    """Score a run, or one part of its keyframes, or add up parts; print tables and write the report."""
    from lexivox.experiment import open_run
    from lexivox.progress import progress_bars
    from lexivox.report import Reporter
    from lexivox.run_folder import load
    from lexivox.scoring import compare_run, count_run, keep_scores, merge_parts, part_file, write_comparison

    experiment, model = open_run(run_dir, cache), load(run_dir)
    if merge:
        evaluation = merge_parts(run_dir, experiment.val_dataset.classes)  # type: ignore[arg-type]
    else:
        with progress_bars() as on_progress:
            evaluation = count_run(experiment, model, options, on_progress)
    if not evaluation.is_whole:
        say(f"part {options.part.number} of {options.part.count} lies in {part_file(run_dir, options.part)}")
        return
    scores = keep_scores(experiment, evaluation)
    comparison = compare_run(experiment, scores)
    made = write_comparison(experiment, scores, comparison)
    if model.text_encoder is not None:
        experiment.calibrate(model)  # so that the report's answers know "not here"
    shown = comparison if comparison.has_ours else None  # nothing of the paper was scored: no page of "not run"
    report = Reporter(experiment, model, scores, list(experiment.config.queries), comparison=shown)
    print_scores(run_dir)
    if shown is not None:
        print_comparison(shown)
    print_files([*made, *report.write()])


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
    from lexivox.data.clips import WithPast
    from lexivox.experiment import open_run
    from lexivox.progress import progress_bars
    from lexivox.run_folder import load

    require_positive("--refine", arguments.refine)
    experiment, model = open_run(arguments.run_dir), load(arguments.run_dir)
    out, dataset = arguments.out or arguments.run_dir / "predictions", experiment.unlabelled_val()
    with_past = WithPast(dataset, model.image_offsets)
    with progress_bars() as on_progress:
        for index in range(len(dataset)):
            sample = dataset[index]
            model.predict(with_past(sample), refine=arguments.refine).save(out / f"{sample.token}.npz")
            on_progress("predicting", index + 1, len(dataset))
    say(f"{len(dataset)} maps lie in {out}")


def add_render(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
        verbs,
        "render",
        "pictures of a map through the eyes of the cameras, beside their images, and a film of a drive",
        "  lexivox render runs/demo --truth\n"
        "  lexivox render runs/demo --query automobile --video runs/demo/drive.webp",
    )
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("--frame", type=int, default=0, help="held-out keyframe by number (default: 0)")
    parser.add_argument(
        "--query", action="append", default=[], metavar="TEXT", help="show how well voxels fit this too"
    )
    parser.add_argument("--truth", action="store_true", help="the same of the truth, where labels tell it")
    parser.add_argument(
        "--video", type=Path, metavar="FILE", help="film of this keyframe's drive: .webp, .gif, .png, .mp4"
    )
    parser.add_argument("--out", type=Path, default=None, help="folder of the pictures (default: RUN/rendered)")
    parser.add_argument("--refine", type=int, default=1, help="cut voxels into this many pieces per axis")
    parser.set_defaults(run=_run_render)


def _run_render(arguments: argparse.Namespace) -> None:
    from lexivox.experiment import open_run
    from lexivox.progress import progress_bars
    from lexivox.run_folder import load
    from lexivox.scenes import drive_of, scene_maker
    from lexivox.view.picture import save_png
    from lexivox.view.rendered import DEPTH, rendered_sheet
    from lexivox.view.video import check_video, drive_frames, write_video

    require_positive("--refine", arguments.refine)
    if arguments.video:
        check_video(arguments.video)
    experiment, model = open_run(arguments.run_dir), load(arguments.run_dir)
    dataset = experiment.shown_val()
    if not 0 <= arguments.frame < len(dataset):
        raise ConfigError(f"--frame must lie in 0..{len(dataset) - 1}; got {arguments.frame}.")
    maker = scene_maker(experiment, dataset, model, arguments.query, arguments.refine)
    chosen = drive_of(dataset, arguments.frame) if arguments.video else [arguments.frame]
    scenes = []
    with progress_bars() as on_progress:
        for done, index in enumerate(chosen, 1):
            scenes.append(maker.scene(dataset[index]))
            on_progress("predicting", done, len(chosen))
    shown, out = scenes[chosen.index(arguments.frame)], arguments.out or arguments.run_dir / "rendered"
    sheet = rendered_sheet(shown, (DEPTH, "classes", *maker.queries))
    made = [save_png(sheet, out / f"keyframe_{arguments.frame}.png")]
    if arguments.truth:
        made.append(save_png(rendered_sheet(shown, truth=True), out / f"keyframe_{arguments.frame}_truth.png"))
    if arguments.video:
        layer = maker.queries[0] if maker.queries else None
        made.append(write_video(drive_frames(scenes, layer), arguments.video))
    print_files(made)


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
    from lexivox.experiment import open_run
    from lexivox.report import RunApp
    from lexivox.run_folder import load
    from lexivox.view.server import serve

    app = RunApp(open_run(arguments.run_dir), load(arguments.run_dir))
    serve(
        app,
        arguments.host,
        arguments.port,
        title=f"lexivox · {arguments.run_dir.name}",
        ready=lambda url: say(f"open {url}   (Ctrl-C ends it)"),
    )
