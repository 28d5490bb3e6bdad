"""The command line. Heavy modules are imported inside the verbs, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from lexivox.commands import annotate, ask, labels, recordings, runs, training, weights
from lexivox.commands.shared import complain, say
from lexivox.errors import LexivoxError

VERBS = (
    training.add_demo,
    recordings.add_doctor,
    labels.add_labels,
    annotate.add_annotate,
    training.add_targets,
    training.add_train,
    runs.add_evaluate,
    runs.add_predict,
    ask.add_calibrate,
    ask.add_query,
    runs.add_render,
    runs.add_view,
    weights.add_import_weights,
    training.add_show,
)
"""In the order of the help; each adds its parser, whose ``run`` does the work."""

EXAMPLES = """\
examples:
  lexivox demo                                       the whole job on a synthetic city, about 4 minutes
  lexivox doctor nuscenes data/nuscenes              is my recording read rightly? look at runs/doctor
  lexivox show pop3d_pandaset > run.yaml             every option of a recipe
  lexivox train run.yaml --out runs/mine             train, interrupt, run again: it goes on
  lexivox evaluate runs/mine                         scores on the held-out keyframes
  lexivox query runs/mine "automobile" "tall tree"   where is it, or is it not here?
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
        complain(f"lexivox {arguments.verb}: {error}")
        return 1
    except KeyboardInterrupt as interrupt:
        if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
            say(f"{str(interrupt) or 'stopped; what was done is kept'}. Run the same command to go on.")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to write goes nowhere
        return 0
    except OSError as error:
        reason = f"files must be readable and writable; got {error.strerror or error}"
        complain(f"lexivox {arguments.verb}: {reason}. Check: {error.filename}")
        return 1
    return 0


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
    for add in VERBS:
        add(verbs)
    return parser
