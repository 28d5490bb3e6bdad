"""Verbs about weights that others trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lexivox.commands.shared import add_set, new_verb, read_recipe, say

if TYPE_CHECKING:
    from lexivox.weights.published import ImportReport


def add_import_weights(verbs: argparse._SubParsersAction) -> None:
    """``import-weights``: a released checkpoint becomes a run folder."""
    parser = new_verb(
        verbs,
        "import-weights",
        "make a run folder of released weights (POP-3D, TPVFormer, OccFlowNet), after checking every name and shape",
        "  lexivox import-weights pop3d_weights.pth --recipe pop3d --out runs/pop3d --text models/clip-b16\n"
        "  lexivox view runs/pop3d",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="checkpoint: .pth, .pt, .ckpt or .safetensors")
    parser.add_argument("--recipe", required=True, help="the model they belong to: a recipe's name or a .yaml")
    parser.add_argument("--out", type=Path, required=True, help="run folder to make")
    parser.add_argument("--text", default=None, help="CLIP folder or hub id for the words (default: the recipe's)")
    add_set(parser)
    parser.set_defaults(run=_run_import_weights)


def _run_import_weights(arguments: argparse.Namespace) -> None:
    from lexivox.experiment import Experiment

    experiment = Experiment(read_recipe(arguments.recipe, arguments.set), arguments.out)
    report = experiment.import_weights(arguments.file, _words(arguments.text))
    for line in _lines(report):
        say(line)
    say(f"run folder: {arguments.out}")


def _words(folder: str | None):
    if folder is None:
        return None
    from lexivox.teachers.prompts import clip_templates
    from lexivox.teachers.text import ClipTextEncoder

    return ClipTextEncoder(folder, clip_templates())


def _lines(report: ImportReport) -> list[str]:
    lines = [f"filled {report.num_arrays} arrays, {report.num_parameters:,} parameters; every name and shape fits"]
    if report.renamed:
        lines.append(f"read {len(report.renamed)} old names, e.g. {report.renamed[0]}")
    if report.dropped:
        lines.append(f"left out {len(report.dropped)} that the model computes itself: {', '.join(report.dropped)}")
    return lines
