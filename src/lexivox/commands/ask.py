"""Verbs that ask in words: ``calibrate``, ``query``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lexivox.commands.shared import new_verb, print_files, require_positive, say
from lexivox.errors import ConfigError

if TYPE_CHECKING:
    from lexivox.grounding.answer import Answer
    from lexivox.grounding.export import Findings


def add_calibrate(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
        verbs,
        "calibrate",
        "measure what scores of queries mean, so that a run can answer 'not here'; needs no labels",
        "  lexivox calibrate runs/mine\n  lexivox calibrate runs/mine --absent things.txt --keyframes 64",
    )
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("--keyframes", type=int, default=32, help="held-out keyframes to ask (default: 32)")
    parser.add_argument(
        "--absent", type=Path, default=None, help="file: one thing a line that no recording of yours holds"
    )
    parser.set_defaults(run=_run_calibrate)


def _run_calibrate(arguments: argparse.Namespace) -> None:
    from lexivox.experiment import open_run
    from lexivox.grounding.absent import ABSENT_THINGS
    from lexivox.grounding.calibration import JSON_FILE
    from lexivox.progress import progress_bars
    from lexivox.run_folder import load

    require_positive("--keyframes", arguments.keyframes)
    absent = ABSENT_THINGS
    if arguments.absent is not None:
        lines = arguments.absent.read_text(encoding="utf-8").splitlines()
        absent = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    experiment = open_run(arguments.run_dir)
    with progress_bars() as on_progress:
        known = experiment.calibrate(
            load(arguments.run_dir), keyframes=arguments.keyframes, absent=absent, on_progress=on_progress
        )
    say(f"asked {len(absent)} absent things of {known.keyframes} keyframes; of such things pass a score above")
    for rate, threshold in known.thresholds().items():
        say(f"  {threshold:7.3f}   {100 * rate:2.0f} %")
    print_files([arguments.run_dir / JSON_FILE])


def add_query(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
        verbs,
        "query",
        "ask a run where something is, or whether it is there at all; commas separate phrasings",
        '  lexivox query runs/demo "automobile" "lamp post, street light" --frame 2\n'
        '  lexivox query runs/demo "car, not: truck" --regions --export hits.json',
    )
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("text", nargs="+", help="what to look for, e.g. 'car, van, not: truck'")
    parser.add_argument(
        "--not", dest="negatives", action="append", default=[], metavar="TEXT", help="what is not meant"
    )
    parser.add_argument("--rule", choices=("best", "mean"), default="best", help="how phrasings are joined")
    parser.add_argument(
        "--prompt", action="append", default=[], metavar="'a {} in snow.'", help="sentence around a phrase"
    )
    parser.add_argument("--false-alarms", type=float, default=0.05, help="rate accepted (default: 0.05)")
    parser.add_argument(
        "--above", type=float, default=None, help="voxels with a higher score count, whatever the rest says"
    )
    parser.add_argument("--regions", action="store_true", help="print things with boxes instead of voxels")
    parser.add_argument("--export", action="append", default=[], type=Path, help="write .json, .csv, .ply or .geojson")
    parser.add_argument("--images", type=Path, default=None, help="folder for the hits painted onto the camera images")
    parser.add_argument("--frame", type=int, default=0, help="held-out keyframe by number (default: 0)")
    parser.add_argument("--top", type=int, default=5, help="voxels or regions to print (default: 5)")
    parser.set_defaults(run=_run_query)


def _run_query(arguments: argparse.Namespace) -> None:
    from lexivox.data.clips import WithPast
    from lexivox.experiment import open_run
    from lexivox.grounding.export import find, write_hits
    from lexivox.run_folder import load

    require_positive("--top", arguments.top)
    experiment, model = open_run(arguments.run_dir), load(arguments.run_dir)
    dataset = experiment.unlabelled_val()
    if not 0 <= arguments.frame < len(dataset):
        raise ConfigError(f"--frame must lie in 0..{len(dataset) - 1}; got {arguments.frame}.")
    sample = dataset[arguments.frame]
    prediction = model.predict(WithPast(dataset, model.image_offsets)(sample))
    how = {"rule": arguments.rule, "prompts": arguments.prompt, "false_alarm_rate": arguments.false_alarms}
    answers = [prediction.query(text, arguments.negatives, **how) for text in arguments.text]
    if not (arguments.regions or arguments.export or arguments.images):
        for answer in answers:
            _print_voxels(answer, arguments.top)
        return
    found = find(prediction.token, answers, prediction.global_from_grid, arguments.above)
    _print_regions(found, arguments.top)
    made = [write_hits(path, found) for path in arguments.export]
    if arguments.images:
        from lexivox.report import paint_hits

        made += paint_hits(sample, prediction, found, arguments.images)
    if made:
        print_files(made)


def _print_voxels(answer: Answer, top: int) -> None:
    say(answer.sentence())
    say(f"  best of {len(answer)} occupied voxels by {answer.measure}, metres in the {answer.grid.frame} frame")
    best = answer.top(top)
    for score, (x, y, z) in zip(best.score.tolist(), best.xyz.tolist(), strict=True):
        say(f"  {score:6.3f}   x {x:7.2f}   y {y:7.2f}   z {z:6.2f}")


def _print_regions(found: Findings, top: int) -> None:
    for answer, regions in zip(found.answers, found.regions, strict=True):
        say(answer.sentence())
        if regions:
            say(
                f"  {len(regions)} regions; centre and length x width x height, metres in the {answer.grid.frame} frame"
            )
        for region in regions[:top]:
            (x, y, z), (length, width, height) = region.box.center, region.box.size_m
            size = f"{length:4.1f} x {width:4.1f} x {height:3.1f}"
            place = f"x {x:7.2f}   y {y:7.2f}   z {z:6.2f}"
            say(f"  {region.score:6.3f}   {place}   {size}   yaw {region.box.yaw_rad:5.2f}   {len(region):4d} voxels")
