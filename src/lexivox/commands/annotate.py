"""The verb ``annotate``: a page where boxes become points with a phrase, or one such box from a script."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lexivox.commands.shared import new_verb, say
from lexivox.errors import ConfigError

if TYPE_CHECKING:
    from lexivox.annotate.keyframe import Keyframe
    from lexivox.annotate.masks import PixelBox, Segmenter
    from lexivox.annotate.store import AnnotationStore

EXAMPLE = """\
  lexivox annotate data/nuscenes --out runs/benchmark --segmenter models/sam-vit-base
  lexivox annotate data/nuscenes --sample TOKEN --camera CAM_FRONT --box 610,420,700,520 --query "fire hydrant" """


def add_annotate(verbs: argparse._SubParsersAction) -> None:
    """``lexivox annotate DATA``."""
    parser = new_verb(verbs, "annotate", "draw boxes on images, get LiDAR points with a phrase: a benchmark", EXAMPLE)
    parser.add_argument("data", type=Path, help="folder of the recording")
    parser.add_argument("--kind", default=None, help="nuscenes or pandaset (default: what the folder looks like)")
    parser.add_argument("--only", default=None, help="a split or drive of the recording (default: everything)")
    parser.add_argument("--out", type=Path, default=Path("runs/annotations"), help="folder of the annotations")
    parser.add_argument("--segmenter", default=None, help="Segment Anything checkpoint (default: boxes are the masks)")
    parser.add_argument("--port", type=int, default=0, help="port of the page (default: any free one)")
    parser.add_argument("--host", default="127.0.0.1", help="address of the page (default: this machine only)")
    script = parser.add_argument_group("one annotation without the page")
    script.add_argument("--sample", default=None, metavar="TOKEN", help="keyframe")
    script.add_argument("--camera", default=None, help="camera of the box, e.g. CAM_FRONT")
    script.add_argument("--box", default=None, metavar="X0,Y0,X1,Y1", help="around the object, in pixels")
    script.add_argument("--mask", type=Path, default=None, help="a PNG of the image's size in place of a box")
    script.add_argument("--query", default=None, help="what the object is")
    script.add_argument("--split", default="val", choices=("train", "val", "test"), help="(default: val)")
    script.add_argument("--min-cluster-size", type=int, default=5, help="of HDBSCAN (default: 5)")
    script.add_argument("--reach", type=float, default=1.0, help="metres around the cluster kept too (default: 1)")
    script.add_argument("--keep-all", action="store_true", help="no clean-up: all points in the mask")
    parser.set_defaults(run=_run_annotate)


def _run_annotate(arguments: argparse.Namespace) -> None:
    from lexivox.annotate.masks import BoxSegmenter, PixelBox
    from lexivox.annotate.store import AnnotationStore
    from lexivox.data.datasets import kind_of, open_dataset

    box = None if arguments.box is None else PixelBox.parse(arguments.box)
    _check(arguments)
    kind = arguments.kind or kind_of(arguments.data)
    dataset, store = open_dataset(kind, arguments.data, arguments.only), AnnotationStore(arguments.out)
    if arguments.segmenter is None:
        segmenter = BoxSegmenter()
    else:
        from lexivox.annotate.sam import SamSegmenter

        segmenter = SamSegmenter(arguments.segmenter)
    if arguments.sample is not None:
        from lexivox.annotate.keyframe import find_keyframe

        return _annotate_once(arguments, find_keyframe(dataset, arguments.sample), store, segmenter, box)
    from lexivox.annotate.site import AnnotateSite
    from lexivox.view.local import LocalServer, serve_until_interrupted

    site = AnnotateSite(dataset, store, segmenter, f"{arguments.data.resolve().name} → {arguments.out}")
    server = LocalServer(site, arguments.host, arguments.port)
    say(f"{len(dataset)} keyframes; a box becomes a mask by: {segmenter.name}")
    serve_until_interrupted(server, lambda url: say(f"open {url}   (Ctrl-C ends it; every save is on disk)"))


def _check(arguments: argparse.Namespace) -> None:
    given = [name for name in ("camera", "box", "mask", "query") if getattr(arguments, name) is not None]
    if arguments.sample is None and given:
        raise ConfigError(f"--{given[0]} must come with --sample; got none. Leave it out to open the page.")
    if arguments.sample is not None and {"camera", "query"} - set(given):
        raise ConfigError("--sample must come with --camera and --query; got less. Give both.")
    if arguments.sample is not None and ("box" in given) == ("mask" in given):
        raise ConfigError("--sample must come with --box or --mask, not both; got both or none.")


def _annotate_once(
    arguments: argparse.Namespace,
    keyframe: Keyframe,
    store: AnnotationStore,
    segmenter: Segmenter,
    box: PixelBox | None,
) -> None:
    from lexivox.annotate.keyframe import segment
    from lexivox.annotate.masks import read_mask
    from lexivox.annotate.points import Clean

    if box is None:
        mask, made_by = read_mask(arguments.mask, keyframe.view(arguments.camera)[1].image_hw), arguments.mask.name
    else:
        mask, made_by = segment(keyframe, arguments.camera, box, segmenter), segmenter.name
    clean = Clean(not arguments.keep_all, arguments.min_cluster_size, arguments.reach)
    found = keyframe.propose(arguments.camera, mask, clean)
    annotation = keyframe.annotation(arguments.query, arguments.split, found.kept)
    store.put(annotation)
    say(f"{annotation.query}: {len(found.kept)} of the {len(found.index)} points in the mask ({made_by})")
    say(f"saved in {store.folder}, split {annotation.split}; look at it: lexivox annotate {arguments.data}")
