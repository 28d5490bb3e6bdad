"""Verbs about recordings, before any model: ``doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path

from lexivox.commands.shared import new_verb, require_positive, say


def add_doctor(verbs: argparse._SubParsersAction) -> None:
    parser = new_verb(
        verbs,
        "doctor",
        "check a recording: files, frames, times, and LiDAR painted onto the images",
        "  lexivox doctor nuscenes data/nuscenes\n  lexivox doctor pandaset data/pandaset --out runs/doctor\n"
        "  lexivox doctor nuscenes data/nuscenes --labels lidarseg --occupancy gts     axes, frame, origin of labels",
    )
    parser.add_argument("kind", help="nuscenes, pandaset or semantickitti")
    parser.add_argument("root", type=Path, help="folder of the recording")
    parser.add_argument("--split", default=None, help="split or drive (default: everything)")
    parser.add_argument("--out", type=Path, default=Path("runs/doctor"), help="folder of the pictures")
    parser.add_argument("--samples", type=int, default=4, help="keyframes to look at (default: 4)")
    parser.add_argument("--labels", default=None, help="point labels, to check classes of volumes with")
    parser.add_argument(
        "--occupancy", type=Path, default=None, metavar="FOLDER", help="check volumes FOLDER/**/TOKEN/labels.npz too"
    )
    parser.set_defaults(run=_run_doctor)


def _run_doctor(arguments: argparse.Namespace) -> None:
    from lexivox.data.datasets import open_dataset
    from lexivox.data.doctor.examine import diagnose, with_volumes
    from lexivox.errors import DataError

    require_positive("--samples", arguments.samples)
    options = {"labels": arguments.labels} if arguments.labels else {}
    dataset = open_dataset(arguments.kind, arguments.root, arguments.split, **options)
    report = diagnose(dataset, arguments.out, arguments.samples)
    if arguments.occupancy is not None:
        report = with_volumes(report, dataset, arguments.occupancy, arguments.samples)
    say(report.text())
    if not report.ok:
        raise DataError("a recording must pass every check; got the faults above. Mend them first.")
