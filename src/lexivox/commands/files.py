"""``evaluate`` of prediction files alone: no run, no model, any method."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lexivox.commands.shared import print_files, say
from lexivox.errors import ConfigError
from lexivox.files import write_atomically

if TYPE_CHECKING:
    from lexivox.evaluate.files.base import FileBenchmark, FileOptions

PROTOCOLS = (
    "occ3d", "rayiou", "raypq", "openoccupancy", "surroundocc", "semantickitti-ssc", "panoptic-nuscenes",
    "panoptic-semantickitti", "lidarseg-nuscenes", "lidarseg-semantickitti", "pop3d-occupancy", "pop3d-lidar",
    "pop3d-retrieval",
)  # fmt: skip


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``evaluate`` for files; they need ``--labels``."""
    group = parser.add_argument_group(
        "prediction files",
        f"With --labels, files in --predictions are scored by --protocol: {', '.join(PROTOCOLS)}.",
    )
    group.add_argument("--labels", type=Path, metavar="FOLDER", help="label files of the benchmark")
    group.add_argument("--allow-missing", action="store_true", help="score the predictions that are there")
    group.add_argument("--tokens", type=Path, metavar="FILE", help="score these samples: one in a line")
    group.add_argument("--split", metavar="NAME", help="score this split: val, mini_val, ...")
    group.add_argument(
        "--dataroot", type=Path, metavar="FOLDER", help="of nuScenes: its tables know splits and origins"
    )
    group.add_argument("--dataset-version", metavar="NAME", help="of the tables (default: the only one)")
    group.add_argument("--origins", type=Path, metavar="FILE", help="ray origins of RayIoU as JSON")
    group.add_argument("--ids", choices=("official", "merged"), default="official", help="segment ids of SemanticKITTI")
    group.add_argument("--min-points", type=int, metavar="N", help="of segments (default: the official number)")
    group.add_argument("--novel", default="", metavar="A,B", help="novel classes of a panoptic score, or a named split")
    group.add_argument("--label-version", default="", metavar="TEXT", help="what the labels are, for the report")
    group.add_argument("--per-class", action="store_true", help="print every class")
    group.add_argument("--json", type=Path, metavar="FILE", help="where to write (default: PREDICTIONS/scores.json)")


def run_files(arguments: argparse.Namespace) -> None:
    """Score, print one table for each protocol, write JSON."""
    from lexivox.evaluate.files.score import FILE_BENCHMARKS, joined, merge_parts, score_files, score_part
    from lexivox.evaluate.part import Part
    from lexivox.progress import progress_bars

    if arguments.run_dir is not None or arguments.predictions is None:
        raise ConfigError("labels must come with --predictions and without a run folder. Leave the run folder out.")
    names = arguments.protocol or ["none"]
    strange = [name for name in names if name not in FILE_BENCHMARKS]
    if strange:
        raise ConfigError(f"--protocol of files must be one of {', '.join(FILE_BENCHMARKS)}; got {strange[0]}.")
    part, scores = Part.parse(arguments.part), []
    for name in names:
        common = {
            "options": _options(arguments, name),
            "tokens": _tokens(arguments, FILE_BENCHMARKS[name]),
            "allow_missing": arguments.allow_missing,
        }
        where = (arguments.predictions, arguments.labels, name)
        if arguments.merge:
            scores.append(merge_parts(*where, **common, label_version=arguments.label_version))
        else:
            with progress_bars() as bars:
                common["on_progress"] = lambda done, total, name=name: bars(f"scoring {name}", done, total)
                if part.count > 1:
                    print_files([score_part(*where, part, **common)])
                    continue
                scores.append(score_files(*where, **common, label_version=arguments.label_version))
        say(scores[-1].to_text(per_class=arguments.per_class))
    if scores:
        path = arguments.json or arguments.predictions / "scores.json"
        print_files([write_atomically(path, lambda file: file.write(joined(scores).encode()))])


def _options(arguments: argparse.Namespace, name: str) -> FileOptions:
    from lexivox.data.benchmark_classes import NOVEL_CLASSES
    from lexivox.evaluate.files.base import FileOptions
    from lexivox.evaluate.files.origins import nuscenes_origins, read_origins

    origins = {}
    if name.startswith("ray"):
        if arguments.origins is not None:
            origins = read_origins(arguments.origins)
        elif arguments.dataroot is not None:
            origins = nuscenes_origins(arguments.dataroot, arguments.dataset_version, arguments.split)
    named = NOVEL_CLASSES.get(arguments.novel)
    novel = named or tuple(part.strip() for part in arguments.novel.split(",") if part.strip())
    return FileOptions(origins, arguments.ids, arguments.min_points, novel, arguments.split or "")


def _tokens(arguments: argparse.Namespace, kind: type[FileBenchmark]) -> list[str] | None:
    from lexivox.evaluate.files.splits import read_tokens, retrieval_tokens, split_tokens

    if arguments.tokens is not None:
        return list(read_tokens(arguments.tokens))
    if arguments.split is None:
        return None
    if kind.named_by == "list":
        return retrieval_tokens(arguments.labels, arguments.split)
    labels = kind.labels.find(arguments.labels, "labels")
    return list(split_tokens(kind, arguments.split, labels, arguments.dataroot, arguments.dataset_version))
