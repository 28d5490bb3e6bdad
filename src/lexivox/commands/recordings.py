"""Verbs about recordings, before any model: ``doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lexivox.commands.shared import new_verb, require_positive, say
from lexivox.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lexivox.data.doctor.report import DoctorReport

EXAMPLE = """\
  lexivox doctor nuscenes data/nuscenes                          files, sweeps, calibration, images, times
  lexivox doctor nuscenes data/nuscenes --occupancy gts          labels or predictions against their sweeps
  lexivox doctor volumes predictions                             volumes of any format, by themselves
  lexivox doctor volumes predictions --against gts               predictions against labels
exit status: 0 healthy (warnings may remain), 1 faults or wrong arguments"""


def add_doctor(verbs: argparse._SubParsersAction) -> None:
    summary = "what is wrong with a recording, with labels or predictions, and how to mend it"
    parser = new_verb(verbs, "doctor", summary, EXAMPLE)
    parser.add_argument("kind", help="nuscenes, pandaset or semantickitti; volumes: a folder of labels or predictions")
    parser.add_argument("root", type=Path, help="folder of the recording or of the volumes")
    parser.add_argument("--split", default=None, help="split or drive (default: everything)")
    parser.add_argument("--out", type=Path, default=Path("runs/doctor"), help="folder of the pictures")
    parser.add_argument("--samples", type=int, default=4, help="keyframes to look at (default: 4)")
    parser.add_argument("--labels", default=None, help="point labels, to check classes of volumes with")
    parser.add_argument(
        "--occupancy", type=Path, default=None, metavar="FOLDER", help="check these volumes of a recording too"
    )
    parser.add_argument(
        "--against", type=Path, default=None, metavar="FOLDER", help="right labels to compare volumes with"
    )
    parser.set_defaults(run=_run_doctor)


def _run_doctor(arguments: argparse.Namespace) -> None:
    require_positive("--samples", arguments.samples)
    report = _of_volumes(arguments) if arguments.kind == "volumes" else _of_recording(arguments)
    say(report.text())
    if not report.ok:
        raise DataError("what the doctor examines must be healthy; got the faults above. Mend them first.")


def _of_recording(arguments: argparse.Namespace) -> DoctorReport:
    from lexivox.data.datasets import open_dataset
    from lexivox.data.doctor.examine import diagnose
    from lexivox.data.doctor.folder import with_volumes

    if arguments.against is not None:
        raise ConfigError("--against must be given with the kind 'volumes'; got a recording. Use --occupancy FOLDER.")
    options = {"labels": arguments.labels} if arguments.labels else {}
    dataset = open_dataset(arguments.kind, arguments.root, arguments.split, **options)
    report = diagnose(dataset, arguments.out, arguments.samples)
    if arguments.occupancy is None:
        return report
    return with_volumes(report, dataset, arguments.occupancy, arguments.samples, arguments.out)


def _of_volumes(arguments: argparse.Namespace) -> DoctorReport:
    from lexivox.data.doctor.folder import diagnose_volumes

    for name in ("split", "labels", "occupancy"):
        if getattr(arguments, name) is not None:
            raise ConfigError(f"--{name} must be given with a recording; got it with 'volumes'. Leave it out.")
    return diagnose_volumes(arguments.root, arguments.against, arguments.samples, arguments.out)
