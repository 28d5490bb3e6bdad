"""Do images, calibration and sweep belong together? If not: which fault, undone, makes them fit?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from lexivox.data.doctor.agreement import Agreement, agreement
from lexivox.data.doctor.edges import EdgeView
from lexivox.data.doctor.report import Finding, Findings
from lexivox.data.doctor.suspects import Suspects, gross, sizes, slight_sizes, swapped, turns
from lexivox.data.doctor.timing import MIN_SPEED_M_S, Motion, delays, top_speed_m_s, travels

Views = Sequence[EdgeView]

MIN_EDGES = 60
"""Fewer in the images of a camera, and nothing is said about it."""

FITS, FITS_ERRORS = 0.2, 3.0
"""From this agreement on, if it is that many standard errors above chance, no gross fault is looked for."""

MIN_AGREEMENT, MIN_ERRORS, MIN_RATIO, MIN_GAIN_ERRORS = 0.15, 3.5, 1.4, 2.5
"""A suspect is believed when without it views agree so well, by so many standard errors above chance, and better
than they do as they are: by this ratio and by so many standard errors of the difference."""

MIN_ERRORS_ALONE = 5.0
"""Standard errors above chance for a single camera and a suspect that is one of hundreds of steps of a search."""

MAX_SEARCHED = 8
"""Views on which sizes of images are searched; the best is then compared with other suspects on all."""

MIN_STRIPS = 5.0
"""Agreement on edges in fewer of the sixteen strips of the images is chance."""

TURNS_DEG = (-3.0, -2.5, -2.0, -1.5, -1.25, -1.0, -0.75, -0.5, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
SEEN_TRAVEL_M = 0.4
"""A delay shows when the car moves about so far meanwhile."""

CHANCE = 0.06
"""Agreement below which views that hold many edges do not fit at all."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """A suspect that was believed."""

    suspect: Suspects
    before: Agreement
    after: Agreement


def check_projection(views: Views, motion: Mapping[str, Motion], others: Iterable[Suspects] = ()) -> Findings:
    """What is wrong with the calibration and the images of some keyframes, all cameras together, then each.

    Args:
        views: of every camera of every keyframe.
        motion: of the car around the keyframes where neighbours tell it, by token.
        others: further suspects, looked at when the views do not fit.
    """
    num_outlines = sum({view.token: len(view.edges) for view in views}.values())
    if num_outlines < MIN_EDGES:
        if views:
            text = f"the sweeps hold only {num_outlines} outlines of things, too few to check the calibration"
            yield Finding("unsure", text)
        return
    given = agreement(views)
    culprit = investigate(views, motion, chain(_elsewhere(views, motion), others))
    if culprit is not None:
        yield _error("all cameras", culprit)
        yield Finding("unsure", "single cameras were not looked at: mend this first and run again")
        return
    alone = list(_each_camera(views, motion))
    if all(finding.fault is None for finding in alone):
        yield _overall(given)
    yield from alone
    yield from _when(motion)


def investigate(
    views: Views, motion: Mapping[str, Motion], others: Iterable[Suspects] = (), num_cameras: int = 1
) -> Culprit | None:
    """The fault that, undone, lets views agree clearly better; ``None`` where none does.

    Args:
        views: of one camera or of all.
        motion: of the car around the keyframes, by token.
        others: further suspects where views do not fit.
        num_cameras: of the rig; a single one of several needs more evidence.
    """
    given = agreement(views)
    suspects = [turns(TURNS_DEG), [slight_sizes()], delays(motion)]
    if not fits(given):
        size = _best(views[:MAX_SEARCHED], sizes(views[0]))
        suspects += [gross(), [size] if size is not None else (), others]
    best = _best(views, chain.from_iterable(suspects))
    if best is None:
        return None
    finer = best.finer(0)
    best = _best(views, [best] if finer is None else [best, finer]) or best
    after = agreement([best.undo(view) for view in views])
    is_alone = best.is_searched and len({view.camera for view in views}) < num_cameras
    errors = MIN_ERRORS_ALONE if is_alone else MIN_ERRORS
    return Culprit(best, given, after) if is_better(after, given, errors) else None


def fits(found: Agreement) -> bool:
    return bool(found.spread >= MIN_STRIPS and found.mean >= max(FITS, FITS_ERRORS * float(found.error)))


def is_better(after: Agreement, before: Agreement, errors: float = MIN_ERRORS) -> bool:
    """Well spread, clearly above chance, and clearly better than before."""
    if after.num_edges < MIN_EDGES or after.spread < MIN_STRIPS:
        return False
    if after.mean < max(MIN_AGREEMENT, errors * float(after.error)):
        return False
    if after.mean < MIN_RATIO * before.mean:
        return False
    return bool(before.spread < MIN_STRIPS) or after.gain_over(before)[1] >= MIN_GAIN_ERRORS


def _best(views: Views, suspects: Iterable[Suspects]) -> Suspects | None:
    """The one whose agreement is highest even if it is two standard errors too high."""
    best, best_score = None, 0.0
    for some in suspects:
        found = agreement([some.undo(view) for view in views])
        score = some.credit * (found.mean - 2 * found.error)
        score = torch.where((found.num_edges >= MIN_EDGES) & (found.spread >= MIN_STRIPS), score, 0.0).reshape(-1)
        k = int(score.argmax())
        if score[k] > best_score:
            best, best_score = (some.one(k) if found.mean.ndim else some), float(score[k])
    return best


def _elsewhere(views: Views, motion: Mapping[str, Motion]) -> Iterator[Suspects]:
    """Where no neighbour tells how the car moves, it may have been anywhere along its road."""
    if not any(view.token in motion for view in views):
        yield travels(views)


# -------------------------------------------------------------------------------------------------- findings


def _overall(given: Agreement) -> Finding:
    text = f"{int(given.num_edges)} outlines of the sweep lie on image edges, agreement {given.mean:.2f} (chance is 0)"
    if fits(given):
        return Finding("ok", text)
    if given.spread >= MIN_STRIPS and given.mean > max(CHANCE, FITS_ERRORS * float(given.error)):
        return Finding("unsure", f"{text}: too weak to say that all is right; look at the pictures")
    mend = "look at the pictures: another recording's images, or a calibration of another car?"
    return Finding("warning", f"{text}; no fault that is known explains it: {mend}", "misfit")


def _each_camera(views: Views, motion: Mapping[str, Motion]) -> Findings:
    """Faults of single cameras that do not fit; those of one fault and mend are told together."""
    names = dict.fromkeys(view.camera for view in views)
    if len(names) < 2:
        return
    guilty: dict[tuple[str, str], list[tuple[str, Culprit]]] = {}
    weak = []
    for name in names:
        own = [view for view in views if view.camera == name]
        if fits(agreement(own)):  # a few hundred edges fit still better somewhere beside, by chance
            continue
        culprit = investigate(own, motion, _exchanges(own, views), len(names))
        if culprit is not None:
            guilty.setdefault((culprit.suspect.fault, culprit.suspect.mend), []).append((name, culprit))
        else:
            weak.append(name)
    for found in guilty.values():
        yield _error(", ".join(name for name, _ in found), found[0][1])
    if weak:
        yield Finding("unsure", f"{', '.join(weak)}: too few outlines in these keyframes to judge each camera alone")


def _exchanges(own: Views, views: Views) -> Iterator[Suspects]:
    """The images of each other camera of the same keyframe in place of its own."""
    for name in dict.fromkeys(view.camera for view in views):
        if name != own[0].camera:
            other = {view.token: view for view in views if view.camera == name}
            mend = f"take the images that lie under {name}"
            yield Suspects("cameras-swapped", (mend,), lambda view, o=other: swapped(view, o.get(view.token, view)))


def _when(motion: Mapping[str, Motion]) -> Findings:
    """What can be told about time at all."""
    speed = top_speed_m_s(motion)
    if not motion:
        text = "how the car moves is unknown without keyframes closer than 1.5 s, so only metres of delay can be seen"
        yield Finding("unsure", text)
    elif speed < MIN_SPEED_M_S:
        text = f"whether images and sweep are of one moment cannot be told: the car stands still ({speed:.2f} m/s)"
        yield Finding("unsure", text)
    else:
        text = (
            f"at {speed:.1f} m/s delays between images and sweep show from about {SEEN_TRAVEL_M / speed * 1e3:.0f} ms"
        )
        yield Finding("ok", text)


def _error(who: str, culprit: Culprit) -> Finding:
    before, after, suspect = culprit.before, culprit.after, culprit.suspect
    text = (
        f"{who}: outlines of the sweep miss the image edges (agreement {before.mean:.2f}; 0 is chance) but would lie "
        f"on them ({after.mean:.2f}) if you {suspect.mend}"
    )
    return Finding("error", text, suspect.fault)
